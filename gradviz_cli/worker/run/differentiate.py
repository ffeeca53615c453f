"""A graph -> scores and gradients. The only place where the model computes."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from threading import Lock
from types import MappingProxyType

import numpy as np
import tensorflow as tf

from gradviz_cli.errors import ModelUnusable, UsageError
from gradviz_cli.process.protocol import LAYOUTS
from gradviz_cli.rules import PLAIN, RULES
from gradviz_cli.worker.analysis.entry import Entry
from gradviz_cli.worker.graph.device import where_it_computes
from gradviz_cli.worker.graph.graph import Graph, attribute, literal, own_names, placeholder, split
from gradviz_cli.worker.graph.tf_private import import_nodes, make_known
from gradviz_cli.worker.graph.words import first_line
from gradviz_cli.worker.run import gradients as partial_gradients
from gradviz_cli.worker.run.kept_kernels import Turned, keeping_kernels, to_turn, turning
from gradviz_cli.worker.run.rules import calling, obeying
from gradviz_cli.worker.run.targets import (
    SCOPE,
    Explained,
    Form,
    Look,
    Problem,
    Sampled,
    chosen_class,
    given_class,
    named,
    positions,
    winners,
)

# Targets that share one forward pass. Each has a backward pass in the graph, and graphs take time to build.
AT_ONCE = 5
# Bytes of the kernels that several gradients of a graph may lay out, each for itself.
MOST_COPIED = 2**28


class Differentiator:
    """Scores and input gradients of one graph under any of the modes.

    Parameters
    ----------
    changeable : collection of str
        Weights that may be given other values (`change`), for gradients that were built before too.
    """

    def __init__(self, graph: Graph, problem: Problem, changeable: Collection[str] = ()):
        self._problem = problem
        graph, captured = _captured(graph)
        self._captured = {name: where_it_computes(value) for name, value in captured.items()}
        self._changeable = {name: tf.Variable(self._captured.pop(name)) for name in changeable if name in graph.weights}
        self.graph, self._turned = keeping_kernels(graph, self._captured), Turned()
        self._variables = {name: tf.Variable(graph.values[variable]) for name, variable in graph.handles.items()}
        self._dtype = tf.dtypes.as_dtype(attribute(graph.node(problem.fed), "dtype").type)
        self._functions: dict[Form | Sampled, Callable] = {}
        self._building = Lock()
        self.classes: int | None = None  # known once a function is built
        self._limit: int | None = None

    def explain(
        self, images: np.ndarray, targets: Sequence[int], modes: Sequence[str], scores: bool = True
    ) -> Explained:
        """Differentiate the score of each target with respect to each image. May be called from several threads.

        Parameters
        ----------
        images : float32 [n, h, w, c]
            In the range that the model expects.
        targets : sequence of int
            A class index, or -1 - r for the class of rank r (-1: the best).
        scores : bool
            Also give scores and ranks. Without (NaN and -1), deconv of given classes needs no ReLU's state, and so
            little of the forward pass.

        Raises
        ------
        UsageError
            The model has no such class.
        """
        targets = self._of_channel(targets)
        self._check_targets(targets)
        size = self._images_a_call(len(images))
        groups = [targets[start : start + AT_ONCE] for start in range(0, len(targets), AT_ONCE)]
        parts = [self._explain_some(images, group, Form(tuple(modes), len(group), size, scores)) for group in groups]
        index, rank, score, output, *gradients = (_concatenated(column) for column in zip(*parts, strict=True))
        return Explained(index.T, rank.T, score.T, output.T, tuple(gradients))

    @cached_property
    def size(self) -> int | None:
        """Images that a call takes, None for any number."""
        return self._problem.entry.batch or (1 if self._is_one_row() else None)

    def _is_one_row(self) -> bool:
        """Whether all that the model says of several images at once is one row."""
        rows = []

        def run(images: tf.Tensor) -> None:
            with self.imported(images) as (score, *_):
                rows.append(positions(score, self._count(None), self._problem).shape[0])

        tf.function(run, autograph=False).get_concrete_function(self._spec(None))
        return rows == [1]

    def _images_a_call(self, count: int) -> int:
        """What a graph is built for. As their number is known, so are the shapes of most tensors: the graph is smaller, and
        without scores TensorFlow sees that shapes are all that is read of many."""
        return self._problem.entry.batch or (1 if count == 1 else self.size) or count

    def prepare(self, modes: Sequence[str], targets: int = 1) -> None:
        """Build the graph for these modes now, so that what is wrong with it is found before the first image."""
        self.build([Form(tuple(modes), targets)])
        self._of_channel([-1])

    def build(self, forms: Iterable[Form | Sampled]) -> None:
        """The same for any forms."""
        for form in forms:
            form = form._replace(targets=min(form.targets, AT_ONCE))
            if isinstance(form, Form):
                form = form._replace(batch=self._images_a_call(1 if form.looked else self._problem.together))
            self._function(form)

    def weight(self, name: str) -> tf.Tensor:
        """The value of a weight that may be changed."""
        return self._held(name).read_value()

    def change(self, name: str, value: np.ndarray) -> None:
        """Give a weight another value of the same shape."""
        self._held(name).assign(value)

    def _held(self, name: str) -> tf.Variable:
        return self._changeable[name] if name in self._changeable else self._variables[name]

    def _explain_some(self, images: np.ndarray, targets: Sequence[int], form: Form) -> list[np.ndarray]:
        """Columns [t, n] and gradients [t, n, h, w, c], in as many calls as a fixed batch size needs."""
        function, entry = self._function(form), self._problem.entry
        parts = []
        fixed = self._problem.entry.batch or form.batch == 1
        for fed, full in alone(images, form.batch or 1) if fixed else calls(images, form.batch):
            found = [
                value.numpy() for value in function(entry.to_model(fed, self._dtype), tf.constant(targets, tf.int32))
            ]
            columns, gradients = found[:4], found[4:]
            _check_rows(self.graph.score, len(columns[0][0]), len(fed))
            gradients = [np.asarray(entry.from_model(gradient), np.float32)[:full] for gradient in gradients]
            count = len(targets)
            stacked = [_stacked(gradients[place : place + count]) for place in range(0, len(gradients), count)]
            parts.append([*(column[:, :full] for column in columns), *stacked])
        return [_concatenated(column, axis=1) for column in zip(*parts, strict=True)]

    def look(self, image: np.ndarray, targets: Sequence[int], modes: Sequence[str], inner: Sequence[str] = ()) -> Look:
        """One image float32 [h, w, c]: its classes, for `sample` to keep; its gradients under some modes, and under others
        those with respect to the inner tensors. Raises as `explain`."""
        targets = self._of_channel(targets)
        self._check_targets(targets)
        groups = [targets[start : start + AT_ONCE] for start in range(0, len(targets), AT_ONCE)]
        looks = [self._looked(image, group, tuple(modes), tuple(inner)) for group in groups]
        first = looks[0]
        return Look(
            tuple(np.concatenate(column) for column in zip(*(one.columns for one in looks), strict=True)),
            {mode: np.concatenate([one.gradients[mode] for one in looks]) for mode in modes},
            np.concatenate([one.seeds for one in looks]),
            first.values,
            {
                mode: tuple(np.concatenate(each) for each in zip(*(one.slopes[mode] for one in looks), strict=True))
                for mode in inner
            },
        )

    def _looked(
        self, image: np.ndarray, targets: Sequence[int], modes: tuple[str, ...], inner: tuple[str, ...]
    ) -> Look:
        size, count = self._problem.entry.batch or 1, len(targets)
        function = self._function(Form(modes, count, size, looked=True, inner=inner))
        ((fed, _),) = alone(image[None], size)
        entry = self._problem.entry
        found = [each.numpy() for each in function(entry.to_model(fed, self._dtype), tf.constant(targets, tf.int32))]
        _check_rows(self.graph.score, len(found[0][0]), len(fed))
        columns, found = [column[:, 0] for column in found[:4]], found[4:]
        gradients = [self._of_image(found.pop(0)) for _ in range(len(modes) * count)]
        seeds, values = found[0][:, 0], [self._first(each, len(fed)) for each in found[1 : 1 + len(self.graph.taps)]]
        slopes = [self._first(each, len(fed)) for each in found[1 + len(values) :]]
        taps = len(values)
        by_mode = {mode: slopes[place * count * taps : (place + 1) * count * taps] for place, mode in enumerate(inner)}
        return Look(
            tuple(columns),
            {mode: np.stack(gradients[place * count : (place + 1) * count]) for place, mode in enumerate(modes)},
            seeds,
            tuple(values),
            {mode: tuple(np.stack(each[tap::taps]) for tap in range(taps)) for mode, each in by_mode.items()},
        )

    def _of_image(self, gradient: np.ndarray) -> np.ndarray:
        return np.asarray(self._problem.entry.from_model(gradient), np.float32)[0]

    def _first(self, value: np.ndarray, count: int) -> np.ndarray:
        """Of one image, where the tensor has a batch axis."""
        return value[0] if "N" in LAYOUTS[self._problem.entry.layout] and len(value) == count else value

    def sample(
        self, points: np.ndarray, seeds: np.ndarray, modes: Sequence[str]
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Scores [t, m] of points float32 [m, h, w, c] for the classes that `look` fixed, and by mode their gradients
        [t, m, h, w, c]. In one call where the model takes any number of images. May be called from several threads."""
        groups = [seeds[start : start + AT_ONCE] for start in range(0, len(seeds), AT_ONCE)]
        parts = [self._sampled(points, group, tuple(modes)) for group in groups]
        scores = _concatenated([part[0] for part in parts])
        return scores, {mode: _concatenated([part[1][mode] for part in parts]) for mode in modes}

    def _sampled(
        self, points: np.ndarray, seeds: np.ndarray, modes: tuple[str, ...]
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        function, entry, count = self._function(Sampled(modes, len(seeds))), self._between, len(seeds)
        given = tf.constant(seeds, tf.float32)
        parts = []
        for fed, full in self._calls(points):
            scores, *gradients = (each.numpy() for each in function(entry.to_model(fed, self._dtype), given))
            found = [np.asarray(entry.from_model(each), np.float32)[:full] for each in gradients]
            parts.append((scores[:, :full], found))
        scores = _concatenated([scores for scores, _ in parts], axis=1)
        columns = [_concatenated(column) for column in zip(*(found for _, found in parts), strict=True)]
        by_mode = {mode: np.stack(columns[at * count : (at + 1) * count]) for at, mode in enumerate(modes)}
        return scores, by_mode

    def _calls(self, points: np.ndarray) -> Iterator[tuple[np.ndarray, int]]:
        """The points of each call: all of them at once, where the model takes any number."""
        return alone(points, self.size) if self.size else calls(points, None)

    @property
    def _between(self) -> Entry:
        """The entry of points between whole pixels: a graph that was written for floats takes them as they are."""
        return replace(self._problem.entry, whole=self._problem.entry.whole and not self._dtype.is_floating)

    def numbers(self, points: np.ndarray) -> np.ndarray:
        """What the gradient is with respect to, at points float32 [m, h, w, c]: these themselves, or the first numbers that a
        model makes of files or of whole pixels."""
        if split(self.graph.wrt)[0] == split(self._problem.fed)[0]:
            return points
        parts = []
        for fed, full in self._calls(points):
            found = self._first_numbers(self._between.to_model(fed, self._dtype)).numpy()
            parts.append(np.asarray(self._between.from_model(found), np.float32)[:full])
        return _concatenated(parts)

    @cached_property
    def _first_numbers(self) -> Callable:
        def run(images: tf.Tensor) -> tf.Tensor:
            with self.imported(images) as found:
                return found[2]

        return tf.function(run, autograph=False).get_concrete_function(self._spec(None))

    def resting(self, image: np.ndarray, tensor: str) -> np.ndarray:
        """The scores [p, k] where an inner tensor is zero, at the same places as those of `look`; the image gives what does
        not pass that tensor."""
        spec, entry = self._spec(None), self._problem.entry

        def run(images: tf.Tensor) -> tf.Tensor:
            with self.imported(images, {tensor: 0.0}) as found:
                return positions(found[0], self._count(None), self._problem)

        ((fed, _),) = alone(image[None], self._problem.entry.batch or 1)
        return tf.function(run, autograph=False, input_signature=[spec])(entry.to_model(fed, self._dtype)).numpy()[0]

    def _of_channel(self, targets: Sequence[int]) -> Sequence[int]:
        """The one channel that --output names, where it does: no other is the best."""
        channel = self._problem.channel
        if channel is None:
            return targets
        option = f"--output NAME[..., {channel}]"
        if self._limit is not None and channel >= self._limit:
            raise UsageError(f"{option}: the tensor has {self._limit} channels", f"give 0 to {self._limit - 1}")
        other = next((one for one in targets if one not in (-1, channel)), None)
        if other is not None:
            asked = other if other >= 0 else f"rank{-other}"
            raise UsageError(f"--target {asked}: {option} names channel {channel} alone", "leave one of them out")
        return [channel] * len(targets)

    def _check_targets(self, targets: Sequence[int]) -> None:
        """In the words of whoever asked: all ranks from the first are topK, one of them rankK."""
        ranks = [-1 - target for target in targets if target < 0]
        highest = max([*ranks, *targets], default=0)
        if self._limit is None or highest < self._limit:
            return
        word = "top" if set(range(highest + 1)) <= set(ranks) else "rank"
        asked = f"{word}{highest + 1}" if highest in ranks else highest
        if self._limit == 1:
            raise UsageError(f"--target {asked}: the model has one score", "give 0, or leave out --target")
        remedy = f"give {word}{self._limit} or less" if highest in ranks else f"give 0 to {self._limit - 1}"
        raise UsageError(f"--target {asked}: the model has {self._limit} classes", remedy)

    def _function(self, form: Form | Sampled) -> Callable:
        with self._building:
            if form not in self._functions:
                if isinstance(form, Sampled):
                    spec, wanted = self._spec(None), tf.TensorSpec([form.targets, None, None], tf.float32)
                else:
                    spec, wanted = self._spec(form.batch), tf.TensorSpec([form.targets], tf.int32)
                self._functions[form] = tf.function(
                    lambda images, want: self._build(images, want, form), autograph=False
                ).get_concrete_function(spec, wanted)
            return self._functions[form]

    def _spec(self, batch: int | None) -> tf.TensorSpec:
        entry = replace(self._problem.entry, batch=batch) if batch else self._problem.entry
        return entry.spec(self._dtype)

    def _count(self, batch: int | None) -> int | None:
        """Images of a call, as `positions` takes it."""
        return (batch or self._problem.entry.batch) if "N" in LAYOUTS[self._problem.entry.layout] else 0

    def _build(self, images: tf.Tensor, want: tf.Tensor, form: Form | Sampled) -> list[tf.Tensor]:
        """One forward pass; for each target the four columns, stacked, and for each mode its gradients, one by one."""
        turned = self._turned_for(form)
        with self.imported(images) as found, turning(turned):
            if isinstance(form, Sampled):
                return self._built_for_points(*found[:3], want, form)
            return self._built(*found, want, form)

    def _turned_for(self, form: Form | Sampled) -> Turned | None:
        """The kernels that its gradients read turned round, begun; None where they read them as they lie, as each of several
        gradients lays out a copy of its own."""
        if isinstance(form, Form) and form.inner:
            return None
        kernels = to_turn(self.graph, self._captured)
        copies = len(form.modes) * form.targets
        if copies > 1 and copies * sum(each.dtype.size * each.shape.num_elements() for each in kernels) > MOST_COPIED:
            return None
        self._turned.begin(kernels)
        return self._turned

    def _built(
        self,
        score: tf.Tensor,
        output: tf.Tensor,
        wrt: tf.Tensor,
        shown: tf.Tensor,
        taps: Sequence[tf.Tensor],
        want: tf.Tensor,
        form: Form,
    ) -> list[tf.Tensor]:
        problem, count = self._problem, self._count(form.batch)
        scores, outputs = (positions(tensor, count, problem) for tensor in (score, shown))
        wants = [want[place] for place in range(form.targets)]
        won = [winners(scores, outputs, problem, one) for one in (wants if problem.one_detection else wants[:1])]
        won = won if problem.one_detection else won * len(wants)
        self._limit = scores.shape[2]
        labelled = problem.detections and problem.detections.labelled
        self.classes = None if labelled else self._limit
        choose = chosen_class if form.scored else given_class
        columns = [choose(scores, outputs, *each, problem) for each in zip(won, wants, strict=True)]
        seeds = [
            each * tf.one_hot(column[0], tf.shape(scores)[2], dtype=each.dtype)[:, None, :]
            for each, column in zip(won, columns, strict=True)
        ]
        gradients = [self.gradient(scores, wrt, seed, mode) for mode in form.modes for seed in seeds]
        index, rank, score, output = (tf.stack(column) for column in zip(*columns, strict=True))
        slopes = [each for mode in form.inner for seed in seeds for each in self._slopes(scores, taps, seed, mode)]
        looked = [tf.stack(seeds), *taps, *slopes] if form.looked else []
        return [index, rank, *(tf.cast(value, tf.float32) for value in [score, output, *gradients, *looked])]

    def _built_for_points(
        self, score: tf.Tensor, output: tf.Tensor, wrt: tf.Tensor, seeds: tf.Tensor, form: Sampled
    ) -> list[tf.Tensor]:
        """The scores of each target, stacked, and for each mode its gradients, one by one."""
        scores = positions(score, self._count(None), self._problem)
        given = [tf.cast(seeds[place], scores.dtype)[None] * tf.ones_like(scores) for place in range(form.targets)]
        gradients = [self.gradient(scores, wrt, seed, mode) for mode in form.modes for seed in given]
        totals = tf.stack([tf.reduce_sum(scores * seed, [1, 2]) for seed in given])
        return [tf.cast(value, tf.float32) for value in [totals, *gradients]]

    def _slopes(self, scores: tf.Tensor, taps: Sequence[tf.Tensor], seed: tf.Tensor, mode: str) -> list[tf.Tensor]:
        """Of seed * scores with respect to each inner tensor, under the rule of a mode."""
        for stops_open in (False, True):
            with obeying(RULES[mode], stops_open):
                found = self._differentiated(scores, taps, seed)
            if all(each is not None for each in found):
                return [tf.convert_to_tensor(each) for each in found]
        cut = next(name for name, each in zip(self.graph.taps, found, strict=True) if each is None)
        raise ModelUnusable(f"no gradient of the score reaches {cut}", "choose another one with --cam-layer TENSOR")

    @contextmanager
    def imported(
        self, images: tf.Tensor, held: Mapping[str, float] = MappingProxyType({})
    ) -> Iterator[tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor, list[tf.Tensor]]]:
        """Score, output, `wrt`, `shown` and the taps of the graph, inside the function that is being built, for images as
        `entry` lays them. Inner tensors that are `held` have this value everywhere.

        Gradients are to be built inside of it.
        """
        partial_gradients.register()
        problem, graph = self._problem, own_names(self.graph)
        built = graph.graph_def()
        for function in built.library.function:
            make_known(function)
        mapped = {problem.fed: images}
        captured = tf.compat.v1.get_default_graph().capture
        mapped.update({f"{name}:0": captured(value) for name, value in self._captured.items()})
        mapped.update({f"{name}:0": variable.read_value() for name, variable in self._changeable.items()})
        mapped.update({f"{name}:0": captured(variable.handle) for name, variable in self._variables.items()})
        mapped.update({f"{name}:0": self._constant(name, images) for name in problem.constants})
        if held:
            shapes = import_nodes(built, mapped, list(held), f"{SCOPE}_held")
            mapped |= {
                name: tf.fill(tf.shape(each), tf.cast(held[name], each.dtype))
                for name, each in zip(held, shapes, strict=True)
            }
        wanted = [graph.score, graph.output, graph.shown, *graph.taps]
        wanted += [] if graph.wrt == problem.fed else [graph.wrt]
        found = import_nodes(built, mapped, wanted, SCOPE)
        wrt = images if graph.wrt == problem.fed else found.pop()
        with calling(graph.functions):
            yield found[0], found[1], wrt, found[2], found[3:]

    def gradient(self, scores: tf.Tensor, wrt: tf.Tensor, seed: tf.Tensor, mode: str) -> tf.Tensor:
        """Of seed * scores with respect to `wrt`, under the rule of a mode; ModelUnusable where none reaches it."""
        # A StopGradient beside another way (a straight-through estimator) shapes the gradient; one across the only
        # way steered the training of what lies before it.
        for stops_open in (False, True):
            with obeying(RULES[mode], stops_open):
                (gradient,) = self._differentiated(scores, [wrt], seed)
            if gradient is not None:
                return tf.convert_to_tensor(gradient)
        op = first_cut(scores, wrt)
        cut = _place(op) if op else split(self.graph.wrt)[0]
        remedy = _other_ends(op, wrt) if op else OTHER_ENDS
        error = ModelUnusable(f"no gradient reaches the image: it is cut at {cut}", remedy)
        error.cut_at = cut
        raise error

    def _constant(self, name: str, images: tf.Tensor) -> tf.Tensor:
        value = tf.constant(self._problem.constants[name])
        place = LAYOUTS[self._problem.entry.layout].find("N")
        if name in self._problem.repeated and place >= 0:
            return tf.repeat(value, tf.shape(images)[place], axis=0)
        return value

    def _differentiated(
        self, scores: tf.Tensor, inputs: Sequence[tf.Tensor], seed: tf.Tensor
    ) -> list[tf.Tensor | None]:
        try:
            return tf.gradients(scores, list(inputs), grad_ys=[seed])
        except LookupError as error:
            raise _undefined(error, scores.graph, inputs[0]) from error


def _stacked(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """One array of them, without a copy where there is one: on a GPU copies take as long as the gradient."""
    return arrays[0][None] if len(arrays) == 1 else np.stack(arrays)


def _concatenated(arrays: Sequence[np.ndarray], axis: int = 0) -> np.ndarray:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays, axis)


def _check_rows(score: str, rows: int, images: int) -> None:
    """One row of scores for each image, or none of them is known to be an image's own."""
    if rows != images:
        raise ModelUnusable(
            f"the first axis of {named(score)} is {rows} for {images} images",
            "choose another tensor with --output NAME",
        )


def calls(images: np.ndarray, size: int | None) -> Iterator[tuple[np.ndarray, int]]:
    """The images of each call, and how many of them count: a call takes `size`, so the last is filled up."""
    size = size or len(images)
    for start in range(0, len(images), size):
        part = images[start : start + size]
        missing = size - len(part)
        yield (np.concatenate([part, np.repeat(part[-1:], missing, axis=0)]) if missing else part), len(part)


def alone(images: np.ndarray, size: int) -> Iterator[tuple[np.ndarray, int]]:
    """Each image, as often as the model takes images at once: no other one changes how its numbers are rounded."""
    for image in images:
        yield np.repeat(image[None], size, axis=0), 1


OTHER_ENDS = "explain a tensor before it with --output NAME, or start behind it with --input NAME"
# Constants larger than this are taken out of the graph: copied with it several times, they cost memory and time.
LARGE_CONSTANT = 1 << 16


def _captured(graph: Graph) -> tuple[Graph, dict[str, tf.Tensor]]:
    """The graph with its large constants made placeholders, and the values of all placeholders but the image."""
    captured = {name: graph.values[variable] for name, variable in graph.weights.items()}
    nodes = dict(graph.nodes)
    for name, node in graph.nodes.items():
        if node.op == "Const" and node.ByteSize() > LARGE_CONSTANT:
            captured[name] = tf.constant(literal(node))
            shape = captured[name].shape.as_proto()
            nodes[name] = placeholder(name, attribute(node, "dtype").type, shape)
    return replace(graph, nodes=nodes), captured


# How TensorFlow names the operation that lacks a gradient, or its type alone.
_LACKS = re.compile(r"operation\s*'(?P<name>[^']+)' \(op type: (?P<op>\w+)\)|has no entry for: (?P<type>\w+)")


def _undefined(error: LookupError, graph: tf.Graph, wrt: tf.Tensor) -> ModelUnusable:
    """That an operation has no gradient."""
    found = _LACKS.search(str(error))
    if found is None:
        return ModelUnusable(f"no gradient is defined on the way to the image ({first_line(error)})", OTHER_ENDS)
    name, kind = found["name"], found["op"] or found["type"]
    try:
        op = graph.get_operation_by_name(name or "")
    except (KeyError, ValueError):  # inside a loop or branch, or without a name
        op = None
    place = _place(op) if op else f"{name} ({kind})" if name else kind
    remedy = _other_ends(op, wrt) if op else OTHER_ENDS
    raised = ModelUnusable(f"no gradient is defined for {place}, on the image's way to the score", remedy)
    raised.cut_at = place
    return raised


def _place(op: tf.Operation) -> str:
    return f"{op.name.removeprefix(f'{SCOPE}/')} ({op.type})"


def _other_ends(op: tf.Operation, wrt: tf.Tensor) -> str:
    """What to explain in place of what lies on both sides of an operation: the nearest numbers before it that a gradient
    passes, and behind it."""
    below = _reached_from(wrt)
    before = _of_the_model(op.inputs, lambda tensor: tensor.op.inputs if tensor.op.name in below else ())
    behind = _of_the_model(op.outputs, lambda tensor: [each for one in tensor.consumers() for each in one.outputs])
    passed = (_own_name(each) for each in before if each.op.name in below and first_cut(each, wrt) is None)
    output, start = next(passed, None) or "NAME", next(map(_own_name, behind), None) or "NAME"
    return f"explain a tensor before it with --output {output}, or start behind it with --input {start}"


def _own_name(tensor: tf.Tensor) -> str | None:
    """What the model calls a tensor; None for one of ours."""
    inside = tensor.name.startswith(f"{SCOPE}/") and "gradviz" not in tensor.name
    return tensor.name.removeprefix(f"{SCOPE}/") if inside else None


def _of_the_model(
    first: Iterable[tf.Tensor], onward: Callable[[tf.Tensor], Iterable[tf.Tensor]]
) -> Iterator[tf.Tensor]:
    """The tensors of numbers that the model has a name for, in the order in which they are come to."""
    todo, seen = deque(first), set()
    while todo:
        tensor = todo.popleft()
        if tensor.ref() not in seen:
            seen.add(tensor.ref())
            if tensor.dtype.is_floating and _own_name(tensor):
                yield tensor
            todo.extend(onward(tensor))


def first_cut(scores: tf.Tensor, wrt: tf.Tensor) -> tf.Operation | None:
    """The op nearest to the score through which no gradient passes on the way to `wrt`."""
    below = _reached_from(wrt)
    todo = deque([scores.op])
    seen: set[str] = set()
    while todo:
        op = todo.popleft()
        if op.name in seen:
            continue
        seen.add(op.name)
        inputs = [tensor for tensor in op.inputs if tensor is wrt or tensor.op.name in below]
        passed = _passed(op, inputs)
        if inputs and not passed:
            return op
        todo.extend(tensor.op for tensor in passed if tensor is not wrt)
    return None


def _passed(op: tf.Operation, inputs: list[tf.Tensor]) -> list[tf.Tensor]:
    """Those inputs of one op that a gradient of its outputs reaches."""
    outputs = [tensor for tensor in op.outputs if tensor.dtype.is_floating or tensor.dtype == tf.variant]
    if not outputs or not inputs:
        return []
    try:
        with obeying(RULES[PLAIN], stops_open=True):
            found = tf.gradients(outputs, inputs, stop_gradients=inputs)
    except (LookupError, TypeError):
        return []
    return [tensor for tensor, gradient in zip(inputs, found, strict=True) if gradient is not None]


def _reached_from(tensor: tf.Tensor) -> set[str]:
    todo = [tensor]
    seen: set[str] = set()
    while todo:
        for op in todo.pop().consumers():
            if op.name not in seen:
                seen.add(op.name)
                todo.extend(op.outputs)
    return seen
