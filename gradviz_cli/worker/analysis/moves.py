"""Operations that move numbers about and leave their values alone, as a table: which inputs hold the numbers."""

from __future__ import annotations

from dataclasses import dataclass

from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.worker.graph.graph import attribute, data_inputs


@dataclass(frozen=True)
class Mover:
    """One operation that moves numbers.

    Attributes
    ----------
    type : str
        The attribute with their type.
    places : tuple of int
        The inputs that hold numbers; the others are sizes and indices.
    joins : bool
        It joins `N` tensors, of which the first is at the first place.
    zeros : bool
        It puts zeros beside the numbers.
    """

    type: str = "T"
    places: tuple[int, ...] = (0,)
    joins: bool = False
    zeros: bool = False

    def numbers(self, node: NodeDef) -> list[str]:
        """The inputs of a node that hold numbers."""
        inputs = data_inputs(node)
        if self.joins:
            first = self.places[0]
            return inputs[first : first + attribute(node, "N").i]
        return [inputs[place] for place in self.places if place < len(inputs)]


MOVERS: dict[str, Mover] = {
    **dict.fromkeys(("Identity", "Snapshot", "StopGradient", "PreventGradient", "EnsureShape"), Mover()),
    **dict.fromkeys(("Reshape", "Squeeze", "ExpandDims", "Transpose", "BroadcastTo", "Tile"), Mover()),
    **dict.fromkeys(("StridedSlice", "Slice", "Unpack", "SplitV", "ReverseV2", "Reverse", "ReverseSequence"), Mover()),
    **dict.fromkeys(("MirrorPad", "Roll", "ResizeNearestNeighbor", "SpaceToDepth", "DepthToSpace"), Mover()),
    **dict.fromkeys(("BatchToSpaceND", "BatchToSpace"), Mover()),
    **dict.fromkeys(("Pad", "SpaceToBatchND", "SpaceToBatch"), Mover(zeros=True)),
    "PadV2": Mover(places=(0, 2)),
    "Split": Mover(places=(1,)),
    **dict.fromkeys(("Gather", "GatherV2", "GatherNd"), Mover("Tparams")),
    **dict.fromkeys(("ConcatV2", "Pack"), Mover(joins=True)),
    "Concat": Mover(places=(1,), joins=True),
    **dict.fromkeys(("Select", "SelectV2"), Mover(places=(1, 2))),
}
# Resizes that mix neighbours; they give floats whatever they take.
MIXERS = frozenset({"ResizeBilinear", "ResizeBicubic", "ResizeArea", "CropAndResize", "ScaleAndTranslate"})
SIZES = frozenset({"Shape", "ShapeN", "Size", "Rank"})
