"""A table of text."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple


class Table(NamedTuple):
    """A titled table; every row has one cell a column. ``heat``: {(row, column): a number} where
    cells are coloured by it, 0 in the middle.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    heat: Mapping[tuple[int, int], float] = MappingProxyType({})
