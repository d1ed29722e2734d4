"""What crosses a process border: files, environment names, exit codes, reports, evidence.

The operator and the containers it starts run from different images and meet only here, so every shape
that one writes and another reads is written once, in this package. It uses the standard library alone
and is copied into each image at build time.
"""
