"""Calculating with shapes: small whole numbers that are known before a model runs, or known to be the number of rows.

Exporters write reshapes that keep the batch as arithmetic on the shape of an input. It is followed as far as a multiple
of the number of rows comes out; a graph that calculates anything else with that number answers by how many ask.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from .facts import LARGE, ROWS, Call, Doubt, Entry, Fact, Size, of_constant
from .onnxfile import Node


def of_shapes(call: Call) -> Sequence[Fact] | None:
    """Small whole numbers that are known, or known to be the number of rows; None if it is not about these."""
    op = call.node.op if call.node.domain == "" else ""
    if op == "Constant":
        return [_constant(call.node)]
    if op == "Shape":
        if call.data.pad is not None:
            raise Doubt("reads how wide the longest row of the batch is")
        entries: list[Entry] = list(call.data.dims or ())
        _ = call.data.rank
        if call.data.rows is not None:
            entries[call.data.rows] = ROWS
        start, end = call.node.integer("start", 0), call.node.integer("end", LARGE)
        return [_vector(entries[start:end])]
    if op == "Size" and call.data.batched:
        return [_scalar(ROWS)]
    if op not in _SHAPE_RULES or any(f is not None and (f.batched or f.values is None) for f in call.inputs):
        return None
    made = _SHAPE_RULES[op](call)
    return None if made is None else [made]


def _constant(node: Node) -> Fact:
    tensor = node.tensor("value")
    if tensor is not None:
        return of_constant(tensor)
    if "value_int" in node.attributes:
        return _scalar(node.integer("value_int", 0))
    numbers = node.integers("value_ints")
    if numbers is not None:
        return _vector(numbers)
    return Fact(() if "value_float" in node.attributes or "value_string" in node.attributes else None)


def _vector(entries: Sequence[Entry]) -> Fact:
    return Fact((len(entries),), values=tuple(entries), counted=ROWS in entries)


def _scalar(entry: Entry) -> Fact:
    return Fact((), values=(entry,), counted=entry is ROWS)


def _alike(call: Call, entries: Sequence[Entry]) -> Fact:
    """Scalar if all inputs are."""
    return _vector(entries) if any(f and f.dims for f in call.inputs) else _scalar(entries[0])


def _entries(call: Call, index: int = 0) -> tuple[Entry, ...]:
    values = call.at(index).values
    assert values is not None
    return values


def _shape_gather(call: Call) -> Fact | None:
    entries, chosen = _entries(call), _entries(call, 1)
    if call.data.dims == () or not all(isinstance(i, int) and -len(entries) <= i < len(entries) for i in chosen):
        return None
    picked = [entries[i] for i in chosen if isinstance(i, int)]
    return _vector(picked) if call.at(1).dims else _scalar(picked[0])


def _shape_slice(call: Call) -> Fact | None:
    if call.data.dims == ():
        return None
    starts, ends = call.numbers(1, "starts"), call.numbers(2, "ends")
    steps = call.numbers(4, "steps") or (1,)
    if not starts or not ends or len(starts) > 1 or steps[0] == 0:
        return None
    return _vector(_entries(call)[starts[0] : ends[0] : steps[0]])


def _shape_concat(call: Call) -> Fact | None:
    return _vector([e for i in range(len(call.inputs)) for e in _entries(call, i)])


def _shape_reshaped(call: Call) -> Fact | None:
    """Unsqueeze, Squeeze, Reshape of at most one axis."""
    entries = _entries(call)
    scalar = len(entries) == 1 and (
        (call.node.op == "Squeeze" and bool(call.data.dims)) or (call.node.op == "Reshape" and not _entries(call, 1))
    )
    if call.node.op == "Unsqueeze" and call.data.dims != ():
        return None
    if call.node.op == "Reshape" and len(_entries(call, 1)) > 1:
        return None
    return _scalar(entries[0]) if scalar else _vector(entries)


def _shape_arithmetic(call: Call) -> Fact | None:
    a, b = _entries(call), _entries(call, 1)
    size = max(len(a), len(b))
    if len(a) not in (1, size) or len(b) not in (1, size):
        return None
    pairs = [(a[i % len(a)], b[i % len(b)]) for i in range(size)]
    entries = [_calculated(call.node.op, x, y) for x, y in pairs]
    return _alike(call, entries)


def _calculated(op: str, a: Entry, b: Entry) -> Entry:
    """Doubt where the number of rows is in it and no multiple of it comes out."""
    if isinstance(a, Size) or isinstance(b, Size):
        return _with_rows(op, a, b)
    if a is None or b is None or abs(a) > LARGE or abs(b) > LARGE:
        return None
    match op:
        case "Add":
            return a + b
        case "Sub":
            return a - b
        case "Mul":
            return a * b
        case "Div":
            return None if b == 0 else abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
        case _:
            return int(a == b)


def _with_rows(op: str, a: Entry, b: Entry) -> Entry:
    other = b if isinstance(a, Size) else a
    if op == "Equal" and isinstance(other, int) and other < 0:
        return 0
    if op == "Mul" and not (isinstance(a, Size) and isinstance(b, Size)) and other != 0:
        return ROWS
    if op == "Div" and isinstance(a, Size) and b == 1:
        return ROWS
    if op in ("Add", "Sub") and isinstance(a, Size) and b == 0:
        return ROWS
    raise Doubt("calculates with the number of rows")


def _shape_where(call: Call) -> Fact | None:
    condition, a, b = (_entries(call, i) for i in range(3))
    size = max(len(condition), len(a), len(b))
    if any(len(x) not in (1, size) for x in (condition, a, b)):
        return None
    entries: list[Entry] = []
    for i in range(size):
        chosen = condition[i % len(condition)]
        yes, no = a[i % len(a)], b[i % len(b)]
        if not isinstance(chosen, int) and ROWS in (yes, no):
            return None
        entries.append(None if not isinstance(chosen, int) else yes if chosen else no)
    return _alike(call, entries)


def _shape_cast(call: Call) -> Fact | None:
    return call.data if call.node.integer("to", 0) in (6, 7) else None  # INT32, INT64: no other divides alike


def _shape_product(call: Call) -> Fact | None:
    product: Entry = 1
    for entry in _entries(call):
        product = _calculated("Mul", product, entry)
    return _vector([product]) if call.node.integer("keepdims", 1) else _scalar(product)


def _shape_filled(call: Call) -> Fact | None:
    """ConstantOfShape of a length, the idiom around Expand; anything else is a tensor like others."""
    entries = _entries(call)
    value = call.node.tensor("value")
    if len(entries) != 1 or not isinstance(entries[0], int) or entries[0] > 64 or value is None or not value.values:
        return None
    return _vector(value.values * entries[0])


_SHAPE_RULES: Final[dict[str, Callable[[Call], Fact | None]]] = {
    "Gather": _shape_gather,
    "Slice": _shape_slice,
    "Concat": _shape_concat,
    **dict.fromkeys(("Unsqueeze", "Squeeze", "Reshape"), _shape_reshaped),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Equal"), _shape_arithmetic),
    "Identity": lambda call: call.data,
    "Cast": _shape_cast,
    "Where": _shape_where,
    "ReduceProd": _shape_product,
    "ConstantOfShape": _shape_filled,
}
