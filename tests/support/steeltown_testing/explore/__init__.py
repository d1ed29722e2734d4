"""A small in-memory cluster to explore schedules faster than reality.

It holds objects, bumps resourceVersions, runs the few controllers that matter (Deployment, Job, kubelet,
garbage collector) and sends traffic to the servers; the operator's own reconciler and planners run on it
unchanged. It is kept honest by running a sample of its schedules on a real API server.
"""
