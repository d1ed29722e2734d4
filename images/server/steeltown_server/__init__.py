"""The serving image: one immutable ONNX model per process, spoken to over the Open Inference Protocol v2.

A request passes four rooms, and each knows only the next: `http` turns bytes on a socket into a message,
`service` finds the endpoint, `request`/`response` are the protocol core (bytes and numpy arrays, no socket, so
that a second front end can stand beside HTTP), and `engine` runs the model, many requests at once where that is
safe. `router` stands between service and engine: while a rollout runs it hands the canary its share and lets the
live model answer whenever the canary does not. `counters` keeps what the rollout is judged by.

`lifecycle` is the order of things in time: verify, load, answer the golden rows, only then listen; on SIGTERM
drain. Everything that can be wrong with a model is found before the first user's request.
"""

__version__ = "0.2.0"
