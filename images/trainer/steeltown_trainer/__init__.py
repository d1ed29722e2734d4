"""The built-in trainer: a table, a target and a task become an ONNX model, with no code from the user.

It follows the same file contract as any trainer image (`steeltown.contract.files`) and is nothing the
operator knows more about: files in, files out, an exit code, no network. It is deterministic: the same data,
parameters and seed give the same bytes.
"""

import os

# Threads that spin while they wait take the processor from those they wait for, as soon as a container has
# less of it than the node has cores. Read by OpenMP when it is loaded, hence here.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
