"""Which images of two output folders are the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from gradviz_cli.gallery.folder import Shown

Row = tuple[Shown | None, ...]


def paired(folders: Sequence[Sequence[Shown]]) -> Iterator[Row]:
    """Each image once, with what each folder has of it: the same bytes, those of the same name first.

    Where the bytes of one of them are not known, as of a file that could not be read, the name decides. Two images of one
    name and other bytes are two.
    """
    if len(folders) == 1:
        yield from ((one,) for one in folders[0])
        return
    first, second = folders
    left = {id(one): one for one in second}
    names, twins = _by(second, _name), _by(second, _bytes)
    partners: dict[int, Shown] = {}
    for key, others in ((_name, names), (_bytes, twins)):  # whoever has one of its own name keeps it
        for one in first:
            found = None if id(one) in partners else _take(one, others.get(key(one), []), left)
            if found:
                partners[id(one)] = found
    yield from ((one, partners.get(id(one))) for one in first)
    yield from ((None, one) for one in left.values())


Key = tuple[str | None, int | None]


def _name(one: Shown) -> Key:
    return one.name, one.page


def _bytes(one: Shown) -> Key:
    return one.sha256, one.page


def _by(images: Sequence[Shown], key: Callable[[Shown], Key]) -> dict[Key, list[Shown]]:
    found: dict[Key, list[Shown]] = {}
    for one in reversed(images):  # each is taken from the end
        found.setdefault(key(one), []).append(one)
    return found


def _take(one: Shown, others: list[Shown], left: dict[int, Shown]) -> Shown | None:
    """One of the others that is still left and may be the same image."""
    while others and id(others[-1]) not in left:
        others.pop()
    other = others[-1] if others else None
    if other is None or not _may_be_same(one, other):
        return None
    return left.pop(id(others.pop()))


def _may_be_same(one: Shown, other: Shown) -> bool:
    if None in (one.sha256, other.sha256):
        return one.name == other.name
    return one.sha256 == other.sha256
