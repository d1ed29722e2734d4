"""The suite of the Open Inference Protocol without its tests: the table, its models, and the server under test.

The tests are in tests/conformance, beside the scripts that run in the environments of the clients. `models`,
`divergence` and `environments` also run as commands, against a server that is not ours.
"""
