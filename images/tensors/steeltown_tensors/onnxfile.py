"""The graph of an ONNX file, read from the file's bytes.

An ONNX file is one protobuf message, and what is asked of it here is little: which operators there are, what goes into
them, and small constants. So the wire format is read directly, and both images judge a model by the same code without
one more library in the server. Weights and trees are stepped over, never copied; attributes are read when they are
asked for. The bytes come from strangers: whatever is not such a message, or is larger than any graph that people
make, is a ValueError.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

MOST_FIELDS: Final = 1_000_000
"""Of a file, attributes left out: it bounds the time of reading."""

MOST_ATTRIBUTE_BYTES: Final = 1 << 16
"""Of an attribute that is a number, a list of axes or a text."""

MOST_VALUES: Final = 64
"""Constants with more elements are weights, and nothing depends on what they are."""

_INTEGERS: Final[Mapping[int, tuple[int, bool]]] = {
    2: (1, False), 3: (1, True), 4: (2, False), 5: (2, True), 6: (4, True), 7: (8, True), 9: (1, False),
    12: (4, False), 13: (8, False),
}  # fmt: skip
"""TensorProto.DataType -> bytes of an element, signed."""

Wire = int | memoryview


@dataclass(frozen=True, slots=True)
class Constant:
    """A tensor in the file. dims: None if unknown. values: its elements if they are few whole numbers."""

    dims: tuple[int, ...] | None = None
    values: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Value:
    """An input or output. dims: a size, a name, or None for an axis of any length; None where the rank is unknown."""

    name: str
    dims: tuple[int | str | None, ...] | None


@dataclass(frozen=True)
class Node:
    """attributes: encoded, by name. Those that rules read are short; ValueError for one that is not."""

    name: str
    op: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, memoryview]

    def integer(self, name: str, default: int) -> int:
        return next((_signed(v) for n, v in self._short(name) if n == 3 and isinstance(v, int)), default)

    def integers(self, name: str) -> tuple[int, ...] | None:
        """None where there is no such attribute."""
        if name not in self.attributes:
            return None
        return tuple(x for n, v in self._short(name) if n == 8 for x in _integers(v))

    def text(self, name: str) -> str:
        return next((text(v) for n, v in self._short(name) if n == 4), "")

    def texts(self, name: str) -> tuple[str, ...]:
        return tuple(text(v) for n, v in self._fields(name) if n == 9)

    def tensor(self, name: str) -> Constant | None:
        return next((_tensor(v)[1] for n, v in self._fields(name) if n == 5), None)

    @cached_property
    def has_body(self) -> bool:
        """Whether it runs a graph of its own (loops, branches)."""
        return any(n in (6, 11) for name in self.attributes for n, _ in self._fields(name))

    @cached_property
    def borrows(self) -> bool:
        """Whether an attribute is that of the function around it."""
        return any(n == 21 for name in self.attributes for n, _ in self._fields(name))

    def _short(self, name: str) -> Iterator[tuple[int, Wire]]:
        if len(self.attributes.get(name, b"")) > MOST_ATTRIBUTE_BYTES:
            raise ValueError(f"attribute {name!r} of operator {self.op!r} is longer than {MOST_ATTRIBUTE_BYTES} bytes")
        return self._fields(name)

    def _fields(self, name: str) -> Iterator[tuple[int, Wire]]:
        return fields(self.attributes[name]) if name in self.attributes else iter(())


@dataclass(frozen=True, slots=True)
class Function:
    """A function of the model's own, called like an operator."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    opsets: Mapping[str, int]


@dataclass(slots=True)
class Graph:
    """constants: by name. inputs: those that a request brings. opsets: version by domain, "" being ai.onnx.
    functions: by domain and name."""

    nodes: list[Node] = field(default_factory=list)
    inputs: list[Value] = field(default_factory=list)
    outputs: list[Value] = field(default_factory=list)
    constants: dict[str, Constant] = field(default_factory=dict)
    opsets: dict[str, int] = field(default_factory=dict)
    functions: dict[tuple[str, str], Function] = field(default_factory=dict)


def read_graph(file: bytes | memoryview) -> Graph:
    """ValueError if it is not an ONNX file, or has more fields than MOST_FIELDS."""
    graph = Graph()
    budget = [MOST_FIELDS]
    try:
        for number, value in fields(memoryview(file).cast("B"), budget):
            if number == 7:
                _read_body(message(value), graph, budget)
            elif number == 8:
                domain, version = _opset(message(value))
                graph.opsets[domain] = version
            elif number == 25:
                key, function = _function(message(value), budget)
                if key in graph.functions:
                    raise ValueError(f"it has two functions {key[1]!r} of domain {key[0]!r}")
                graph.functions[key] = function
    except (IndexError, UnicodeDecodeError) as error:
        raise ValueError(f"not an ONNX file: {error}") from None
    graph.inputs = [v for v in graph.inputs if v.name not in graph.constants]  # old files list weights as inputs
    return graph


def _read_body(encoded: memoryview, graph: Graph, budget: list[int]) -> None:
    for number, value in fields(encoded, budget):
        match number:
            case 1:
                graph.nodes.append(_node(message(value), budget))
            case 5:
                name, constant = _tensor(value, budget)
                graph.constants[name] = constant
            case 11:
                graph.inputs.append(_value(message(value)))
            case 12:
                graph.outputs.append(_value(message(value)))
            case 15:
                values = next((v for n, v in fields(message(value), budget) if n == 1), None)
                if values is not None:
                    graph.constants[_tensor(values, budget)[0]] = Constant()
            case _:
                pass


def _node(encoded: memoryview, budget: list[int]) -> Node:
    names: dict[int, str] = {}
    inputs: list[str] = []
    outputs: list[str] = []
    attributes: dict[str, memoryview] = {}
    for number, value in fields(encoded, budget):
        match number:
            case 1:
                inputs.append(text(value))
            case 2:
                outputs.append(text(value))
            case 3 | 4 | 7:
                names[number] = text(value)
            case 5:
                attribute = message(value)
                attributes[next((text(v) for n, v in fields(attribute) if n == 1), "")] = attribute
            case _:
                pass
    return Node(
        names.get(3, ""), names.get(4, ""), _domain(names.get(7, "")), tuple(inputs), tuple(outputs), attributes
    )


def _function(encoded: memoryview, budget: list[int]) -> tuple[tuple[str, str], Function]:
    name = domain = ""
    inputs: list[str] = []
    outputs: list[str] = []
    nodes: list[Node] = []
    opsets: dict[str, int] = {}
    for number, value in fields(encoded, budget):
        match number:
            case 1:
                name = text(value)
            case 4:
                inputs.append(text(value))
            case 5:
                outputs.append(text(value))
            case 7:
                nodes.append(_node(message(value), budget))
            case 9:
                imported, version = _opset(message(value))
                opsets[imported] = version
            case 10:
                domain = text(value)
            case _:
                pass
    return (_domain(domain), name), Function(tuple(inputs), tuple(outputs), tuple(nodes), opsets)


def _opset(encoded: memoryview) -> tuple[str, int]:
    domain, version = "", 0
    for number, value in fields(encoded):
        if number == 1:
            domain = text(value)
        elif number == 2 and isinstance(value, int):
            version = value
    return _domain(domain), version


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name


def _value(encoded: memoryview) -> Value:
    name = ""
    dims: tuple[int | str | None, ...] | None = None
    for number, value in fields(encoded):
        if number == 1:
            name = text(value)
        elif number == 2:
            for kind, tensor in fields(message(value)):
                if kind == 1:
                    for part, shape in fields(message(tensor)):
                        if part == 2:
                            dims = tuple(_dim(message(d)) for n, d in fields(message(shape)) if n == 1)
    return Value(name, dims)


def _dim(encoded: memoryview) -> int | str | None:
    for number, value in fields(encoded):
        if number == 1 and isinstance(value, int):
            size = _signed(value)
            return size if size >= 0 else None
        if number == 2:
            return text(value)
    return None


def _tensor(encoded: Wire, budget: list[int] | None = None) -> tuple[str, Constant]:
    """Name and content of a TensorProto."""
    name, kind = "", 0
    dims: list[int] = []
    content: list[memoryview | int] = []
    raw: memoryview | None = None
    for number, value in fields(message(encoded), budget):
        match number:
            case 1:
                dims += _integers(value)
                if len(dims) > MOST_VALUES:
                    raise ValueError(f"a tensor has more than {MOST_VALUES} dimensions")
            case 2 if isinstance(value, int):
                kind = value
            case 5 | 7 if len(content) <= MOST_VALUES and (isinstance(value, int) or len(value) <= 10 * MOST_VALUES):
                content.append(value)
            case 8:
                name = text(value)
            case 9:
                raw = message(value)
            case _:
                pass
    size = 1
    for length in dims:
        size *= length
    if kind not in _INTEGERS or not 0 <= size <= MOST_VALUES:
        return name, Constant(tuple(dims))
    if raw is not None:
        width, signed = _INTEGERS[kind]
        starts = range(0, len(raw), width) if len(raw) == size * width else ()
        values = [int.from_bytes(raw[i : i + width], "little", signed=signed) for i in starts]
    else:
        values = [x for v in content for x in _integers(v)]
    return name, Constant(tuple(dims), tuple(values) if len(values) == size else None)


def fields(encoded: memoryview, budget: list[int] | None = None) -> Iterator[tuple[int, Wire]]:
    """Field number and value: a whole number, or the bytes of anything longer. ValueError for what is no message."""
    at, end = 0, len(encoded)
    while at < end:
        if budget is not None:
            budget[0] -= 1
            if budget[0] < 0:
                raise ValueError(f"the graph has more than {MOST_FIELDS} fields")
        key, at = _varint(encoded, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(encoded, at)
            yield key >> 3, value
            continue
        if kind == 2:
            length, at = _varint(encoded, at)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError(f"not an ONNX file: wire type {kind}")
        if length > end - at:
            raise ValueError("not an ONNX file: it ends within a field")
        yield key >> 3, encoded[at : at + length]
        at += length


def _varint(encoded: memoryview, at: int) -> tuple[int, int]:
    """The number at `at`, and where it ends. IndexError behind the end."""
    value = shift = 0
    while True:
        byte = encoded[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
        shift += 7
        if shift > 63:
            raise ValueError("not an ONNX file: a number has more than ten bytes")


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _integers(value: Wire) -> list[int]:
    """Of a repeated field, packed or not."""
    if isinstance(value, int):
        return [_signed(value)]
    numbers: list[int] = []
    at = 0
    while at < len(value):
        number, at = _varint(value, at)
        numbers.append(_signed(number))
    return numbers


def message(value: Wire) -> memoryview:
    if isinstance(value, int):
        raise ValueError("not an ONNX file: a number where a message should be")
    return value


def text(value: Wire) -> str:
    return str(message(value), "utf-8")
