"""Models by name: ``ARCHITECTUREwidths_option``, such as ``mlp32x32_tanh``, from tables."""

import re
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, NamedTuple

_MODEL = re.compile(r"(?P<name>[a-z]+)(?P<widths>[1-9]\d*(x[1-9]\d*)*)?(_(?P<option>[a-z]+))?")


Numbers = tuple[int, ...]


def as_written(numbers: Numbers) -> Numbers:
    """Hidden widths where each number of a name is one."""
    return numbers


def width_times_depth(numbers: Numbers) -> Numbers:
    """Hidden widths where the first number is that of all and the second how many there are."""
    return (numbers[0],) * numbers[1]


def all_but_the_first(numbers: Numbers) -> Numbers:
    """Hidden widths where the first number is of something else."""
    return numbers[1:]


class Architecture(NamedTuple):
    """A row of a table ``ARCHITECTURES``; ``make(…, numbers, option)`` is a model of its kind.

    ``form``: how its numbers are written, ``8x16`` say; ``numbers``: the least and the largest
    count of them, None for any; ``options``: legal words, "" is made where none is named;
    ``hidden``: the hidden widths that the numbers stand for.
    """

    summary: str
    form: str
    numbers: tuple[int, int | None]
    options: tuple[str, ...]
    make: Callable[..., Any]
    hidden: Callable[[Numbers], Numbers] = as_written


class ModelName(NamedTuple):
    """The parts of the name of a model."""

    architecture: str
    widths: Numbers
    option: str


def collected(modules: Sequence[str]) -> Mapping[str, Architecture]:
    """The rows of the tables ``ARCHITECTURES`` of these modules, by name."""
    found: dict[str, Architecture] = {}
    for module in modules:
        found |= import_module(module).ARCHITECTURES
    return found


def parse(text: str, table: Mapping[str, Architecture]) -> ModelName | None:
    """The parts of the name of a model; None where the table has no such model."""
    match = _MODEL.fullmatch(text)
    if match is None or match["name"] not in table:
        return None
    architecture = table[match["name"]]
    widths = tuple(map(int, match["widths"].split("x"))) if match["widths"] else ()
    option = match["option"] or ""
    least, largest = architecture.numbers
    fits = least <= len(widths) <= (len(widths) if largest is None else largest)
    if not fits or (option and option not in architecture.options):
        return None
    return ModelName(match["name"], widths, option)


def forms(table: Mapping[str, Architecture]) -> str:
    """How the models of a table are written."""
    return ", ".join(f"{name}{architecture.form}" for name, architecture in table.items())
