"""Programs in Python that hold labels: which list, tuple or dict of theirs is that of the labels. Nothing is run."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import suppress
from typing import Any, TypeVar

Read = TypeVar("Read", bound=Hashable)

MANY = 10  # lists of one program that may be the labels
# Names of variables that hold labels, and no count of them or name of a file.
LABELISH = re.compile(r"(?!(?:n|num|nb)_)\w*(?:labels?|class(?:es|_?names)|names|categories|id2\w+)", re.I)
# What reads a list without a change of it.
READERS = frozenset(
    "all any dict enumerate len list max min print range reversed set sorted str tuple zip".split()  # noqa: SIM905
)
READING = frozenset(["index", "count", "items", "keys", "values", "get", "copy"])
NO_VALUE = (SyntaxError, ValueError, TypeError, MemoryError, RecursionError)


def literal(text: str) -> Any:
    """A list or dict as Python prints it; None where it is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes that are none
            node = ast.parse(text.strip(), mode="eval")
            value = ast.literal_eval(node)
    except NO_VALUE:
        return None
    _check_keys(node)
    return value


def _check_keys(node: ast.AST) -> None:
    for one in ast.walk(node):
        keys = [key.value for key in one.keys if isinstance(key, ast.Constant)] if isinstance(one, ast.Dict) else []
        if len(set(keys)) < len(keys):
            raise ValueError("it has a key twice")


def labels_of_program(text: str, read: Callable[[Any], Read]) -> Read:
    """What `read` makes of the one list, tuple or dict that it takes for labels.

    Raises
    ------
    ValueError
        There is none, there are two that differ, or the program may change it.
    """
    nodes = list(ast.walk(_parsed(text)))
    found: dict[tuple[int, str], Read] = {}
    for node, name, value in _values(nodes):
        with suppress(ValueError):
            found[node.lineno, name] = read(value)
        if (node.lineno, name) in found:
            _check_keys(node)
        if len(found) > MANY:
            break
    if not found:
        raise ValueError("it gives no name to a list of labels that stands as it is")
    if len(set(found.values())) > 1 or len(found) > MANY:
        said = ", ".join(f"{name[:40] or 'a list'} in line {line}" for line, name in sorted(found)[:3])
        raise ValueError(f"it has several lists that may be the labels: {said}")
    names = {name for _, name in found if name}
    for name in sorted(names):
        _check_unchanged(nodes, name)
    if not any(map(LABELISH.fullmatch, names)):
        _check_no_other(nodes)
    return next(iter(found.values()))


def _parsed(text: str) -> ast.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text)
    except SyntaxError as error:
        raise ValueError(f"line {error.lineno or 1} is no Python: {error.msg}") from None
    except NO_VALUE:
        raise ValueError("it is no Python") from None


def _values(nodes: Sequence[ast.AST]) -> Iterator[tuple[ast.stmt, str, Any]]:
    """Statement, name and value of lists, tuples and dicts; a list that stands alone has no name."""
    for node in nodes:
        if isinstance(node, ast.Assign):
            names = [one.id for one in node.targets if isinstance(one, ast.Name)]
        elif isinstance(node, ast.AnnAssign):
            names = [node.target.id] if isinstance(node.target, ast.Name) else []
        elif isinstance(node, ast.Expr):
            names = [""]
        else:
            continue
        if isinstance(node.value, ast.List | ast.Tuple | ast.Dict) and names != ["__all__"]:
            try:
                value = ast.literal_eval(node.value)
            except NO_VALUE:
                continue
            if _may_name(value):
                yield from ((node, name, value) for name in names)


def _may_name(value: Any) -> bool:
    """Whether it holds texts, or digits for themselves, and is no size or mean."""
    parts = [*value, *value.values()] if isinstance(value, dict) else list(value)
    return any(isinstance(one, str | list | tuple | dict) for one in parts) or parts == list(range(len(parts)))


def _check_unchanged(nodes: Sequence[ast.AST], name: str) -> None:
    """Refuse what is written twice, and every use that is not known to leave it as it is."""
    harmless: set[int] = set()
    for node in nodes:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in READERS:
            harmless.update(map(id, node.args))
        elif isinstance(node, ast.Subscript | ast.Attribute) and _only_reads(node):
            harmless.add(id(node.value))
        elif isinstance(node, ast.For | ast.comprehension):
            harmless.add(id(node.iter))
        elif isinstance(node, ast.Compare):
            harmless.update(map(id, node.comparators))
    uses = [node for node in nodes if isinstance(node, ast.Name) and node.id == name]
    stored = sorted(node.lineno for node in uses if not isinstance(node.ctx, ast.Load))
    passed = [node.lineno for node in uses if isinstance(node.ctx, ast.Load) and id(node) not in harmless]
    kinds = ast.alias | ast.FunctionDef | ast.ClassDef
    passed += [node.lineno for node in nodes if isinstance(node, kinds) and name in _bound(node)]
    changed = sorted(stored[1:] + passed)
    if changed:
        raise ValueError(f"line {changed[0]} may change {name[:40]}; keep the list alone in the file")


def _only_reads(node: ast.Subscript | ast.Attribute) -> bool:
    return node.attr in READING if isinstance(node, ast.Attribute) else isinstance(node.ctx, ast.Load)


def _bound(node: ast.alias | ast.FunctionDef | ast.ClassDef) -> tuple[str, ...]:
    return (node.asname or node.name,) if isinstance(node, ast.alias) else (node.name,)


def _check_no_other(nodes: Sequence[ast.AST]) -> None:
    """Refuse a list that is not named for labels where what is so named is computed."""
    for node in nodes:
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and LABELISH.fullmatch(node.id):
            raise ValueError(f"line {node.lineno} computes {node.id[:40]}; keep a list of labels alone in the file")
