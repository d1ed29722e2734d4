"""The machine that turns events into reconciles: cache, queue, workers, leadership, repair.

It knows objects and keys but neither HTTP nor kopf: what it needs from the outside is written down as small
protocols in `ports`, so that the same worker runs against a real API server, and against a world in memory
in which a test crashes it at every single write. Nothing in memory is authoritative; all of it may be thrown
away at any moment, and is, whenever the process restarts.
"""
