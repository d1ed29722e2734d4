"""Wires the floors together and gives them a process: settings, signals, logs, HTTP, and kopf as event feed.

kopf is a guest here. It runs in a thread and an event loop of its own, because when it ends it cancels every
task it finds in its loop, and a restart of the feed must not take workers and leadership with it.
"""
