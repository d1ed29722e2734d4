"""Where the batch is after an operator: a table of rules, one for each operator that keeps rows apart.

A rule gets what is known of the operator's inputs and says what is known of its outputs, or raises Doubt with the
reason why rows may meet. It is asked only about inputs that its row of the table lets carry the batch; others
must be the same for all rows. To let a further operator be batched, write its rule, and its row in the table of tests.

Rules follow the ONNX operator specification (onnx.ai, "Operator Schemas") and ONNX Runtime's "Contrib Operators".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from .facts import LARGE, NOWHERE, ROWS, Call, Doubt, Entry, Fact, Random, axis_of
from .onnxfile import MOST_VALUES, Node
from .shapes import of_shapes

ML: Final = "ai.onnx.ml"
MICROSOFT: Final = "com.microsoft"
MOST_RANK: Final = 32
LARGEST: Final = 1 << 62
OLDEST_OPSET: Final = 7
"""ONNX Runtime's own limit; before it Dropout and broadcasting meant something else."""

Rule = Callable[[Call], Sequence[Fact]]


def judged(node: Node, inputs: Sequence[Fact | None], opset: int, *, variable: bool) -> Sequence[Fact]:
    """Facts about the outputs. Doubt says why rows may meet."""
    if node.domain == "" and opset < OLDEST_OPSET:
        raise Doubt(f"is of operator set {opset}, and rules begin at {OLDEST_OPSET}")
    if node.domain == "" and node.op in RANDOM:
        raise Random("draws random numbers: a request is answered differently each time")
    call = Call(node, inputs, opset, variable)
    made = of_shapes(call)
    return [_bounded(fact) for fact in (made if made is not None else _ruled(call))]


def _bounded(fact: Fact) -> Fact:
    """A graph may double a length in each of its nodes: what no tensor can have is not known."""
    if fact.dims is not None and len(fact.dims) > MOST_RANK:
        raise Doubt(f"makes a tensor of more than {MOST_RANK} axes")
    if fact.values is not None and len(fact.values) > MOST_VALUES:
        if fact.counted:
            raise Doubt("calculates with the number of rows")
        return replace(fact, values=None)
    if fact.dims is not None and any(d is not None and d > LARGEST for d in fact.dims):
        return replace(fact, dims=tuple(d if d is None or d <= LARGEST else None for d in fact.dims))
    return fact


def _ruled(call: Call) -> Sequence[Fact]:
    node, inputs = call.node, call.inputs
    rule, carriers = _RULES.get((node.domain, node.op), (None, None))
    if rule is None and node.has_body:
        raise Doubt("runs a graph of its own, in which rows may meet")
    moves = [i for i, fact in enumerate(inputs) if fact is not None and fact.batched]
    _require_uncounted(call)
    if not moves and not any(f is not None and f.counted for f in inputs):
        return _of_constants(call, rule)
    if rule is None:
        raise Doubt(_KNOWN_MIXERS.get(node.op, "is not known to keep rows apart"))
    if carriers is not None and (strange := [i for i in moves if i not in carriers]):
        raise Doubt(f"takes its input {strange[0]}, which is one for all rows, from the rows")
    if node.op not in _TAKES_PADDING and any(f is not None and f.pad is not None for f in inputs):
        raise Doubt("reads texts that are padded to the longest row of the batch")
    return rule(call)


def _require_uncounted(call: Call) -> None:
    for i, fact in enumerate(call.inputs):
        if fact is not None and fact.counted and (call.node.op, i) not in _SHAPE_INPUTS:
            raise Doubt("calculates with the number of rows")


def _of_constants(call: Call, rule: Rule | None) -> Sequence[Fact]:
    """What is the same for all rows stays so, whatever the operator."""
    unknown = [Fact(None) for _ in call.node.outputs]
    if rule is None:
        return unknown
    try:
        made = list(rule(call))
    except Random:
        raise
    except Doubt:
        return unknown
    return [replace(f, rows=None) for f in made] + unknown[len(made) :]


_SHAPE_INPUTS: Final = {("Reshape", 1), ("Expand", 1), ("ConstantOfShape", 0), ("Tile", 1), ("Resize", 3)}


# -- element by element


def _each(call: Call) -> Sequence[Fact]:
    """One input, and settings that are one number for all."""
    for other in call.inputs[1:]:
        if other is not None and other.dims not in ((), (1,)):
            raise Doubt("has a setting that is not one number")
    return [replace(call.data, values=None)] * len(call.node.outputs)


def _dropout(call: Call) -> Sequence[Fact]:
    training = call.get(2)
    if training is not None and training.values != (0,):
        raise Random("is in training mode: it drops values at random")
    return [replace(call.data, values=None)] * 2


def _broadcast(call: Call) -> Sequence[Fact]:
    facts = [f for f in call.inputs if f is not None]
    rank = max(f.rank for f in facts)
    axes = {f.rows + rank - f.rank for f in facts if f.rows is not None}
    if len(axes) > 1:
        raise Doubt("lays the rows of one input across the rows of another")
    rows = next(iter(axes), None)
    dims: list[int | None] = []
    for axis in range(rank):
        met = [f.dims[axis - rank + f.rank] for f in facts if f.dims is not None and axis >= rank - f.rank]
        if axis == rows:
            plain = [f for f in facts if not f.batched and axis >= rank - f.rank]
            if any(f.dims is None or f.dims[axis - rank + f.rank] != 1 for f in plain):
                raise Doubt("holds rows against a constant that is as long as some number of rows")
            dims.append(None)
        elif None in met:
            dims.append(next((d for d in met if d is not None and d > 1), None))
        else:
            dims.append(max(d for d in met if d is not None))
    return [Fact(tuple(dims), rows)]


def _quantise(call: Call) -> Sequence[Fact]:
    """QuantizeLinear and DequantizeLinear: one scale for all, or one for each place of an axis."""
    scale = call.at(1)
    if scale.rank > 1 or (scale.dims not in ((), (1,)) and call.axis(1) == call.data.rows):
        raise Doubt("has scales that go along the rows")
    return [replace(call.data, values=None)]


# -- along one axis or some


def _along(default: int) -> Rule:
    """The shape stays, and numbers meet along the attribute `axis`."""

    def rule(call: Call) -> Sequence[Fact]:
        if call.axis(default) == call.rows:
            raise Doubt("works along the rows")
        return [replace(call.data, values=None)]

    return rule


def _softmax(call: Call) -> Sequence[Fact]:
    """Before version 13 all axes from `axis` on are one."""
    axis = call.axis(-1 if call.opset >= 13 else 1)
    if call.rows == axis or (call.opset < 13 and call.rows > axis):
        raise Doubt("normalises over the rows")
    return [replace(call.data, values=None)]


def _normalised_from(call: Call) -> Sequence[Fact]:
    """LayerNormalization and its kin: all axes from `axis` on meet."""
    if call.rows >= call.axis(-1):
        raise Doubt("normalises over the rows")
    for other in call.inputs[1:]:
        if other is not None and other.rank > call.data.rank - 1 - call.rows and not _broadcasts(other, call.data):
            raise Doubt("holds rows against a constant that is as long as some number of rows")
    return [replace(call.data, values=None)]  # mean and deviation are not followed


def _broadcasts(other: Fact, data: Fact) -> bool:
    """Whether `other` is one for all rows of `data`."""
    at = (data.rows or 0) - data.rank + other.rank
    return not other.batched and other.dims is not None and (at < 0 or other.dims[at] == 1)


def _reduce(call: Call) -> Sequence[Fact]:
    axes = call.numbers(1, "axes")
    rank = call.data.rank
    if not axes:
        if call.node.integer("noop_with_empty_axes", 0):
            return [replace(call.data, values=None)]
        raise Doubt("reduces over all axes, and so over the rows")
    return [_reduced(call, {axis_of(a, rank) for a in axes})]


def _reduced(call: Call, axes: set[int]) -> Fact:
    if call.rows in axes:
        raise Doubt("reduces over the rows")
    dims = call.data.dims or ()
    if call.node.integer("keepdims", 1):
        return Fact(tuple(1 if i in axes else d for i, d in enumerate(dims)), call.rows)
    kept = [i for i in range(len(dims)) if i not in axes]
    return Fact(tuple(dims[i] for i in kept), _place(kept, call.rows))


def _argmax(call: Call) -> Sequence[Fact]:
    return [_reduced(call, {call.axis(0)})]


def _cumulative(call: Call) -> Sequence[Fact]:
    axes = call.numbers(1, "axis")
    if not axes or axis_of(axes[0], call.data.rank) == call.rows:
        raise Doubt("accumulates over the rows")
    return [replace(call.data, values=None)]


def _top(call: Call) -> Sequence[Fact]:
    axis = call.axis(-1)
    if axis == call.rows:
        raise Doubt("sorts the rows")
    count = (call.at(1).values or (None,))[0]
    dims = list(call.data.dims or ())
    dims[axis] = count if isinstance(count, int) else None
    return [Fact(tuple(dims), call.rows)] * 2


def _concat(call: Call) -> Sequence[Fact]:
    facts = [f for f in call.inputs if f is not None]
    if len({f.rows for f in facts}) > 1 or len({f.rank for f in facts}) > 1:
        raise Doubt("puts rows beside what has none, or along another axis")
    axis = call.axis(0)
    if axis == call.rows:
        raise Doubt("puts rows behind other rows")
    lengths = [f.dims[axis] for f in facts if f.dims is not None]
    dims = list(facts[0].dims or ())
    dims[axis] = None if None in lengths else sum(n for n in lengths if n is not None)
    return [Fact(tuple(dims), call.rows)]


def _split(call: Call) -> Sequence[Fact]:
    axis = call.axis(0)
    if axis == call.rows:
        raise Doubt("parts the rows")
    dims = list(call.data.dims or ())
    dims[axis] = None
    return [Fact(tuple(dims), call.rows)] * len(call.node.outputs)


def _slice(call: Call) -> Sequence[Fact]:
    starts, ends = call.numbers(1, "starts") or (), call.numbers(2, "ends") or ()
    axes = call.numbers(3, "axes") or tuple(range(len(starts)))
    steps = call.numbers(4, "steps") or (1,) * len(starts)
    dims = list(call.data.dims or ())
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=False):
        at = axis_of(axis, call.data.rank)
        if at == call.rows:
            if (start, step) != (0, 1) or end < LARGE - 1:
                raise Doubt("takes some of the rows, or in another order")
            continue
        dims[at] = None
    return [Fact(tuple(dims), call.rows)]


def _pad(call: Call) -> Sequence[Fact]:
    pads = call.numbers(1, "pads")
    rank = call.data.rank
    axes = [axis_of(a, rank) for a in call.numbers(3, "axes") or range(rank)]
    if pads is None or len(pads) != 2 * len(axes):
        raise Doubt("has pads that are not known before it runs")
    dims = list(call.data.dims or ())
    for i, axis in enumerate(axes):
        if pads[i] or pads[i + len(axes)]:
            if axis == call.rows:
                raise Doubt("adds rows, or takes some")
            length = dims[axis]
            dims[axis] = None if length is None else length + pads[i] + pads[i + len(axes)]
    return [Fact(tuple(dims), call.rows)]


# -- shapes


def _transpose(call: Call) -> Sequence[Fact]:
    rank = call.data.rank
    order = call.node.integers("perm") or tuple(reversed(range(rank)))
    dims = call.data.dims or ()
    return [Fact(tuple(dims[i] for i in order), _place(order, call.rows))]


def _place(order: Sequence[int], rows: int) -> int:
    return order.index(rows) if rows in order else NOWHERE


def _flatten(call: Call) -> Sequence[Fact]:
    rank, axis, dims = call.data.rank, call.node.integer("axis", 1), call.data.dims or ()
    axis = axis + rank if axis < 0 else axis
    left, right = _product(dims[:axis]), _product(dims[axis:])
    if any(d != 1 for d in dims[: call.rows] if call.rows < axis) or any(d != 1 for d in dims[axis : call.rows]):
        raise Doubt("moves the rows in among other values")
    return [Fact((None, right), 0) if call.rows < axis else Fact((left, None), 1)]


def _reshape(call: Call) -> Sequence[Fact]:
    """Rows stay whole where the batch, in row-major order, stays in front of what belongs to a row."""
    shape = call.get(1)
    target: tuple[Entry, ...] | None = call.node.integers("shape") if shape is None else shape.values
    dims = call.data.dims or ()
    _ = call.data.rank
    if target is None:
        raise Doubt("has a shape that is not known before it runs")
    if not call.data.batched:
        if ROWS in target:
            raise Doubt("calculates with the number of rows")
        return [Fact(tuple(d if isinstance(d, int) and d > 0 else None for d in target))]
    if call.node.integer("allowzero", 0) and 0 in target:
        raise Doubt("may make nothing of the rows")
    rows = call.rows
    at = _batch_in(target, dims, rows)
    inner = [dims[i] if e == 0 and i < len(dims) else e for i, e in enumerate(target)][at + 1 :]
    if ROWS in inner or (0 in target[at + 1 :] and any(e == 0 and i == rows for i, e in enumerate(target) if i > at)):
        raise Doubt("moves the rows in among other values")
    if target[at] == -1 and call.variable and not _divides(inner, dims[rows + 1 :]):
        raise Doubt("has a shape that may cut rows, as far as is known of its input")
    made = [dims[i] if e == 0 else e for i, e in enumerate(target[:at])]
    made += [None, *inner]
    whole = _product(dims[rows + 1 :]) if target[at] in (ROWS, 0) else None
    known = _product([d if isinstance(d, int) else None for d in inner if d != -1])
    rest = whole // known if whole and known else None
    lengths = [rest if e == -1 else e for e in made]
    return [Fact(tuple(e if isinstance(e, int) and e >= 0 else None for e in lengths), at)]


def _batch_in(target: Sequence[Entry], dims: Sequence[int | None], rows: int) -> int:
    """The place in `target` that takes the batch."""
    kept = len(target) > rows and all(
        e == 0 or (e is not None and e == d) for e, d in zip(target, dims[:rows], strict=False)
    )
    if kept and target[rows] in (0, -1, ROWS):
        return rows
    if all(d == 1 for d in dims[:rows]):
        for i, entry in enumerate(target):
            if entry == 1 or (entry == 0 and i < rows):
                continue
            if entry in (-1, ROWS):
                return i
            break
    raise Doubt("moves the rows in among other values")


def _divides(inner: Sequence[Entry], dims: Sequence[int | None]) -> bool:
    """Whether a row of these dims is a whole number of what `inner` holds."""
    if list(inner) == list(dims) and None not in dims:
        return True
    wanted = _product([d if isinstance(d, int) else None for d in inner])
    if wanted is None:
        return False
    known = 1
    for d in dims:
        known *= d or 1
    return wanted > 0 and known % wanted == 0


def _squeeze(call: Call) -> Sequence[Fact]:
    axes = call.numbers(1, "axes")
    if not axes:
        raise Doubt("drops whichever axes have length 1, and so a single row's")
    return [_dropped(call, {axis_of(a, call.data.rank) for a in axes})]


def _dropped(call: Call, axes: set[int]) -> Fact:
    if call.rows in axes:
        raise Doubt("drops the axis of the rows")
    dims = call.data.dims or ()
    kept = [i for i in range(len(dims)) if i not in axes]
    return Fact(tuple(dims[i] for i in kept), _place(kept, call.rows))


def _unsqueeze(call: Call) -> Sequence[Fact]:
    axes = call.numbers(1, "axes") or ()
    rank = call.data.rank + len(axes)
    new = {axis_of(a, rank) for a in axes}
    old = iter(range(call.data.rank))
    order = [None if i in new else next(old) for i in range(rank)]
    dims = call.data.dims or ()
    rows = NOWHERE if call.rows == NOWHERE else order.index(call.rows)
    return [Fact(tuple(1 if i is None else dims[i] for i in order), rows)]


def _expand(call: Call) -> Sequence[Fact]:
    target = call.at(1).values
    if target is None:
        raise Doubt("has a shape that is not known before it runs")
    data = call.data
    rank = max(data.rank, len(target))
    wide: list[Entry] = [*[1] * (rank - len(target)), *target]
    dims: list[int | None] = [*[1] * (rank - data.rank), *(data.dims or ())]
    places = [i for i, e in enumerate(wide) if e is ROWS]
    rows = None if data.rows is None else data.rows + rank - data.rank
    if rows is None and len(places) == 1 and dims[places[0]] == 1:
        rows = places[0]
    elif any(p != rows for p in places) or (rows is not None and wide[rows] not in (1, ROWS)):
        raise Doubt("repeats by the number of rows, or repeats the rows")
    lengths = [e if isinstance(e, int) and e != 1 else d for e, d in zip(wide, dims, strict=True)]
    lengths = [None if w is None else d for w, d in zip(wide, lengths, strict=True)]
    return [Fact(tuple(None if i == rows else d for i, d in enumerate(lengths)), rows)]


def _tile(call: Call) -> Sequence[Fact]:
    repeats = call.at(1).values
    if repeats is None:
        raise Doubt("has repeats that are not known before it runs")
    dims = list(call.data.dims or ())
    rows = call.data.rows
    places = [i for i, e in enumerate(repeats) if e is ROWS]
    if rows is None and len(places) == 1 and dims[places[0]] == 1:
        rows = places[0]
    elif places or (rows is not None and repeats[rows] != 1):
        raise Doubt("repeats by the number of rows, or repeats the rows")
    lengths = [d * e if d is not None and isinstance(e, int) else None for d, e in zip(dims, repeats, strict=True)]
    return [Fact(tuple(None if i == rows else d for i, d in enumerate(lengths)), rows)]


def _filled(call: Call) -> Sequence[Fact]:
    """ConstantOfShape."""
    target = call.data.values
    if target is None:
        raise Doubt("has a shape that is not known before it runs")
    places = [i for i, e in enumerate(target) if e is ROWS]
    if len(places) > 1:
        raise Doubt("repeats by the number of rows")
    rows = places[0] if places else None
    return [Fact(tuple(e if isinstance(e, int) else None for e in target), rows)]


# -- picking


def _gather(call: Call) -> Sequence[Fact]:
    """A table asked by the rows, or places of the rows asked for by a constant."""
    data, chosen = call.data, call.at(1)
    axis = call.axis(0)
    dims, more = data.dims or (), chosen.dims or ()
    rank = chosen.rank
    made = (*dims[:axis], *more, *dims[axis + 1 :])
    if chosen.rows is not None:
        if data.batched:
            raise Doubt("lets a row choose among rows")
        return [Fact(made, axis + chosen.rows)]
    if axis == data.rows:
        raise Doubt("takes some of the rows, or in another order")
    rows = None if data.rows is None else data.rows if data.rows < axis else data.rows + rank - 1
    return [Fact(made, rows)]


def _gather_elements(call: Call) -> Sequence[Fact]:
    if call.axis(0) == call.rows or call.at(1).rows != call.rows:
        raise Doubt("lets a row choose among rows")
    return [Fact(call.at(1).dims, call.rows)]


def _one_hot(call: Call) -> Sequence[Fact]:
    rank = call.data.rank + 1
    axis = call.axis(-1, rank)
    dims = list(call.data.dims or ())
    dims.insert(axis, None)
    return [Fact(tuple(dims), call.rows + (axis <= call.rows))]


# -- products


def _matmul(call: Call) -> Sequence[Fact]:
    return [_product_of(call.data, call.at(1))]


def _qlinear_matmul(call: Call) -> Sequence[Fact]:
    return [_product_of(call.data, call.at(3))]


def _product_of(a: Fact, b: Fact) -> Fact:
    """numpy's matmul: the last axis of `a` meets the one before the last of `b`; axes in front are a batch."""
    if a.rank < 2 or b.rank < 1:
        raise Doubt("multiplies vectors, in which rows would meet")
    if b.rank == 1:
        if b.batched or a.rows == a.rank - 1:
            raise Doubt("sums over the rows")
        return Fact((a.dims or ())[:-1], a.rows)
    rank = max(a.rank, b.rank)
    left = None if a.rows is None else a.rows + rank - a.rank
    right = None if b.rows is None else b.rows + rank - b.rank
    if left == rank - 1 or right == rank - 2:
        raise Doubt("sums over the rows")
    if left is not None and right is not None and left != right:
        raise Doubt("holds every row against every other")
    if left is not None and left == right and left >= rank - 2:
        raise Doubt("holds every row against every other")
    rows = right if left is None else left
    heads = (
        Fact((a.dims or ())[:-2], _below(a.rows, a.rank - 2)),
        Fact((b.dims or ())[:-2], _below(b.rows, b.rank - 2)),
    )
    head: tuple[int | None, ...] = ()
    for i in range(rank - 2):
        met = [f.dims[i - (rank - 2) + f.rank] for f in heads if f.dims is not None and i >= rank - 2 - f.rank]
        plain = [f for f in heads if not f.batched and f.dims is not None and i >= rank - 2 - f.rank]
        if i == rows and any((f.dims or ())[i - (rank - 2) + f.rank] != 1 for f in plain):
            raise Doubt("holds rows against a constant that is as long as some number of rows")
        head += (None if i == rows or None in met else max(d for d in met if d is not None),)
    tail = ((a.dims or ())[-2], (b.dims or ())[-1])
    dims = (*head, *tail)
    return Fact(tuple(None if i == rows else d for i, d in enumerate(dims)), rows)


def _below(rows: int | None, limit: int) -> int | None:
    return rows if rows is not None and rows < limit else None


def _gemm(call: Call) -> Sequence[Fact]:
    a, b, c = call.data, call.at(1), call.get(2)
    if a.rank != 2 or b.rank != 2:
        raise Doubt("multiplies what is no matrix")
    a = _turned(a) if call.node.integer("transA", 0) else a
    b = _turned(b) if call.node.integer("transB", 0) else b
    made = _product_of(a, b)
    if c is None:
        return [made]
    if made.rows is None or (c.rows is not None and c.rows + 2 - c.rank != made.rows):
        raise Doubt("adds rows across the rows")
    if not c.batched and not _broadcasts(c, made):
        raise Doubt("holds rows against a constant that is as long as some number of rows")
    return [made]


def _turned(fact: Fact) -> Fact:
    return Fact(tuple(reversed(fact.dims or ())), None if fact.rows is None else 1 - fact.rows)


def _einsum(call: Call) -> Sequence[Fact]:
    text = call.node.text("equation").replace(" ", "")
    sides, arrow, result = text.partition("->")
    terms = sides.split(",")
    facts = [f for f in call.inputs if f is not None]
    if not arrow or "." in text or any(len(t) != f.rank for t, f in zip(terms, facts, strict=True)):
        raise Doubt("has an equation that leaves axes unsaid")
    letters = {t[f.rows] for t, f in zip(terms, facts, strict=True) if f.rows is not None}
    if len(letters) != 1:
        raise Doubt("holds every row against every other")
    letter = letters.pop()
    if letter not in result or any(
        t.count(letter) != (1 if f.batched else 0) for t, f in zip(terms, facts, strict=True)
    ):
        raise Doubt("sums over the rows, or holds them against a constant")
    sizes = {x: d for t, f in zip(terms, facts, strict=True) for x, d in zip(t, f.dims or (), strict=True)}
    return [Fact(tuple(None if x == letter else sizes.get(x) for x in result), result.index(letter))]


# -- layers of networks, whose first axis is the batch by definition


def _layer(call: Call) -> Sequence[Fact]:
    if call.rows != 0 or call.data.rank < 2:
        raise Doubt("works along the rows, which are not its first axis")
    dims = call.data.dims or ()
    weights = call.get(_WEIGHTS[call.node.op]) if call.node.op in _WEIGHTS else None
    channels = dims[1] if weights is None else weights.dims[0] if weights.dims else None
    space: int | None = 1 if call.node.op.startswith("Global") else None
    return [Fact((None, channels, *[space] * (len(dims) - 2)), 0)]  # MaxPool's indices count through all rows


def _same_layer(call: Call) -> Sequence[Fact]:
    if call.rows != 0 or call.data.rank < 3:
        raise Doubt("works along the rows, which are not its first axis")
    return [replace(call.data, values=None)]


def _reshaped_layer(call: Call) -> Sequence[Fact]:
    if call.rows != 0 or call.data.rank < 3:
        raise Doubt("works along the rows, which are not its first axis")
    return [Fact((None,) * call.data.rank, 0)]


def _resize(call: Call) -> Sequence[Fact]:
    """Rows stay if the first axis is not scaled, which is read from the constants."""
    if call.rows != 0:
        raise Doubt("works along the rows, which are not its first axis")
    axes, sizes = call.node.integers("axes"), call.get(3)
    kept = axes is not None and 0 not in {axis_of(a, call.data.rank) for a in axes}
    if not kept and (axes is not None or sizes is None or not sizes.values or sizes.values[0] is not ROWS):
        raise Doubt("may change the number of rows")
    return [Fact((None,) * call.data.rank, 0)]


def _batch_norm(call: Call) -> Sequence[Fact]:
    if call.node.integer("training_mode", 0) or len([o for o in call.node.outputs if o]) > 1:
        raise Doubt("is in training mode: it normalises by the rows' own mean and variance")
    if call.rows != 0 or call.data.rank < 2:
        raise Doubt("normalises along the rows, which are not its first axis")
    return [replace(call.data, values=None)]


def _recurrent(call: Call) -> Sequence[Fact]:
    """RNN, GRU, LSTM: [time, batch, inputs], or the batch in front with layout 1."""
    first = call.node.integer("layout", 0) == 1
    if call.data.rank != 3 or call.rows != (0 if first else 1):
        raise Doubt("takes the rows for steps in time")
    for index, fact in enumerate(call.inputs):
        if fact is None or index < 4 or index == 7:
            continue
        wanted = 0 if index == 4 or first else 1
        if fact.rows != wanted:
            raise Doubt("has lengths or states that are as many as some number of rows")
    dims = call.data.dims or ()
    if first:
        return [Fact((None, dims[1], None, None), 0), *[Fact((None, None, None), 0)] * 2]
    return [Fact((dims[0], None, None, None), 2), *[Fact((None, None, None), 1)] * 2]


# -- ai.onnx.ml and texts


def _table(call: Call) -> Sequence[Fact]:
    """[N, columns] stays in shape; a single vector would be one row."""
    return [_require_table(call)]


def _require_table(call: Call) -> Fact:
    if call.rows != 0 or call.data.rank != 2:
        raise Doubt("takes a table, and the rows are not its first axis")
    return replace(call.data, values=None)


def _classifier(call: Call) -> Sequence[Fact]:
    _require_table(call)
    return [Fact((None,), 0), Fact((None, None), 0)]


def _regressor(call: Call) -> Sequence[Fact]:
    _require_table(call)
    return [Fact((None, None), 0)]


def _vectorised(call: Call) -> Sequence[Fact]:
    facts = [f for f in call.inputs if f is not None]
    if any(f.rows != 0 or f.rank != 2 for f in facts):
        raise Doubt("takes tables, and the rows are not their first axis")
    return [Fact((None, None), 0)]


def _one_hot_encoder(call: Call) -> Sequence[Fact]:
    return [Fact((*(call.data.dims or ()), None), call.rows)]


def _feature_extractor(call: Call) -> Sequence[Fact]:
    """Places of the last axis; of a vector, a table that the rows ask."""
    data, chosen = call.data, call.at(1)
    if chosen.rows is not None:
        several = data.rank > 2 or (data.rank == 2 and (data.dims or ())[0] != 1)
        if data.batched or several or any(d != 1 for d in (chosen.dims or ())[: chosen.rows]):
            raise Doubt("lets a row choose among rows")
        return [Fact((1, None), 1)]
    if data.rank < 2 or data.rows == data.rank - 1:
        raise Doubt("takes some of the rows, or in another order")
    return [Fact((*(data.dims or ())[:-1], None), data.rows)]


def _tokenizer(call: Call) -> Sequence[Fact]:
    """Rows of words, padded to the most words of the batch."""
    if call.node.integer("mark", 0):
        raise Doubt("marks where padding begins")
    return [Fact((*(call.data.dims or ()), None), call.rows, pad=call.node.text("pad_value"))]


def _normalised_text(call: Call) -> Sequence[Fact]:
    if call.data.rank != 1 or call.node.texts("stopwords"):
        raise Doubt("drops rows that are stop words, or takes one row only")
    return [call.data]


def _tfidf(call: Call) -> Sequence[Fact]:
    if call.rows != 0 or call.data.rank != 2:
        raise Doubt("takes a table, and the rows are not its first axis")
    if call.data.pad is not None and call.data.pad in call.node.texts("pool_strings"):
        raise Doubt("counts the padding, which is as long as the longest row of the batch needs")
    return [Fact((None, None), 0)]


def _padded_still(rule: Rule) -> Rule:
    return lambda call: [replace(f, pad=call.data.pad) for f in rule(call)]


def _distances(call: Call) -> Sequence[Fact]:
    if call.rows != 0 or call.data.rank != 2:
        raise Doubt("holds every row against every other")
    return [Fact((None, (call.at(1).dims or (None,))[0]), 0)]


# -- the table

_FIRST: Final = frozenset({0})
_SOME: Final = frozenset({0, 1})


def _product(dims: Sequence[int | None]) -> int | None:
    product = 1
    for d in dims:
        if d is None:
            return None
        product *= d
    return product


_WEIGHTS: Final = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3, "FusedConv": 1}

RANDOM: Final = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"}
)
_KNOWN_MIXERS: Final = {
    "DynamicQuantizeLinear": "scales all rows by the largest and smallest value among them (dynamic quantisation): "
    "quantise statically, with calibration data",
    "DynamicQuantizeMatMul": "scales all rows by the largest and smallest value among them (dynamic quantisation): "
    "quantise statically, with calibration data",
    "DynamicQuantizeLSTM": "scales all rows by the largest and smallest value among them (dynamic quantisation)",
    "NonMaxSuppression": "drops boxes by the boxes of other rows, and counts them over all rows",
    "NonZero": "makes as many rows as there are values that are not 0",
    "Unique": "makes as many rows as there are different values",
    "Compress": "takes some of the rows",
    "MeanVarianceNormalization": "normalises over the rows",
    "Range": "numbers the rows",
}
_TAKES_PADDING: Final = frozenset({"TfIdfVectorizer", "Flatten", "Identity", "Squeeze", "Reshape"})

_ELEMENTWISE: Final = [
    "Abs",
    "Acos",
    "Acosh",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "BitwiseNot",
    "Cast",
    "Ceil",
    "Celu",
    "Clip",
    "Cos",
    "Cosh",
    "Elu",
    "Erf",
    "Exp",
    "Floor",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "IsInf",
    "IsNaN",
    "LeakyRelu",
    "Log",
    "Mish",
    "Neg",
    "Not",
    "Reciprocal",
    "Relu",
    "Round",
    "Selu",
    "Shrink",
    "Sigmoid",
    "Sign",
    "Sin",
    "Sinh",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Swish",
    "Tan",
    "Tanh",
    "ThresholdedRelu",
    "RegexFullMatch",
]
_BROADCASTING: Final = [
    "Add",
    "And",
    "BitShift",
    "BitwiseAnd",
    "BitwiseOr",
    "BitwiseXor",
    "Div",
    "Equal",
    "Greater",
    "GreaterOrEqual",
    "Less",
    "LessOrEqual",
    "Max",
    "Mean",
    "Min",
    "Mod",
    "Mul",
    "Or",
    "PRelu",
    "Pow",
    "StringConcat",
    "Sub",
    "Sum",
    "Where",
    "Xor",
]
_REDUCING: Final = [
    f"Reduce{what}" for what in ["L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare"]
]
_LAYERS: Final = [
    "Conv",
    "ConvInteger",
    "AveragePool",
    "MaxPool",
    "LpPool",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "GlobalLpPool",
    "QLinearConv",
]

_RULES: Final[dict[tuple[str, str], tuple[Rule, frozenset[int] | None]]] = {
    **{("", op): (_each, _FIRST) for op in _ELEMENTWISE},
    **{("", op): (_broadcast, None) for op in _BROADCASTING},
    **{("", op): (_reduce, _FIRST) for op in _REDUCING},
    **{("", op): (_argmax, _FIRST) for op in ("ArgMax", "ArgMin")},
    **{("", op): (_softmax, _FIRST) for op in ("Softmax", "LogSoftmax", "Hardmax")},
    **{("", op): (_layer, _FIRST) for op in _LAYERS},
    **{("", op): (_same_layer, _FIRST) for op in ("InstanceNormalization", "GroupNormalization", "LRN")},
    **{("", op): (_reshaped_layer, _FIRST) for op in ("ConvTranspose", "DepthToSpace", "SpaceToDepth")},
    **{("", op): (_recurrent, frozenset({0, 4, 5, 6})) for op in ("RNN", "GRU", "LSTM")},
    **{("", op): (_normalised_from, _FIRST) for op in ("LayerNormalization", "RMSNormalization")},
    **{("", op): (_quantise, _FIRST) for op in ("QuantizeLinear", "DequantizeLinear")},
    **{("", op): (_matmul, _SOME) for op in ("MatMul", "MatMulInteger")},
    **{("", op): (_cumulative, _FIRST) for op in ("CumSum", "CumProd")},
    ("", "BatchNormalization"): (_batch_norm, _FIRST),
    ("", "Concat"): (_concat, None),
    ("", "ConstantOfShape"): (_filled, frozenset()),
    ("", "Dropout"): (_dropout, _FIRST),
    ("", "Einsum"): (_einsum, None),
    ("", "Expand"): (_expand, _FIRST),
    ("", "Flatten"): (_padded_still(_flatten), _FIRST),
    ("", "Gather"): (_gather, _SOME),
    ("", "GatherElements"): (_gather_elements, _SOME),
    ("", "Gemm"): (_gemm, frozenset({0, 1, 2})),
    ("", "LpNormalization"): (_along(-1), _FIRST),
    ("", "OneHot"): (_one_hot, _FIRST),
    ("", "Pad"): (_pad, _FIRST),
    ("", "QLinearMatMul"): (_qlinear_matmul, frozenset({0, 3})),
    ("", "Reshape"): (_padded_still(_reshape), _FIRST),
    ("", "Resize"): (_resize, _FIRST),
    ("", "Slice"): (_slice, _FIRST),
    ("", "Split"): (_split, _FIRST),
    ("", "StringNormalizer"): (_normalised_text, _FIRST),
    ("", "Squeeze"): (_padded_still(_squeeze), _FIRST),
    ("", "TfIdfVectorizer"): (_tfidf, _FIRST),
    ("", "Tile"): (_tile, _FIRST),
    ("", "TopK"): (_top, _FIRST),
    ("", "Transpose"): (_transpose, _FIRST),
    ("", "Unsqueeze"): (_unsqueeze, _FIRST),
    **{(ML, op): (_each, _FIRST) for op in ("Binarizer", "CategoryMapper", "LabelEncoder")},
    **{(ML, op): (_table, _FIRST) for op in ("Imputer", "Normalizer", "Scaler")},
    **{(ML, op): (_classifier, _FIRST) for op in ("LinearClassifier", "SVMClassifier", "TreeEnsembleClassifier")},
    **{
        (ML, op): (_regressor, _FIRST)
        for op in ("LinearRegressor", "SVMRegressor", "TreeEnsembleRegressor", "TreeEnsemble")
    },
    (ML, "ArrayFeatureExtractor"): (_feature_extractor, _SOME),
    (ML, "FeatureVectorizer"): (_vectorised, None),
    (ML, "OneHotEncoder"): (_one_hot_encoder, _FIRST),
    **{(MICROSOFT, op): (_each, _FIRST) for op in ("Gelu", "QuickGelu")},
    (MICROSOFT, "CDist"): (_distances, _FIRST),
    (MICROSOFT, "FusedConv"): (_layer, _FIRST),
    (MICROSOFT, "FusedGemm"): (_gemm, frozenset({0, 1, 2})),
    (MICROSOFT, "Tokenizer"): (_tokenizer, _FIRST),
}
"""Operator -> its rule, and the inputs that may carry the batch; None: any."""
