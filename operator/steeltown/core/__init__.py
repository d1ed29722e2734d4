"""Decisions, and nothing but decisions: no I/O, no clock, no client library.

Everything here is a function of its arguments; time arrives as `now`, the cluster as a `Snapshot`.
"""
