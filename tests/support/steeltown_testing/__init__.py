"""What the tests stand on, in one package: tests/support is the only folder of theirs on the import path.

`explore` is the world in memory; `structs`, `standings` and `training_worlds` are its moments as plain structs, for
tables of rules. `environment`, `kubectl`, `installation`, `acting`, `traffic` and the like reach a real cluster.
`conformance` is the suite of the protocol without its tests, `fuzzing` what is fuzzed. This file imports nothing, so
that who needs one module pays for no other: the demo and the examples stand on it too.
"""
