"""What is fuzzed, one module a border: `http` and `grpc` are the server's ports, `operator` what the operator parses.

Each module has `seeds()` and a target with `one_input(bytes)`. tests/fuzz drives them by coverage, the unit tests with
the seeds and with bent ones.
"""
