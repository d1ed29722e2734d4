"""Steeltown: an operator that takes machine-learning models from experiment to production on evidence.

Four floors, imports only run downwards: `app` > `runtime`, `kube` > `core` > `api`, `contract`.
"""

__version__ = "0.2.0"
