"""Whether a model's graph keeps rows apart: only then may rows of different clients share a run.

The batch is followed through the graph, from the first axis of every input to the first axis of every output. What is
known of a tensor is a Fact: which axis is the batch, and what the other axes are like. Every operator that may meet
the batch has a rule (`operators`) that says where the batch is afterwards; one that reduces, normalises, sorts or
scales over the batch, draws numbers, loops, or that nobody has written a rule for, ends the question: in doubt a
request runs alone. So a verdict can be wrong only by costing speed. Rows that pass are still tried
(`independence`), for a rule may be wrong and a library may have faults.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from .facts import Doubt, Fact, of_constant
from .onnxfile import Constant, Graph, Node, read_graph
from .operators import RANDOM, judged

STANDARD_DOMAINS: Final = ("", "ai.onnx.ml", "com.microsoft")
"""What ONNX Runtime has operators of; whether it takes them, or functions of the same name, is not followed."""

MOST_DEPTH: Final = 8
"""Of functions that call functions."""

MOST_CALLS: Final = 100_000
"""Operators that are judged; functions that call functions could be many more than the file's."""


@dataclass(frozen=True, slots=True)
class Mixing:
    """Where rows meet, or may meet. node: its name, or that of its first output."""

    node: str
    op: str
    why: str

    def __str__(self) -> str:
        return f"operator {self.op} ({self.node!r}) {self.why}" if self.op else f"{self.node}: {self.why}"


def mixing(file: bytes | memoryview) -> Mixing | None:
    """The first place of an ONNX file in which rows meet or may meet; None if the graph keeps them apart."""
    try:
        graph = read_graph(file)
        return _Judge(graph).verdict()
    except (ValueError, IndexError) as error:
        return Mixing("the model's graph", "", f"cannot be judged: {error}")


def drawing(file: bytes | memoryview) -> Mixing | None:
    """An operator of an ONNX file that draws random numbers, whatever else is to be said of the graph."""
    try:
        graph = read_graph(file)
    except ValueError:
        return None
    bodies = [graph.nodes, *(function.nodes for function in graph.functions.values())]
    for node in (n for nodes in bodies for n in nodes if n.domain == ""):
        if node.op in RANDOM:
            return Mixing(_name(node), node.op, "draws random numbers")
        training = node.inputs[2] if node.op == "Dropout" and len(node.inputs) > 2 else ""
        if training and graph.constants.get(training, Constant()).values not in ((0,), None):
            return Mixing(_name(node), node.op, "is in training mode: it drops values at random")
    return None


class _Judge:
    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._calls = 0
        self._variable = any(d is None or isinstance(d, str) for v in graph.inputs for d in (v.dims or ())[1:])

    def verdict(self) -> Mixing | None:
        facts: dict[str, Fact] = {name: of_constant(c) for name, c in self._graph.constants.items()}
        for value in self._graph.inputs:
            if not value.dims or isinstance(value.dims[0], int):
                return Mixing(f"input {value.name!r}", "", "its first axis is not of variable size, so it is no batch")
            dims = tuple(d if isinstance(d, int) else None for d in value.dims)
            facts[value.name] = Fact(dims, rows=0)
        found = self._run(self._graph.nodes, facts, self._graph.opsets, depth=0)
        if found:
            return found
        for value in self._graph.outputs:
            fact = facts.get(value.name)
            if fact is None or fact.rows != 0:
                return Mixing(f"output {value.name!r}", "", "it has not one row for each row of the inputs")
            if fact.pad is not None:
                return Mixing(f"output {value.name!r}", "", "it is as wide as the longest row needs")
        return None

    def _run(
        self, nodes: Sequence[Node], facts: dict[str, Fact], opsets: Mapping[str, int], *, depth: int
    ) -> Mixing | None:
        """Judges nodes in their order, which ONNX demands to be that of their dependence."""
        for node in nodes:
            self._calls += 1
            if self._calls > MOST_CALLS:
                raise ValueError(f"it has more than {MOST_CALLS} operators")
            function = self._graph.functions.get((node.domain, node.op))
            if function is not None:
                if node.domain in STANDARD_DOMAINS:
                    return Mixing(_name(node), node.op, "is both an operator and a function of the model's own")
                if depth == MOST_DEPTH:
                    raise ValueError(f"its functions call each other {MOST_DEPTH} deep")
                given = zip(function.inputs, node.inputs, strict=False)
                inner = {mine: facts[theirs] for mine, theirs in given if theirs in facts}
                found = self._run(function.nodes, inner, function.opsets, depth=depth + 1)
                if found:
                    return found
                for theirs, mine in zip(node.outputs, function.outputs, strict=False):
                    if mine in inner:
                        facts[theirs] = inner[mine]
                continue
            try:
                if depth and node.borrows:
                    raise Doubt("has an attribute of the function around it, which is not followed")
                self._step(node, facts, opsets.get(node.domain, 0))
            except Doubt as doubt:
                return Mixing(_name(node), node.op, str(doubt))
        return None

    def _step(self, node: Node, facts: dict[str, Fact], opset: int) -> None:
        inputs = [facts.get(name) if name else None for name in node.inputs]
        if any(name and name not in facts for name in node.inputs):
            raise Doubt("has an input that nothing in front of it makes")
        made = judged(node, inputs, opset, variable=self._variable)
        for name, fact in zip(node.outputs, made, strict=False):
            if name:
                facts[name] = fact


def _name(node: Node) -> str:
    return (node.name or next((o for o in node.outputs if o), ""))[:200]
