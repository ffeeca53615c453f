"""Finds the activations that a gradient passes, whatever they are spelled like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.worker.graph.graph import (
    consumers,
    split,
)
from gradviz_cli.worker.graph.match import maker, one_plus_exp_minus, scalar, sigmoid_of

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


def find(nodes: Mapping[str, NodeDef], path: set[str]) -> tuple[list[Activation], int]:
    """All activations on the path, each once, and the number of gates (hard-swish, hard-sigmoid) among their ops."""
    search = _Search(nodes, path, consumers(nodes))
    gates = {name for name in sorted(path) if search.is_gate(name)}
    taken = set(gates)
    found = search.leaky(taken) + search.smooth(taken) + search.capped(taken)
    for name in sorted(path - taken):
        if nodes[name].op == "Relu":
            found.append(Activation("Relu", (Mark(name, "relu"),)))
        elif nodes[name].op == "Relu6":
            found.append(Activation("Relu6", (Mark(name, "relu6"),)))
        elif search.floor(name) is not None:
            found.append(Activation(nodes[name].op.removesuffix("V2"), (search.floor(name),)))
    return found, len(gates)


@dataclass(frozen=True)
class _Search:
    nodes: Mapping[str, NodeDef]
    path: set[str]
    readers: Mapping[str, list[str]]

    # -- small words -----------------------------------------------------------------------------------------------

    def operands(self, name: str) -> tuple[int, str, float] | None:
        """(position of x, x, c) of a node that combines x on the path with a constant c."""
        inputs = self.nodes[name].input
        for source, other in ((0, 1), (1, 0)):
            if len(inputs) >= 2 and split(inputs[source])[0] in self.path:
                value = scalar(self.nodes, inputs[other])
                if value is not None:
                    return source, inputs[source], value
        return None

    def maker(self, tensor: str) -> str:
        """The node that makes a tensor, seen through Identity."""
        return maker(self.nodes, tensor).name

    def users(self, name: str) -> list[str]:
        """The nodes on the path that read a node, seen through Identity."""
        out: list[str] = []
        for reader in self.readers.get(name, ()):
            if reader in self.path:
                out.extend(self.users(reader) if self.nodes[reader].op == "Identity" else [reader])
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
        condition = self.nodes[self.maker(self.nodes[name].input[0])]
        if condition.op not in COMPARISONS:
            return None
        above = COMPARISONS[condition.op]
        x, other = condition.input[:2]
        if scalar(self.nodes, x) == 0:
            above, x, other = not above, other, x
        source = 1 if above else 2
        yes, no = self.nodes[name].input[source], self.nodes[name].input[3 - source]
        if scalar(self.nodes, other) != 0 or self.maker(yes) != self.maker(x):
            return None
        return source, yes, no

    def cap(self, name: str) -> Mark | None:
        """Minimum(x, c) with c > 0."""
        if self.nodes[name].op != "Minimum":
            return None
        found = self.operands(name)
        return Mark(name, "cap", found[0], high=found[2]) if found and found[2] > 0 else None

    def relu(self, name: str) -> Mark | None:
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
            return node.input[0], 6.0
        if node.op == "ClipByValue" and scalar(self.nodes, node.input[1]) == 0:
            high = scalar(self.nodes, node.input[2])
            return (node.input[0], high) if high else None
        for outer, inner in ((self.cap, self.relu), (self.relu, self.cap)):
            mark = outer(name)
            if mark is None:
                continue
            below = self.maker(node.input[mark.source])
            under = inner(below) if below in self.path else None
            if under is not None:
                return self.nodes[below].input[under.source], min(filter(None, (mark.high, under.high)))
        return None

    def capped(self, taken: set[str]) -> list[Activation]:
        """ReLUs with a cap other than Relu6: ClipByValue(x, 0, c), Minimum over ReLU, ReLU over Minimum."""
        found = []
        for name in sorted(self.path - taken):
            node = self.nodes[name]
            if node.op == "ClipByValue" and self.bounds(name):
                found.append(Activation("CappedRelu", (Mark(name, "clip", high=self.bounds(name)[1]),)))
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
        below = self.maker(self.nodes[name].input[cap.source])
        if below in self.path and below not in taken and self.relu(below):
            group.insert(0, self.relu(below))
        users = self.users(name)
        if users and all(self.relu(user) and user not in taken for user in users):
            group.extend(self.relu(user) for user in users)
        return group if len(group) > 1 else []

    def leaky(self, taken: set[str]) -> list[Activation]:
        """PReLU and leaky ReLU spelled with ReLUs or Maximum; marks their parts as taken."""
        found = []
        for name in sorted(self.path - taken):
            node = self.nodes[name]
            if node.op == "Maximum":
                for small, x in ((node.input[0], node.input[1]), (node.input[1], node.input[0])):
                    if self.scaled(small, x):
                        found.append(Activation("LeakyRelu", entry=x, exit=f"{name}:0"))
                        taken.add(name)
                        break
            elif node.op in SELECTS and self.choice(name):
                activation = self.chosen(name)
                if activation:
                    found.append(activation)
                    taken.add(name)
            elif node.op == "Relu" and self.folded(name):
                found.append(self.folded(name))
                taken.add(name)
            elif node.op == "Relu" and self.nodes[self.maker(node.input[0])].op == "Neg":
                activation = self.prelu(name)
                if activation:
                    taken.update(split(part)[0] for part in activation[1])
                    found.append(activation[0])
        return found

    def chosen(self, name: str) -> Activation | None:
        """where(x > 0, x, y) with y = a x (leaky ReLU), y = alpha x with a learnt alpha (PReLU), y = a (exp(x) - 1) (ELU)."""
        _, x, other = self.choice(name)
        exit = f"{name}:0"
        node = self.nodes[self.maker(other)]
        if self.scaled(other, x):
            return Activation("LeakyRelu", entry=x, exit=exit)
        if node.op == "Mul" and x in node.input and any(split(text)[0] not in self.path for text in node.input):
            return Activation("PRelu", entry=x, exit=exit)
        return Activation("Elu", entry=x, exit=exit) if self.grown(other) == self.maker(x) else None

    def grown(self, tensor: str) -> str | None:
        """The maker of x in exp(x) - 1, which a constant may scale."""
        node = self.nodes[self.maker(tensor)]
        if node.op == "Mul" and self.operands(node.name):
            node = self.nodes[self.maker(self.operands(node.name)[1])]
        if node.op == "Sub" and scalar(self.nodes, node.input[1]) == 1:
            node = self.nodes[self.maker(node.input[0])]
            return self.maker(node.input[0]) if node.op == "Exp" else None
        return self.maker(node.input[0]) if node.op == "Expm1" else None

    def scaled(self, tensor: str, x: str) -> bool:
        """True when `tensor` is x times a constant between 0 and 1."""
        node = self.nodes[self.maker(tensor)]
        if node.op != "Mul" or x not in node.input:
            return False
        factor = scalar(self.nodes, node.input[1] if node.input[0] == x else node.input[0])
        return factor is not None and 0 < factor < 1

    def folded(self, name: str) -> Activation | None:
        """relu(x) + alpha (x - |x|) / 2, as ONNX's PRelu is written."""
        x = self.nodes[name].input[0]
        folds = [user for user in self.users(self.maker(x)) if self.nodes[user].op == "Abs"]
        steps = [user for fold in folds for user in self.users(fold) if self.nodes[user].op == "Sub"]
        for total in self.users(name):
            if self.nodes[total].op in ("Add", "AddV2") and any(self.reaches(step, total, 4) for step in steps):
                return Activation("PRelu", entry=x, exit=f"{total}:0")
        return None

    def prelu(self, negative: str) -> tuple[Activation, tuple[str, ...]] | None:
        """relu(x) - alpha * relu(-x), from the node of its second ReLU."""
        x = self.nodes[self.maker(self.nodes[negative].input[0])].input[0]
        for positive in self.users(self.maker(x)):
            if self.nodes[positive].op != "Relu" or positive == negative:
                continue
            for total in self.users(positive):
                if self.nodes[total].op in ("Add", "AddV2", "Sub") and self.reaches(negative, total, 4):
                    return Activation("PRelu", entry=x, exit=f"{total}:0"), (positive, negative)
        return None

    def reaches(self, start: str, end: str, steps: int) -> bool:
        """True when `end` reads `start` through at most `steps` multiplications or negations."""
        names = {start}
        for _ in range(steps):
            names = {user for name in names for user in self.users(name)}
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
                found.append(Activation(SMOOTH_OPS[node.op], entry=node.input[0], exit=f"{name}:0"))
            elif sigmoid_of(self.nodes, name):
                found.extend(self.product("Silu", name, sigmoid_of(self.nodes, name)))
            elif node.op in ("RealDiv", "Div") and one_plus_exp_minus(self.nodes, node.input[1]):
                found.extend(self.quotient(name, one_plus_exp_minus(self.nodes, node.input[1])))
            elif node.op in ("Erf", "Erfc", "Tanh"):
                found.extend(self.gelu(name))
        return found

    def mish(self, taken: set[str]) -> list[Activation]:
        """x tanh(softplus(x)); its softplus is no activation of its own."""
        found = []
        for name in sorted(self.path - taken):
            below = self.maker(self.nodes[name].input[0]) if self.nodes[name].op == "Tanh" else name
            if self.nodes[below].op == "Softplus" and below != name:
                activations = self.product("Mish", name, self.nodes[below].input[0])
                taken.update([name, below] if activations else [])
                found.extend(activations)
        return found

    def quotient(self, name: str, x: str) -> list[Activation]:
        """x / (1 + exp(-x))."""
        entry = self.nodes[name].input[0]
        return [Activation("Silu", entry=entry, exit=f"{name}:0")] if entry in self.sources(x) else []

    def sources(self, x: str) -> set[str]:
        """x, and what it was scaled from."""
        below = self.nodes[self.maker(x)]
        return {x, *below.input} if below.op == "Mul" else {x}

    def product(self, label: str, factor: str, x: str) -> list[Activation]:
        """x * factor(x), the factor's input perhaps scaled by a constant."""
        sources = self.sources(x)
        for user in self.users(factor):
            node = self.nodes[user]
            if node.op == "Mul" and sources & set(node.input):
                entry = next(tensor for tensor in node.input if tensor in sources)
                return [Activation(label, entry=entry, exit=f"{user}:0")]
        return []

    def gelu(self, name: str) -> list[Activation]:
        """x/2 (1 + erf(x / sqrt 2)) or its tanh form: the product above the error function that x enters too."""
        below = self.chain(self.nodes[name].input[0])
        climb, found = name, []
        for _ in range(4):
            users = self.users(climb)
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
        found = [tensor]
        for _ in range(8):
            node = self.nodes[split(tensor)[0]]
            if node.op in ("Neg", "Identity"):
                tensor = node.input[0]
            elif node.op in ("Mul", "RealDiv", "AddV2", "Add"):
                constant_operand = self.operands(node.name)
                if constant_operand is None and node.op in ("Mul", "RealDiv"):
                    break
                tensor = constant_operand[1] if constant_operand else node.input[0]
            else:
                break
            found.append(tensor)
        return found
