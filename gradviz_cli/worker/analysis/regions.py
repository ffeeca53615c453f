"""Regions of elementwise operations, each named by the function of one number that it computes.

A region lies between two tensors on the way from the image to the score: an `exit`, and an `entry` that all of its ways
from the image pass, with nothing between but elementwise operations and values that do not depend on the image. Each is
tabulated (`naming.points`) and named (`naming.name_of`); the outermost exit is taken first, and of its regions the largest
that has a name. The nodes of a region that was taken are spent: the parts of an activation are no activations.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.worker.analysis import naming
from gradviz_cli.worker.analysis.elementwise import ELEMENTWISE, compute, distinct, meaning
from gradviz_cli.worker.analysis.known import Known
from gradviz_cli.worker.analysis.naming import ACTIVATIONS, GATES, OTHER, RAISED, RELUS, Form
from gradviz_cli.worker.analysis.pixels import DARKENED, MIXED, RANGES, REDUCTIONS, SHIFTS, WRITTEN, Still
from gradviz_cli.worker.analysis.turned import Turned, turned
from gradviz_cli.worker.analysis.unrolled import MOVES, unrolled
from gradviz_cli.worker.graph.graph import attribute, consumers, data_inputs, in_order, split
from gradviz_cli.worker.graph.match import RENAMING_OPS, STOPS

Array = np.ndarray

# Longer chains of elementwise operations are followed no further: an activation is spelled in a dozen.
MAX_DEPTH = 60
# So many tensors behind one are looked at.
MOST_READERS = 200
# So many channels are tabulated in full; the others of a ReLU are looked at on a few points.
MAX_CHANNELS = 16
FEW = np.array([-300.0, -3.0, -0.5, -1e-3, 0.0, 1e-3, 0.5, 3.0, 300.0])
# Beyond where any ReLU opens, and beyond any cap; halvings of what lies between that are as many as a float64 has bits.
FAR, VERY_FAR, HALVINGS = 2 * naming.FURTHEST, 3e8, 80
# Where a region's values are shown.
SHOWN = np.array([-3.0, -1.0, 0.0, 1.0, 3.0, 7.0])
# With a corner, or the step of a comparison: what makes a join of two ways more than arithmetic.
CORNERED = frozenset(
    {
        "Relu",
        "Relu6",
        "Maximum",
        "Minimum",
        "MaximumN",
        "MinimumN",
        "Select",
        "SelectV2",
        "ClipByValue",
        "LeakyRelu",
        "Abs",
        "Elu",
        "Selu",
        "Cast",
    }
)
# Ways that are added up.
SUMS = frozenset({"Add", "AddV2", "AddN", "Sub"})
# What moves or scales a number, where the other operand does not depend on the image.
STRAIGHT = frozenset({"Add", "AddV2", "BiasAdd", "Sub", "Mul", "Neg", "Identity"})
# What hands a number on as it is.
SAME = RENAMING_OPS | {"CheckNumerics"}
# What bends a number. A formula of an activation has few of these, and fewer that are activations by themselves: in a chain of
# activations the regions that reach over many of them have no name, and are not asked.
BENDING = (
    ELEMENTWISE - STRAIGHT - SAME - {"RealDiv", "Div", "AddN", "Cast", "Greater", "GreaterEqual", "Less", "LessEqual"}
)
MOST_BENDS, MOST_WRITTEN = 12, 3
# No gradient passes these.
COMPARING = frozenset({"Greater", "GreaterEqual", "Less", "LessEqual", "Equal", "NotEqual", "Sign"})
# What cleans an image where it lies behind one.
CLIPS = RELUS | {"clip", "HardSigmoid"}
WRITTEN_RELUS = frozenset({"Relu", "Relu6"})
RELU6 = 6.0  # where no image ends
RESHAPING = MOVES | {"BroadcastTo", "Tile", "Identity"}
SCALING = frozenset({"Mul", "RealDiv", "Div"})
# What a gate passes on its way to what it multiplies: it comes in the shape of that.
ENLARGING = RESHAPING | {"StridedSlice", "Slice", "ResizeNearestNeighbor", "ResizeBilinear", "GatherV2"}
# What looks something up, or puts it somewhere -> the input that says where.
PLACING = {
    **dict.fromkeys(("GatherNd", "GatherV2", "Gather", "ResourceGather"), 1),
    **dict.fromkeys(("TensorScatterUpdate", "TensorScatterAdd"), 1),
    **dict.fromkeys(("ScatterNd", "OneHot"), 0),
}
# A guard before one of these is no activation: it keeps a root, logarithm or quotient from what has none.
DELICATE = frozenset({"Sqrt", "Rsqrt", "Log", "Reciprocal", "Inv"})

Ends = tuple[float | Array, float | Array | None]
"""Where a ReLU opens, and where it closes, or nowhere: one number for all channels, or one for each."""

# Canonical text of a region -> its form. A model is searched twice: when it is read, and when it is marked.
NAMED: dict[str, Form] = {}


@dataclass(frozen=True)
class Region:
    """The nodes (by their tensors) from `entry`, exclusive, to `exit`, and the function that they compute.

    `role` is empty for an activation; else why it is none: `guard` (keeps a statistic in range), `pixels` (cleans the
    image), `gate` (a smooth factor), `composite` (corners without a name). `ends`: where a ReLU opens and closes, of one that
    has these for each channel, shaped to broadcast. `learnt`: it has a parameter that is a weight. `values`: what its first
    channel is at SHOWN.
    """

    form: Form
    entry: str
    exit: str
    nodes: frozenset[str]
    role: str = ""
    ends: Ends = field(default=(0.0, None), compare=False)
    learnt: bool = False
    values: tuple[float, ...] = field(default=(), compare=False)


def find(nodes: Mapping[str, NodeDef], path: set[str], known: Known, image: Still | None = None) -> list[Region]:
    """Activations, gates, guards and composites among the nodes on the path, none inside another.

    Parameters
    ----------
    path : set of str
        Nodes that a gradient of the image passes.
    known : Known
        What a tensor holds that does not depend on the image.
    image : dict
        Tensors that still are the image: a clip of these is preprocessing.
    """
    seen = turned(unrolled(nodes, path, known), path, known)
    return _Search(seen.nodes, seen.path, seen.known, image or {}, seen).found()


@dataclass
class _Search:
    nodes: Mapping[str, NodeDef]
    path: set[str]
    known: Known
    image: Still
    turned: Turned
    parents: dict[str, str] = field(default_factory=dict)  # exit -> nearest entry
    sources: dict[str, list[str]] = field(default_factory=dict)  # exit -> its inputs
    opaque: set[str] = field(default_factory=set)  # exits with an operand whose value is not known
    straight: set[str] = field(default_factory=set)  # exits of what has a straight line for its graph

    def __post_init__(self) -> None:
        self.readers = consumers(self.nodes)
        self.order = list(in_order(self.nodes, self.path))
        self.rank = {name: place for place, name in enumerate(self.order)}
        placing = [(name, PLACING[self.nodes[name].op]) for name in self.order if self.nodes[name].op in PLACING]
        self._places = {(name, text) for name, at in placing if not self._off_path(text := self.nodes[name].input[at])}
        depths: dict[str, int] = {}
        for name in self.order:
            exit_ = f"{name}:0"
            entry = self._nearest_entry(self.nodes[name])
            if entry is not None and depths.get(entry, 0) < MAX_DEPTH:
                self.parents[exit_], depths[exit_] = entry, depths.get(entry, 0) + 1
                self.sources[exit_] = [self._unwidened(text) for text in data_inputs(self.nodes[name])]
                if any(self._off_path(text) and self.known(text) is None for text in self.sources[exit_]):
                    self.opaque.add(exit_)
                if self.nodes[name].op in STRAIGHT and len(self._live(self.sources[exit_])) == 1:
                    self.straight.add(exit_)

    # -- regions

    def _off_path(self, tensor: str) -> bool:
        return split(tensor)[0] not in self.path

    def _unwidened(self, tensor: str) -> str:
        """What is broadcast to a shape that is not known: what reads it would broadcast it as well."""
        node = self.nodes.get(split(tensor)[0])
        if node is None or node.op != "BroadcastTo" or not self._off_path(tensor):
            return tensor
        return tensor if self.known(tensor) is not None else node.input[0]

    def _live(self, tensors: Iterable[str]) -> list[str]:
        """Those that depend on the image."""
        return [tensor for tensor in tensors if not self._off_path(tensor)]

    def _nearest_entry(self, node: NodeDef) -> str | None:
        """The last tensor that all ways from the image to this node pass, through elementwise operations alone."""
        live = self._live(data_inputs(node))
        if node.op not in ELEMENTWISE or not live:
            return None
        first, *others = [self._entries(text) for text in live]
        rest = [set(chain) for chain in others]
        return next((tensor for tensor in first if all(tensor in chain for chain in rest)), None)

    def _entries(self, tensor: str) -> list[str]:
        """A tensor, and the entries behind it, from the nearest to the furthest."""
        chain = [tensor]
        while chain[-1] in self.parents:
            chain.append(self.parents[chain[-1]])
        return chain

    def _between(self, entry: str, exit_: str) -> frozenset[str]:
        todo, seen = [exit_], set()
        while todo:
            tensor = todo.pop()
            if tensor != entry and tensor not in seen:
                seen.add(tensor)
                todo.extend(self._live(self.sources.get(tensor, ())))
        return frozenset(seen)

    def _candidates(self) -> list[tuple[str, str, frozenset[str]]]:
        """(entry, exit, nodes) of every region, outermost exits first, of one exit the largest first; last what is looked at in
        another place first."""
        found = [(entry, exit_, inside) for exit_ in self.parents for entry, inside in self._regions_of(exit_)]
        late = self.turned.inside
        return sorted(found, key=lambda one: (bool(one[2] & late), -self.rank[split(one[1])[0]], -len(one[2])))

    def _regions_of(self, exit_: str) -> Iterator[tuple[str, frozenset[str]]]:
        """(entry, nodes) of those with this exit, the smallest first, as far as they may have a name; the smallest always."""
        for place, entry in enumerate(self._entries(exit_)[1:]):
            inside = self._between(entry, exit_)
            ops = [self.nodes[split(tensor)[0]].op for tensor in inside]
            crowded = sum(op in WRITTEN for op in ops) > MOST_WRITTEN or sum(op in BENDING for op in ops) > MOST_BENDS
            if crowded and place:
                return
            yield entry, inside

    def found(self) -> list[Region]:
        taken: set[str] = set()
        chosen: list[Region] = []
        for entry, exit_, inside in self._candidates():
            if inside & taken or inside <= self.straight:
                continue
            region = self._settled(Region(self._form(entry, inside), entry, exit_, inside))
            role = self._role(region)
            if role is None or self._is_apart(region):
                continue
            taken |= region.nodes | self.turned.written(region.nodes)
            if role != "spent":
                form = OTHER if role == "composite" else region.form
                known = replace(region, form=form, role=role, ends=self._ends(region), learnt=self._is_learnt(region))
                last = self._trimmed(replace(known, values=self._values(region)))
                chosen.append(replace(last, nodes=self.turned.written(last.nodes)))
        return chosen[::-1]

    def _is_apart(self, region: Region) -> bool:
        """It has no ends in the graph."""
        if not self.turned.between:
            return False
        last = self._trimmed(region)
        return self.turned.is_apart(last.entry, last.exit, last.nodes)

    def _values(self, region: Region) -> tuple[float, ...]:
        """What tells a person that it is what it is said to be; nothing where an operand is not known."""
        if region.nodes & self.opaque:
            return ()
        rows = self._rows(region.nodes)
        try:
            whole = np.broadcast_shapes(*[value.shape for value in self._constants(rows)])
            column = self._table(region.entry, rows, whole, np.zeros(1, int), SHOWN)[:, 0]
        except (ValueError, TypeError):
            return ()
        return tuple(map(float, column))

    def _is_learnt(self, region: Region) -> bool:
        """A weight shapes it, and is not merely a bias of zeros before or behind it."""
        nodes = self._trimmed(region).nodes
        others = {text for tensor in nodes for text in self.sources[tensor] if self._off_path(text)}
        return any(map(self.known.is_learnt, others))

    def _trimmed(self, region: Region) -> Region:
        """Without what only hands a number on, before and behind (also a bias of zeros, as untrained layers have it)."""
        entry, exit_, nodes = region.entry, region.exit, set(region.nodes)
        while len(nodes) > 1 and (source := self._handed_on(exit_)):
            nodes.discard(exit_)
            exit_ = source
        while len(first := [tensor for tensor in nodes if entry in self.sources[tensor]]) == 1 < len(nodes):
            if not self._handed_on(first[0]):
                break
            nodes.discard(first[0])
            entry = first[0]
        return replace(region, entry=entry, exit=exit_, nodes=frozenset(nodes))

    def _handed_on(self, tensor: str) -> str | None:
        """The tensor that this one is, if it is the same numbers."""
        live = self._live(self.sources[tensor])
        if len(live) != 1:
            return None
        same = _hands_on(self.nodes[split(tensor)[0]]) or self._form(live[0], frozenset([tensor])).name == "identity"
        return live[0] if same else None

    # -- what a region is

    def _role(self, region: Region) -> str | None:
        """Why a region is taken; None where it is not, and smaller ones are asked."""
        name = region.form.name
        ops = self._ops(region.nodes)
        cornered = bool(ops & CORNERED)
        if self._is_cleaning(region, ops):
            return "pixels"
        if (
            name in RELUS | {"clip", "absolute value"}
            and self._is_statistic(region.entry)
            and self._is_guard(region.exit)
        ):
            return "guard"
        if self._is_whole(region.exit) and not self._is_shared(region):
            return "guard"
        if name in RELUS | {"clip", "shifted clip"} and self._is_place(region.exit):
            return "guard"
        if name in GATES or self._is_share(region):
            return "gate"
        if name == "TwoSlopes" and ops & {"Relu", "Relu6"}:
            return None  # x + relu(x): a shortcut around a ReLU
        if name == "Exponential" and self._is_normalised(region.exit):
            return None
        if self._is_shared(region) or self._is_stopped(region) or (name in ACTIVATIONS and self._is_chain(region)):
            return None
        if name in ACTIVATIONS:
            return "composite" if self._is_remainder(region) else ""
        if cornered and not ops & {"Relu", "Relu6"} and name != "scaled Relu" and self._is_join(region):
            if self._is_shortcut(region, ops):
                return None
            if name in ("identity", "affine"):
                return "spent"  # of all numbers that are finite: a guard of the others
            return "composite"
        return (
            "spent"
            if cornered and len(region.nodes) > 1 and name in ("sigmoid", "tanh", "log sigmoid", "clip")
            else None
        )

    def _settled(self, region: Region) -> Region:
        """A hard sigmoid of slope 1 that multiplies nothing is a capped ReLU that opens below 0; max(x, c), with a learnt c for
        each channel, is relu(x - c) + c (Singh & Krishnan 2019, arXiv:1911.09737, section 3.2), and no clamp."""
        if region.form == RAISED and region.entry not in self.image and self._is_learnt(region):
            return replace(region, form=Form("Relu", None))
        form = naming.ungated(region.form)
        return region if form == region.form or self._multiplies(region.exit) else replace(region, form=form)

    def _is_cleaning(self, region: Region, ops: set[str]) -> bool:
        """A clip of the image, or another curve of its numbers that has corners: below 0 of the image itself, at both ends of
        one that was shifted, to the range of one where it may be the first layer. Who writes a ReLU means one, also
        straight behind the image, and so does who caps it as a ReLU6."""
        level, form = self.image.get(region.entry), region.form
        if level is None or ops & WRITTEN_RELUS:
            return False
        if form.name in CLIPS:
            cap = (form.high or 0) - (form.low or 0) if form.name == "CappedRelu" else None
            if form.name == "Relu" and form.low != 0 and (form.low is None or form.slope == -1):
                return level != MIXED  # a layer by itself would have been written as one
            both_ends = form.name != "Relu" and level != MIXED
            image = both_ends or level >= DARKENED and form.low == 0 and form.slope is None
            return cap in RANGES or image and cap != RELU6
        curve = bool(ops & CORNERED) and not ops & WRITTEN and form.name not in ACTIVATIONS and self._is_join(region)
        return level != MIXED and curve and not self._is_learnt(region)

    def _is_chain(self, region: Region) -> bool:
        """Two activations, one behind the other; or one that is scaled or shifted before or behind it."""
        between = self._entries(region.exit)[1:]
        for cut in between[: between.index(region.entry)]:
            first, then = self._between(region.entry, cut), self._between(cut, region.exit)
            parts = self._form(region.entry, first), self._form(cut, then)
            if all(form.name in RELUS and form.low == 0 and form.slope is None for form in parts):
                continue  # a ReLU and its cap are one
            if _is_capping(*parts) and not self._ops(then) & WRITTEN_RELUS:
                continue
            named = sum(form.name in ACTIVATIONS for form in parts)
            if named == 2 or named == 1 and any(form.name == "affine" for form in parts):
                return True
        return False

    def _ops(self, tensors: Iterable[str]) -> set[str]:
        return {self.nodes[split(tensor)[0]].op for tensor in tensors}

    def _is_stopped(self, region: Region) -> bool:
        """A StopGradient within gives it another gradient than that of its values, as a straight-through estimator means
        it; unless what it stops has none, such as a mask."""
        if not any(self.nodes[split(tensor)[0]].op in STOPS for tensor in region.nodes):
            return False  # the trimming takes most of the time
        stops = [
            data_inputs(node)[0]
            for tensor in self._trimmed(region).nodes
            if (node := self.nodes[split(tensor)[0]]).op in STOPS
            and not self._off_path(data_inputs(node)[0])
            and not self._is_compared(tensor)
        ]
        return any(not self._is_flat(region.entry, stopped) for stopped in stops)

    def _is_compared(self, tensor: str) -> bool:
        """What reads it has no gradient anyway."""
        readers = [self.nodes[name].op for name in self.readers.get(split(tensor)[0], ()) if name in self.path]
        return bool(readers) and COMPARING.issuperset(readers)

    def _is_remainder(self, region: Region) -> bool:
        """What a straight-through estimator adds to the number itself: max(x, 0) - x under a StopGradient."""
        if region.form.slope != -1 or region.form.name not in RELUS:
            return False
        behind = self.readers.get(split(self._trimmed(region).exit)[0], ())
        readers = [self.nodes[name].op for name in behind if name in self.path]
        return bool(readers) and STOPS.issuperset(readers)

    def _is_flat(self, entry: str, tensor: str) -> bool:
        """A step function: it takes two or three values."""
        inside = self._between(entry, tensor)
        if not inside or inside & self.opaque:
            return False
        rows = self._rows(inside)
        try:
            whole = np.broadcast_shapes(*[value.shape for value in self._constants(rows)])
            column = self._table(entry, rows, whole, np.zeros(1, int), FEW)
        except (ValueError, TypeError):
            return False
        return len(distinct(column)) <= 3  # NaN is one

    def _is_shared(self, region: Region) -> bool:
        """Another part of the graph reads a corner within: that corner is an activation by itself, and obeys by itself."""
        within = {split(tensor)[0] for tensor in region.nodes}
        return any(
            reader in self.path
            and reader not in within
            and not self._is_instead(reader, tensor)
            and tensor in self.nodes[reader].input
            for tensor in region.nodes - {region.exit}
            if self.nodes[split(tensor)[0]].op in CORNERED
            for reader in self.readers.get(split(tensor)[0], ())
        )

    def _is_join(self, region: Region) -> bool:
        """Its exit brings two ways from its entry together, and no smaller region of this exit does."""
        live = set(self._live(self.sources[region.exit]))
        return len(live) > 1 and self.parents[region.exit] == region.entry

    def _is_shortcut(self, region: Region, ops: set[str]) -> bool:
        """A sum of what is an activation by itself and another way round it: a ReLU that is written as one, or weights of
        each channel between (a batch norm as arithmetic). No formula of an activation has these."""
        if self.nodes[split(region.exit)[0]].op not in SUMS or region.nodes & self.opaque:
            return False
        return bool(ops & {"Relu", "Relu6"}) or any(map(_differs, self._constants(self._rows(region.nodes))))

    def _users(self, tensor: str) -> list[str]:
        """Nodes on the path that read a tensor, seen through what hands it on."""
        name = split(tensor)[0]
        found = self._users(f"{self.turned.ends[name]}:0") if name in self.turned.ends else []
        for reader in self.readers.get(name, ()):
            if reader in self.path and not self._is_instead(reader, tensor) and tensor in self.nodes[reader].input:
                found.extend(self._users(f"{reader}:0") if self.nodes[reader].op in SAME else [reader])
        return found

    def _is_instead(self, reader: str, tensor: str) -> bool:
        """What reads a tensor stands for other nodes that read it too."""
        return reader in self.turned.hollow and split(tensor)[0] not in self.turned.hollow

    def _multiplies(self, tensor: str, steps: int = 6) -> bool:
        """It is a factor of something else of the image, perhaps scaled or reshaped first: a gate."""
        for user in self._users(tensor):
            node = self.nodes[user]
            others = [text for text in data_inputs(node) if text != tensor]
            if node.op in SCALING and not all(map(self._off_path, others)):
                return True
            if node.op in ENLARGING | SCALING and steps and self._multiplies(f"{user}:0", steps - 1):
                return True
        return False

    def _is_share(self, region: Region) -> bool:
        """What is clipped and scaled to 0..1 multiplies something: a hard sigmoid whose summand is in the bias before it."""
        form = region.form
        if form.name == "shifted clip":
            return (form.low, form.high) == (0, 1) and self._multiplies(region.exit)
        ends = form.name == "CappedRelu" and form.low == 0 and form.slope is None and form.high not in (None, 1)
        return ends and self._is_scaled(region.exit, form.high or 1)

    def _is_scaled(self, tensor: str, cap: float, steps: int = 6) -> bool:
        """All that reads it divides it by its cap, perhaps reshaped first, and multiplies something by that."""
        users = self._users(tensor)
        return bool(users) and steps > 0 and all(self._scales(user, tensor, cap, steps) for user in users)

    def _scales(self, user: str, tensor: str, cap: float, steps: int) -> bool:
        node = self.nodes[user]
        if node.op in ENLARGING:
            return self._is_scaled(f"{user}:0", cap, steps - 1)
        by = [self.known(text) for text in data_inputs(node) if text != tensor and self._off_path(text)]
        factor = {"Mul": 1 / cap, "RealDiv": cap, "Div": cap}.get(node.op)
        same = factor and len(by) == 1 and by[0] is not None and np.allclose(by[0], factor, rtol=1e-3)
        return bool(same) and self._multiplies(f"{user}:0")

    def _is_normalised(self, tensor: str) -> bool:
        """An exponential that is summed, or divided: a softmax, spelled out."""
        users = self._users(tensor)
        return any(self.nodes[user].op in ("Sum", "RealDiv", "Div") for user in users)

    def _is_statistic(self, tensor: str) -> bool:
        """It is made of sums, means and the like: a variance, a length, a distance."""
        todo, seen, found = [tensor], set[str](), False
        while todo:
            one = todo.pop()
            if one in seen or self._off_path(one):
                continue
            seen.add(one)
            node = self.nodes[split(one)[0]]
            if node.op in REDUCTIONS:
                found = True
            elif node.op in ELEMENTWISE or node.op in RESHAPING:
                todo.extend(data_inputs(node))
            else:
                return False
        return found

    def _is_guard(self, tensor: str, steps: int = 6) -> bool:
        """All that reads it, perhaps moved or scaled first, is a root, a logarithm, a divisor or a power below 1."""
        users = self._users(tensor)
        return bool(users) and steps > 0 and all(self._guarded(user, tensor, steps) for user in users)

    def _guarded(self, user: str, tensor: str, steps: int) -> bool:
        node = self.nodes[user]
        if node.op in DELICATE:
            return True
        if node.op == "Pow":
            power = self.known(node.input[1]) if self._off_path(node.input[1]) else None
            return power is not None and power.size > 0 and bool((power < 1).all())
        if node.op in ("RealDiv", "Div"):
            return node.input[1] == tensor != node.input[0]
        onward = node.op in RESHAPING
        onward |= node.op in ("Add", "AddV2", "Mul", "Maximum", "Cast") and f"{user}:0" in self.parents
        return onward and self._is_guard(f"{user}:0", steps - 1)

    def _is_whole(self, tensor: str) -> bool:
        """It holds whole numbers, which no gradient passes."""
        node = self.nodes[split(tensor)[0]]
        name = "DstT" if node.op == "Cast" else "T"
        return name in node.attr and tf.dtypes.as_dtype(node.attr[name].type).is_integer

    def _is_place(self, exit_: str) -> bool:
        """A coordinate that is kept inside of what something is looked up in: rounded, it says where."""
        if not self._places or not all(map(self._is_arithmetic, self._users(exit_))):
            return False
        todo, seen = [(exit_, False)], set[tuple[str, bool]]()
        while todo and len(seen) < MOST_READERS:
            one = todo.pop()
            if one in seen:
                continue
            seen.add(one)
            for user in self._users(one[0]):
                whole = one[1] or self._is_whole(f"{user}:0")
                if whole and (user, one[0]) in self._places:
                    return True
                if self._is_arithmetic(user):
                    todo.append((f"{user}:0", whole))
        return False

    def _is_arithmetic(self, name: str) -> bool:
        """It leaves each number by itself, and may bring it to another place."""
        op = self.nodes[name].op
        return op in ELEMENTWISE or op in ENLARGING - {"GatherV2"} or op in ("Pack", "ConcatV2")

    # -- the function of a region

    def _form(self, entry: str, region: frozenset[str]) -> Form:
        if region & self.opaque:
            return OTHER
        rows = self._rows(region)
        if self._is_moved(entry, rows):
            return OTHER
        text = self._text(entry, rows)
        if text not in NAMED:
            NAMED[text] = self._named(entry, rows)
        return NAMED[text]

    def _is_moved(self, entry: str, rows: Sequence[str]) -> bool:
        """It adds another number to each channel first, as most do that begin behind a layer: what lies behind that is an
        activation by itself."""
        first, *others = rows
        if (
            self.straight.issuperset(others)
            or first not in self.straight
            or self.nodes[split(first)[0]].op not in SHIFTS
        ):
            return False
        past = any(entry in self.sources[tensor] for tensor in others)
        return (
            not past
            and any(map(_differs, self._constants([first])))
            and not any(map(_differs, self._constants(others)))
        )

    def _rows(self, region: Iterable[str]) -> list[str]:
        """In the order in which they are computed."""
        return sorted(region, key=lambda tensor: self.rank[split(tensor)[0]])

    def _text(self, entry: str, rows: Sequence[str]) -> str:
        """Two regions with one text compute alike: operations, how they are connected, hashes of constants."""
        ids, parts = {entry: "entry"}, []
        for place, tensor in enumerate(rows):
            node = self.nodes[split(tensor)[0]]
            texts = [ids[source] if source in ids else self._hash(node, source) for source in self.sources[tensor]]
            ids[tensor] = str(place)
            parts.append(f"{meaning(node)}({','.join(texts)})")
        return ";".join(parts)

    def _hash(self, node: NodeDef, tensor: str) -> str:
        value = self._operand(node, tensor)
        return hashlib.sha256(value.tobytes() + f"{value.dtype}{value.shape}".encode()).hexdigest()

    def _operand(self, node: NodeDef, tensor: str) -> Array:
        """A value off the path, shaped so that it broadcasts as the node has it."""
        value = self.known(tensor)
        assert value is not None  # the region is not opaque
        if node.op == "BiasAdd" and attribute(node, "data_format").s == b"NCHW":
            return value.reshape(-1, *[1] * 2)
        return value

    def _constants(self, rows: Sequence[str]) -> list[Array]:
        """The values off the path that these read."""
        return [
            self._operand(self.nodes[split(tensor)[0]], text)
            for tensor in rows
            for text in self.sources[tensor]
            if self._off_path(text)
        ]

    def _named(self, entry: str, rows: Sequence[str]) -> Form:
        constants = self._constants(rows)
        try:
            whole = np.broadcast_shapes(*[value.shape for value in constants])
            size = math.prod(whole)
            some = np.linspace(0, size - 1, min(size, MAX_CHANNELS)).astype(int)
            x = naming.points(_samples(constants))
            y = self._table(entry, rows, whole, some, x)
            form = naming.of_channels(naming.names_of(x, y))
            obeying = Form("Relu", None) if form == RAISED else naming.ungated(form)
            right = size <= len(some) or self._holds(obeying, entry, rows, whole)
        except (
            ValueError,
            TypeError,
        ):  # shapes that do not broadcast, a kind of number that an operation does not take
            return OTHER
        return form if right else OTHER

    def _holds(self, form: Form, entry: str, rows: Sequence[str], whole: tuple[int, ...]) -> bool:
        """Whether every channel is the ReLU that some of them are."""
        if form.name not in RELUS:
            return True
        low, high = self._found_ends(form, entry, rows, whole)
        y = self._table(entry, rows, whole, np.arange(math.prod(whole)), form.sign * (FEW[:, None] + low))
        wide = np.inf if high is None else np.asarray(high - low)
        return bool(np.allclose(y - y[:1], np.clip(FEW[:, None], 0, wide), rtol=1e-6, atol=1e-9) and np.all(wide > 0))

    def _ends(self, region: Region) -> Ends:
        """Where a ReLU is open, shaped as the constants that tell its channels apart."""
        form = region.form
        if form.name not in RELUS or None not in (form.low, form.high):
            return form.low or 0.0, None if form.high is None or math.isinf(form.high) else form.high
        rows = self._rows(region.nodes)
        whole = np.broadcast_shapes(*[value.shape for value in self._constants(rows)])
        low, high = self._found_ends(form, region.entry, rows, whole)
        return _placed(low, whole), None if high is None else _placed(high, whole)

    def _found_ends(self, form: Form, entry: str, rows: Sequence[str], whole: tuple[int, ...]) -> Ends:
        """Where a ReLU opens and closes, of each channel where these differ: told by its values far out and, of one with a
        cap, by where it is half of that."""
        columns = np.arange(math.prod(whole))

        def at(x: Array) -> Array:
            return self._table(entry, rows, whole, columns, form.sign * x)[0]

        if form.name == "Relu":
            low = FAR - at(np.array([FAR])) + at(np.array([-FAR])) if form.low is None else form.low
            return low, None
        top = at(np.array([VERY_FAR]))
        if form.low is not None:
            return form.low, top + form.low if form.high is None else form.high
        below, beyond = np.full(columns.size, -VERY_FAR), np.full(columns.size, VERY_FAR)
        for _ in range(HALVINGS):
            middle = (below + beyond) / 2
            low = at(middle[None]) < top / 2
            below, beyond = np.where(low, middle, below), np.where(low, beyond, middle)
        low = np.where(np.abs(beyond - top / 2) < 1e-9, 0.0, beyond - top / 2)
        return low, low + top

    def _table(self, entry: str, rows: Sequence[str], whole: tuple[int, ...], columns: Array, x: Array) -> Array:
        """The region's values [points, columns], for the chosen ones of the places that its constants tell apart, at the same
        points `x` or at others in each column."""
        have: dict[str, Array] = {entry: np.repeat(x[:, None], len(columns), 1) if x.ndim == 1 else x}
        with np.errstate(all="ignore"):
            for tensor in rows:
                node = self.nodes[split(tensor)[0]]
                inputs = [
                    have[source] if source in have else _column(self._operand(node, source), whole, columns)
                    for source in self.sources[tensor]
                ]
                have[tensor] = compute(node, inputs)
        return np.broadcast_to(have[rows[-1]], (len(x), len(columns)))


def _is_capping(form: Form, behind: Form) -> bool:
    """The second is the cap of a threshold."""
    ends = [("Threshold", "CappedRelu"), ("CappedThreshold", "Relu")]
    return (form.name, behind.name) in ends and behind.low == 0 and behind.slope is None


def _hands_on(node: NodeDef) -> bool:
    """Whether a number comes out as it went in, but for the precision of its type."""
    if node.op != "Cast":
        return node.op in SAME
    return all(tf.dtypes.as_dtype(attribute(node, name).type).is_floating for name in ("SrcT", "DstT"))


def _differs(value: Array) -> bool:
    """It holds more than one number."""
    return bool(value.size > 1 and (value != value.flat[0]).any())


def _placed(end: float | Array, shape: tuple[int, ...]) -> float | Array:
    return end.reshape(shape) if isinstance(end, np.ndarray) else end


def _column(value: Array, whole: tuple[int, ...], columns: Array) -> Array:
    if value.size == 1:
        return value.reshape(1, 1)
    return np.broadcast_to(value, whole).reshape(-1)[columns][None]


def _samples(constants: Iterable[Array]) -> Iterator[float]:
    """Some of the numbers of each constant."""
    for value in constants:
        if value.dtype != bool and value.size:
            flat = value.ravel()
            yield from flat if flat.size <= 8 else flat[:: -(-flat.size // 6)]
