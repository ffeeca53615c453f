"""What the object graph says of a traced function: the tensors and the Python values that each trace was made for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef
from tensorflow.core.protobuf.saved_object_graph_pb2 import SavedObject, SavedObjectGraph
from tensorflow.core.protobuf.struct_pb2 import StructuredValue

# A Python argument of this name says whether the model learns; nobody means to explain a model while it does.
LEARNING = ("training", "is_training")
MOST = 500  # traces are compared each with each
_VALUES = ("bool_value", "int64_value", "float64_value", "string_value", "none_value")


@dataclass(frozen=True)
class Trace:
    """One trace of a function.

    Attributes
    ----------
    function : str
        Its name in the library.
    number : int
        Its place among the traces of the function.
    tensors : tuple of (int, tuple of int or None)
        Type and shape of each tensor that it takes; -1 for an open size, None for an open rank.
    values : tuple of (str, str)
        Name and value of each argument that is no tensor.
    """

    function: str
    number: int
    tensors: tuple[tuple[int, tuple[int, ...] | None], ...]
    values: tuple[tuple[str, str], ...]

    def learns(self, value: str) -> bool:
        """Whether it was traced with `training=value`."""
        return any((name, value) in self.values for name in LEARNING)

    def covers(self, other: Trace) -> bool:
        """Whether it computes the same of whatever `other` takes."""
        return (
            self.values == other.values
            and len(self.tensors) == len(other.tensors)
            and all(_covers(*pair) for pair in zip(self.tensors, other.tensors, strict=True))
        )

    @property
    def described(self) -> str:
        """`training=False`."""
        return ", ".join(f"{name}={value}" for name, value in self.values)


def _covers(one: tuple[int, tuple[int, ...] | None], other: tuple[int, tuple[int, ...] | None]) -> bool:
    (dtype, shape), (its_dtype, its_shape) = one, other
    if shape is None or its_shape is None:
        return dtype == its_dtype and shape is None
    same_rank = dtype == its_dtype and len(shape) == len(its_shape)
    return same_rank and all(size in (-1, its) for size, its in zip(shape, its_shape, strict=True))


def traces_of(meta: MetaGraphDef, node: SavedObject) -> list[Trace]:
    """All traces of an object that is a function; of others none."""
    kind = node.WhichOneof("kind")
    if kind == "bare_concrete_function":
        names, spec = [node.bare_concrete_function.concrete_function_name], node.bare_concrete_function.function_spec
    elif kind == "function":
        names, spec = list(node.function.concrete_functions), node.function.function_spec
    else:
        return []
    arguments = _arguments(spec.fullargspec)
    known = meta.object_graph_def.concrete_functions
    return [_trace(meta.object_graph_def, one, place, arguments) for place, one in enumerate(names) if one in known]


def preferred(traces: Sequence[Trace]) -> Trace | None:
    """The trace that stands for a function: of a model that does not learn, for as many images as there are; None
    where that leaves several which compute different things.
    """
    still = [one for one in traces if one.learns("False")] or [one for one in traces if not one.learns("True")]
    still = still or list(traces)
    if len(still) > MOST:
        return None
    return next((one for one in still if all(one.covers(other) for other in still)), None)


def _trace(objects: SavedObjectGraph, name: str, place: int, arguments: Sequence[str]) -> Trace:
    leaves = list(_given(objects.concrete_functions[name].canonicalized_input_signature, arguments))
    tensors = [leaf.tensor_spec_value for _, leaf in leaves if leaf.WhichOneof("kind") == "tensor_spec_value"]
    values = [(argument, str(getattr(leaf, kind))) for argument, leaf, kind in _plain(leaves)]
    sized = [
        (one.dtype, None if one.shape.unknown_rank else tuple(dim.size for dim in one.shape.dim)) for one in tensors
    ]
    return Trace(name, place, tuple(sized), tuple(values))


def _plain(leaves: Sequence[tuple[str, StructuredValue]]) -> Iterator[tuple[str, StructuredValue, str]]:
    """The leaves that are Python values, None left out: it is what an argument is that nobody gives."""
    for name, leaf in leaves:
        kind = leaf.WhichOneof("kind")
        if kind in _VALUES and kind != "none_value":
            yield name, leaf, kind


def _arguments(spec: StructuredValue) -> list[str]:
    """Names of the positional arguments, `self` left out."""
    for pair in spec.named_tuple_value.values:
        if pair.key == "args":
            names = [value.string_value for value in pair.value.list_value.values]
            return [name for name in names if name != "self"]
    return []


def _given(signature: StructuredValue, arguments: Sequence[str]) -> Iterator[tuple[str, StructuredValue]]:
    """(name, value) of all that a trace was given: positional arguments, then those with a name."""
    for part in signature.tuple_value.values:
        for place, value in enumerate(part.tuple_value.values):
            yield from _leaves(arguments[place] if place < len(arguments) else f"argument {place}", value)
        for name in sorted(part.dict_value.fields):
            yield from _leaves(name, part.dict_value.fields[name])


def _leaves(name: str, value: StructuredValue) -> Iterator[tuple[str, StructuredValue]]:
    kind = value.WhichOneof("kind")
    if kind in ("tuple_value", "list_value"):
        for inner in getattr(value, kind).values:
            yield from _leaves(name, inner)
    elif kind == "dict_value":
        for key in sorted(value.dict_value.fields):
            yield from _leaves(key, value.dict_value.fields[key])
    else:
        yield name, value


def result_names(objects: SavedObjectGraph, function: str) -> list[str] | None:
    """The keys of the dictionary that a function gives, in the order of its results; None where it gives none."""
    structure = objects.concrete_functions[function].output_signature
    if structure.WhichOneof("kind") != "dict_value":
        return None
    fields = structure.dict_value.fields
    flat = all(one.WhichOneof("kind") == "tensor_spec_value" for one in fields.values())
    return sorted(fields) if flat else None
