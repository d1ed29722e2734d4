"""Wires the floors together and gives them a process: settings, signals, logs, HTTP, and kopf as event feed."""
