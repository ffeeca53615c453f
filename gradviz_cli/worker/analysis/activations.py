"""Finds the activations that a gradient passes, whatever they are spelled like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.worker.graph.graph import (
    ARGUMENT,
    Graph,
    ancestors,
    descendants,
    functions_called,
    node_of,
    source,
    split,
    walk,
)
from gradviz_cli.worker.graph.match import maker, one_plus_exp_minus, origin, scalar, sigmoid_of
from gradviz_cli.worker.graph.question import Question

# What `--activations relu` covers; everything else that is found needs `--activations all`.
RELUS = frozenset({"Relu", "Relu6", "Maximum", "Select", "CappedRelu"})
SELECTS = ("Select", "SelectV2")
# Comparison -> whether it asks for what is above.
COMPARISONS = {"Greater": True, "GreaterEqual": True, "Less": False, "LessEqual": False}
SMOOTH_OPS = {"LeakyRelu": "LeakyRelu", "Elu": "Elu", "Selu": "Selu", "Softplus": "Softplus"}


@dataclass(frozen=True)
class Mark:
    """One node whose gradient is replaced. `kind` says how its gate is computed, `source` which input carries the image."""

    node: str
    kind: str
    source: int = 0
    low: float = 0.0
    high: float = 0.0


@dataclass(frozen=True)
class Activation:
    """One activation as a person counts them; several nodes when it is spelled out.

    `name` is the type it is reported as. `marks` are what a rule acts on; for a smooth activation the pair
    (`entry`, `exit`) of tensors stands in their place.
    """

    name: str
    marks: tuple[Mark, ...] = ()
    entry: str = ""
    exit: str = ""


@dataclass(frozen=True)
class Found:
    """The activations between the image and the score, and which of them obey the rule.

    Attributes
    ----------
    which : str
        `relu`: those of RELUS obey; `all`: smooth and leaky ones too.
    top : tuple of Activation
        Those of the graph itself.
    inside : dict
        Function of a loop or branch on the path -> those in it.
    gates : int
        Gates (hard-swish, hard-sigmoid) among their operations; these never obey.
    """

    which: str
    top: tuple[Activation, ...] = ()
    inside: Mapping[str, tuple[Activation, ...]] = field(default_factory=dict)
    gates: int = 0

    def obeying(self, function: str | None = None) -> list[Activation]:
        """Those of the graph, or of one of its functions, that obey."""
        here = self.top if function is None else self.inside.get(function, ())
        return [one for one in here if self.obeys(one)]

    def obeys(self, activation: Activation) -> bool:
        """Whether a rule acts on it."""
        return self.which == "all" or activation.name in RELUS

    @property
    def counts(self) -> dict[str, tuple[int, int]]:
        """Type -> (how many, how many of these obey)."""
        counts: dict[str, tuple[int, int]] = {}
        for activation in (*self.top, *(one for inside in self.inside.values() for one in inside)):
            seen, done = counts.get(activation.name, (0, 0))
            counts[activation.name] = (seen + 1, done + self.obeys(activation))
        return counts

    @property
    def patched(self) -> int:
        """How many obey."""
        return sum(done for _, done in self.counts.values())

    @property
    def left(self) -> dict[str, int]:
        """Type -> how many stay as they are."""
        return {name: seen - done for name, (seen, done) in self.counts.items() if seen > done}


def find_all(graph: Graph, question: Question) -> Found:
    """Every activation between the image and the score, in loops and branches too."""
    path = question.path(graph)
    top, gates = find(graph.nodes, path)
    inside: dict[str, tuple[Activation, ...]] = {}
    for name in functions_called([graph.nodes[one] for one in path], graph.functions):
        nodes, results = graph.functions[name].nodes, graph.functions[name].results
        below = descendants(nodes, [one for one, node in nodes.items() if node.op == ARGUMENT])
        activations, more = find(nodes, below & ancestors(nodes, results))
        inside[name], gates = tuple(activations), gates + more
    return Found(question.activations, tuple(top), inside, gates)


def find(nodes: Mapping[str, NodeDef], path: set[str]) -> tuple[list[Activation], int]:
    """All activations on the path, each once, and the number of gates (hard-swish, hard-sigmoid) among their ops."""
    search = _Search(nodes, path, _readers(nodes, path))
    gates = {name for name in sorted(path) if search.is_gate(name)}
    taken = set(gates)
    found = search.leaky(taken) + search.smooth(taken) + search.capped(taken)
    for name in sorted(path - taken):
        if nodes[name].op == "Relu":
            found.append(Activation("Relu", (Mark(name, "relu"),)))
        elif nodes[name].op == "Relu6":
            found.append(Activation("Relu6", (Mark(name, "relu6"),)))
        elif (floor := search.floor(name)) is not None:
            found.append(Activation(nodes[name].op.removesuffix("V2"), (floor,)))
    return found, len(gates)


def _readers(nodes: Mapping[str, NodeDef], path: set[str]) -> dict[str, list[str]]:
    """Tensor -> the nodes on the path that read it."""
    readers: dict[str, list[str]] = {}
    for name, node in nodes.items():
        for text in node.input if name in path else ():
            readers.setdefault(text, []).append(name)
    return readers


@dataclass(frozen=True)
class _Search:
    nodes: Mapping[str, NodeDef]
    path: set[str]
    readers: Mapping[str, list[str]]

    # -- small words -----------------------------------------------------------------------------------------------

    def operands(self, name: str) -> tuple[int, str, float] | None:
        """(position of x, x, c) of a node that combines x on the path with a constant c."""
        inputs = self.nodes[name].input
        for place, other in ((0, 1), (1, 0)):
            if len(inputs) >= 2 and split(inputs[place])[0] in self.path:
                value = scalar(self.nodes, inputs[other])
                if value is not None:
                    return place, inputs[place], value
        return None

    def maker(self, tensor: str) -> str:
        """The name of the node that makes a tensor, seen through Identity."""
        return maker(self.nodes, tensor).name

    def input(self, name: str, index: int = 0) -> str:
        """One of the tensors that a node reads."""
        return source(self.nodes[name], index)

    def users(self, tensor: str) -> list[str]:
        """The nodes on the path that read a tensor, seen through Identity."""
        out: list[str] = []
        for reader in self.readers.get(tensor, ()):
            out.extend(self.users(f"{reader}:0") if self.nodes[reader].op == "Identity" else [reader])
        return out

    def floor(self, name: str) -> Mark | None:
        """Maximum(x, 0) or where(x > 0, x, 0): a ReLU; Maximum(x, eps) is a clamp and none."""
        if self.nodes[name].op in SELECTS:
            choice = self.choice(name)
            return Mark(name, "floor", choice[0]) if choice and scalar(self.nodes, choice[2]) == 0 else None
        if self.nodes[name].op != "Maximum":
            return None
        found = self.operands(name)
        return Mark(name, "floor", found[0]) if found and found[2] == 0 else None

    def choice(self, name: str) -> tuple[int, str, str] | None:
        """(position of x, x, y) of a node that is x where x > 0 and y elsewhere."""
        condition = maker(self.nodes, self.input(name))
        if condition.op not in COMPARISONS:
            return None
        above = COMPARISONS[condition.op]
        x, other = source(condition, 0), source(condition, 1)
        if scalar(self.nodes, x) == 0:
            above, x, other = not above, other, x
        place = 1 if above else 2
        yes, no = self.input(name, place), self.input(name, 3 - place)
        if scalar(self.nodes, other) != 0 or origin(self.nodes, yes) != origin(self.nodes, x):
            return None
        return place, yes, no

    def cap(self, name: str) -> Mark | None:
        """Minimum(x, c) with c > 0."""
        if self.nodes[name].op != "Minimum":
            return None
        found = self.operands(name)
        return Mark(name, "cap", found[0], high=found[2]) if found and found[2] > 0 else None

    def relu(self, name: str) -> Mark | None:
        """Relu, Relu6, or what `floor` finds."""
        if self.nodes[name].op == "Relu6":
            return Mark(name, "relu6", high=6.0)
        return Mark(name, "relu") if self.nodes[name].op == "Relu" else self.floor(name)

    # -- patterns --------------------------------------------------------------------------------------------------

    def is_gate(self, name: str) -> bool:
        """Relu6(x + 3) and its like, clip(x + c/2, 0, c): the gate of hard-swish and hard-sigmoid, no activation."""
        bounds = self.bounds(name)
        if bounds is None:
            return False
        entry, high = bounds
        below = self.maker(entry)
        if below not in self.path or self.nodes[below].op not in ("Add", "AddV2", "BiasAdd"):
            return False
        found = self.operands(below)
        return found is not None and abs(found[2] - high / 2) < 1e-3 * high

    def bounds(self, name: str) -> tuple[str, float] | None:
        """(x, c) when this node, with the ones below it, clips x to 0..c."""
        node = self.nodes[name]
        if node.op == "Relu6":
            return self.input(name), 6.0
        if node.op == "ClipByValue" and scalar(self.nodes, self.input(name, 1)) == 0:
            high = scalar(self.nodes, self.input(name, 2))
            return (self.input(name), high) if high else None
        for outer, inner in ((self.cap, self.relu), (self.relu, self.cap)):
            mark = outer(name)
            if mark is None:
                continue
            below = self.maker(self.input(name, mark.source))
            under = inner(below) if below in self.path else None
            if under is not None:
                return self.input(below, under.source), min(filter(None, (mark.high, under.high)))
        return None

    def capped(self, taken: set[str]) -> list[Activation]:
        """ReLUs with a cap other than Relu6: ClipByValue(x, 0, c), Minimum over ReLU, ReLU over Minimum."""
        found = []
        for name in sorted(self.path - taken):
            bounds = self.bounds(name) if self.nodes[name].op == "ClipByValue" else None
            if bounds is not None:
                found.append(Activation("CappedRelu", (Mark(name, "clip", high=bounds[1]),)))
                taken.add(name)
                continue
            group = self.capped_group(name, taken)
            if group:
                taken.update(mark.node for mark in group)
                found.append(Activation("CappedRelu", tuple(group)))
        return found

    def capped_group(self, name: str, taken: set[str]) -> list[Mark]:
        """The marks of one capped ReLU around a Minimum node: the ReLU below it, and the Maximum above it."""
        cap = self.cap(name)
        if cap is None or name in taken:
            return []
        group = [cap]
        below = self.maker(self.input(name, cap.source))
        under = self.relu(below) if below in self.path and below not in taken else None
        if under is not None:
            group.insert(0, under)
        users = self.users(f"{name}:0")
        above = [mark for user in users if user not in taken and (mark := self.relu(user)) is not None]
        if len(above) == len(users):
            group.extend(above)
        return group if len(group) > 1 else []

    def leaky(self, taken: set[str]) -> list[Activation]:
        """PReLU and leaky ReLU spelled with ReLUs or Maximum; marks their parts as taken."""
        found = []
        for name in sorted(self.path - taken):
            node = self.nodes[name]
            if node.op == "Maximum":
                first, second = self.input(name), self.input(name, 1)
                for small, x in ((first, second), (second, first)):
                    if self.scaled(small, x):
                        found.append(Activation("LeakyRelu", entry=x, exit=f"{name}:0"))
                        taken.add(name)
                        break
            elif node.op in SELECTS or node.op == "Relu":
                activation, parts = self.chosen(name) if node.op in SELECTS else self.parametric(name)
                if activation is not None:
                    found.append(activation)
                    taken.update(parts)
        return found

    def parametric(self, name: str) -> tuple[Activation | None, tuple[str, ...]]:
        """PReLU around a ReLU, and the ReLUs that it is made of."""
        activation = self.folded(name)
        if activation is None and maker(self.nodes, self.input(name)).op == "Neg":
            return self.prelu(name)
        return activation, (name,)

    def chosen(self, name: str) -> tuple[Activation | None, tuple[str, ...]]:
        """where(x > 0, x, y) with y = a x (leaky ReLU), y = alpha x with a learnt alpha (PReLU), y = a (exp(x) - 1) (ELU)."""
        choice = self.choice(name)
        if choice is None:
            return None, ()
        _, x, other = choice
        node = maker(self.nodes, other)
        if self.scaled(other, x):
            kind = "LeakyRelu"
        elif node.op == "Mul" and x in node.input and any(split(text)[0] not in self.path for text in node.input):
            kind = "PRelu"
        elif self.grown(other) == origin(self.nodes, x):
            kind = "Elu"
        else:
            return None, ()
        return Activation(kind, entry=x, exit=f"{name}:0"), (name,)

    def grown(self, tensor: str) -> str | None:
        """The x of exp(x) - 1, which a constant may scale."""
        node = maker(self.nodes, tensor)
        operands = self.operands(node.name) if node.op == "Mul" else None
        if operands is not None:
            node = maker(self.nodes, operands[1])
        if node.op == "Sub" and scalar(self.nodes, source(node, 1)) == 1:
            node = maker(self.nodes, source(node, 0))
            return origin(self.nodes, source(node, 0)) if node.op == "Exp" else None
        return origin(self.nodes, source(node, 0)) if node.op == "Expm1" else None

    def scaled(self, tensor: str, x: str) -> bool:
        """True when `tensor` is x times a constant between 0 and 1."""
        node = maker(self.nodes, tensor)
        if node.op != "Mul" or x not in node.input:
            return False
        factor = scalar(self.nodes, source(node, 1 if source(node, 0) == x else 0))
        return factor is not None and 0 < factor < 1

    def folded(self, name: str) -> Activation | None:
        """relu(x) + alpha (x - |x|) / 2, as ONNX's PRelu is written."""
        x = self.input(name)
        folds = [user for user in self.users(origin(self.nodes, x)) if self.nodes[user].op == "Abs"]
        steps = [user for fold in folds for user in self.users(f"{fold}:0") if self.nodes[user].op == "Sub"]
        for total in self.users(f"{name}:0"):
            if self.nodes[total].op in ("Add", "AddV2") and any(self.reaches(step, total, 4) for step in steps):
                return Activation("PRelu", entry=x, exit=f"{total}:0")
        return None

    def prelu(self, negative: str) -> tuple[Activation | None, tuple[str, ...]]:
        """relu(x) - alpha * relu(-x), from the node of its second ReLU."""
        x = source(maker(self.nodes, self.input(negative)), 0)
        for positive in self.users(origin(self.nodes, x)):
            if self.nodes[positive].op != "Relu" or positive == negative:
                continue
            for total in self.users(f"{positive}:0"):
                if self.nodes[total].op in ("Add", "AddV2", "Sub") and self.reaches(negative, total, 4):
                    return Activation("PRelu", entry=x, exit=f"{total}:0"), (positive, negative)
        return None, ()

    def reaches(self, start: str, end: str, steps: int) -> bool:
        """True when `end` reads `start` through at most `steps` multiplications or negations."""
        names = {start}
        for _ in range(steps):
            names = {user for name in names for user in self.users(f"{name}:0")}
            if end in names:
                return True
            names = {name for name in names if self.nodes[name].op in ("Mul", "Neg")}
        return False

    def smooth(self, taken: set[str]) -> list[Activation]:
        """LeakyRelu, ELU, SELU, softplus as ops; SiLU, Mish and GELU from their parts."""
        found = self.mish(taken)
        for name in sorted(self.path - taken):
            node = self.nodes[name]
            if node.op in SMOOTH_OPS:
                found.append(Activation(SMOOTH_OPS[node.op], entry=self.input(name), exit=f"{name}:0"))
            elif x := sigmoid_of(self.nodes, name):
                found.extend(self.product("Silu", name, x))
            elif node.op in ("RealDiv", "Div") and (x := one_plus_exp_minus(self.nodes, self.input(name, 1))):
                found.extend(self.quotient(name, x))
            elif node.op in ("Erf", "Erfc", "Tanh"):
                found.extend(self.gelu(name))
        return found

    def mish(self, taken: set[str]) -> list[Activation]:
        """x tanh(softplus(x)); its softplus is no activation of its own."""
        found = []
        for name in sorted(self.path - taken):
            below = self.maker(self.input(name)) if self.nodes[name].op == "Tanh" else name
            if self.nodes[below].op == "Softplus" and below != name:
                activations = self.product("Mish", name, self.input(below))
                taken.update([name, below] if activations else [])
                found.extend(activations)
        return found

    def quotient(self, name: str, x: str) -> list[Activation]:
        """x / (1 + exp(-x))."""
        entry = self.input(name)
        return [Activation("Silu", entry=entry, exit=f"{name}:0")] if entry in self.sources(x) else []

    def sources(self, x: str) -> set[str]:
        """x, and what it was scaled from."""
        below = maker(self.nodes, x)
        return {x, *below.input} if below.op == "Mul" else {x}

    def product(self, label: str, factor: str, x: str) -> list[Activation]:
        """x * factor(x), the factor's input perhaps scaled by a constant."""
        sources = self.sources(x)
        for user in self.users(f"{factor}:0"):
            node = self.nodes[user]
            if node.op == "Mul" and sources & set(node.input):
                entry = next(tensor for tensor in node.input if tensor in sources)
                return [Activation(label, entry=entry, exit=f"{user}:0")]
        return []

    def gelu(self, name: str) -> list[Activation]:
        """x/2 (1 + erf(x / sqrt 2)) or its tanh form: the product above the error function that x enters too."""
        below = self.chain(self.input(name))
        climb, found = name, []
        for _ in range(4):
            users = self.users(f"{climb}:0")
            if len(users) != 1 or self.nodes[users[0]].op not in ("Add", "AddV2", "Sub", "Mul"):
                break
            climb = users[0]
            node = self.nodes[climb]
            beside = [] if node.op != "Mul" else [tensor for text in node.input for tensor in self.chain(text)]
            common = [tensor for tensor in below if tensor in beside]
            if common:
                found = [Activation("Gelu", entry=common[0], exit=f"{climb}:0")]
        return found

    def chain(self, tensor: str) -> list[str]:
        """A tensor and those below it through constant factors, negations and the cubic term of GELU."""
        return list(walk(tensor, self.below, 8))

    def below(self, tensor: str) -> str | None:
        """One link of `chain`."""
        node = node_of(self.nodes, tensor)
        if node.op in ("Neg", "Identity"):
            return source(node, 0)
        if node.op not in ("Mul", "RealDiv", "AddV2", "Add"):
            return None
        operands = self.operands(node.name)
        if operands is None:
            return None if node.op in ("Mul", "RealDiv") else source(node, 0)
        return operands[1]
