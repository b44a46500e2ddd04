"""The tasks of a run, and which of them an update of θ is made from.

    θ-gradient of update k = Σ_i s_i ĝ_i,    E[s_i] = w_i / Σ w  over the tasks open at k

With ``tasks_per_update`` n = 0 every open task is used, and s_i is w_i / Σ w itself. Else n tasks
are drawn by systematic sampling: laid end to end in a random order, as pieces of length
π_i = n w_i / Σ w, they are hit by the points u, u + 1, …, u + n − 1 with u ~ U(0, 1); a task that
is hit m_i times has s_i = m_i / n. The mean number of hits is π_i exactly, so that the gradient
is an unbiased estimate of the weighted mean for any n; a task with π_i ≤ 1 is hit at most once.

The host draws, because it decides what runs next; asking a device would wait for what it runs.
"""

import math
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from tasks import parametric_families
from tasks.suites import get_suite

SUITE, MEMBERS = "suite:", ".*"


class ListedTask(NamedTuple):
    """A family by its name, its sampling weight, and the update that it takes part from."""

    name: str
    weight: float = 1.0
    from_update: int = 0


_LISTED = re.compile(r"(?P<name>[^=@\s]+)(=(?P<weight>[^=@\s]+))?(@(?P<update>\d+))?")


def parse_tasks(text: str) -> tuple[ListedTask, ...]:
    """The tasks of ``NAME,NAME=WEIGHT,NAME=WEIGHT@UPDATE``.

    ``suite:NAME`` stands for every task of a suite, ``FAMILY.*`` for every member of a parametric
    family; each has the weight and the update that are given.

    Raises:
      ValueError: the text is not of this form, a name comes twice, a weight is not positive, or
        no task takes part from the beginning; there is no such suite or family.
    """
    listed = [_parse_task(text, part.strip()) for part in text.split(",")]
    tasks = tuple(task._replace(name=name) for task in listed for name in _names(task.name))
    names = [task.name for task in tasks]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"`task`={text!r}: {twice} comes twice; give it one, larger, weight")
    if all(task.from_update for task in tasks):
        first = min(task.from_update for task in tasks)
        raise ValueError(
            f"`task`={text!r}: no task takes part before update {first}; leave out the @UPDATE "
            "of one"
        )
    return tasks


def _names(name: str) -> Iterator[str]:
    if name.startswith(SUITE):
        yield from (task.family for task in get_suite(name.removeprefix(SUITE)).tasks)
    elif name.endswith(MEMBERS):
        family = parametric_families().get(name.removesuffix(MEMBERS))
        if family is None:
            raise ValueError(
                f"`task`: {name!r} are members of no parametric family; legal ones: "
                f"{', '.join(parametric_families())}"
            )
        yield from (f"{family.name}.{index}" for index in range(len(family.shapes)))
    else:
        yield name


def _parse_task(text: str, part: str) -> ListedTask:
    match = _LISTED.fullmatch(part)
    if match is None:
        raise ValueError(
            f"`task`={text!r}: {part!r} must be NAME, NAME=WEIGHT, NAME@UPDATE or "
            "NAME=WEIGHT@UPDATE, with commas between tasks"
        )
    try:
        weight = float(match["weight"] or 1)
    except ValueError:
        weight = math.nan
    if not 0 < weight < math.inf:
        raise ValueError(
            f"`task`={text!r}: the weight {match['weight']!r} of {match['name']!r} must be a "
            "positive, finite number; leave the task out for none"
        )
    return ListedTask(match["name"], weight, int(match["update"] or 0))


def shares(
    tasks: Sequence[ListedTask], tasks_per_update: int, seed: int, update: int
) -> np.ndarray:
    """s_i of every task in this update, as at the top: float64 [tasks], 0 where it is left out.

    A function of its arguments alone, so that a run that is resumed draws the same.
    """
    weights = np.array([task.weight if update >= task.from_update else 0.0 for task in tasks])
    weights = weights / weights.sum()
    if tasks_per_update == 0:
        return weights
    return hits(tasks_per_update * weights, _uniform(seed, update, len(tasks))) / tasks_per_update


def windows_of(
    tasks: Sequence[ListedTask], tasks_per_update: int, seed: int, *, updates: int
) -> list[int]:
    """The windows that each task has in a run: the updates that it is drawn for."""
    counts = np.zeros(len(tasks), int)
    for update in range(updates):
        counts += shares(tasks, tasks_per_update, seed, update) > 0
    return counts.tolist()


def hits(expected: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """How often each piece is hit in systematic sampling: whole numbers, with ``expected`` means.

    ``uniform`` [pieces + 1]: numbers in [0, 1); they give the order of the pieces, and u.
    """
    order = np.argsort(uniform[1:], kind="stable")
    ends = np.cumsum(expected[order]).round(12)  # errors would lose a point, or hit a closed task
    points_before = np.ceil(ends - uniform[0])  # of the points u + j, those below an end
    counts = np.empty(len(expected))
    counts[order] = np.diff(points_before, prepend=0)
    return counts


def _uniform(seed: int, update: int, size: int) -> np.ndarray:
    """Numbers in [0, 1) for the tasks of an update, [1 + size].

    From the bits of the generator: NumPy promises that they stay as they are, and not what its
    distributions make of them. Multiples of 2⁻³², so that n − u is exact.
    """
    bits = np.random.PCG64(np.random.SeedSequence((seed, update))).random_raw(1 + size)
    return (bits >> np.uint64(32)) * 2.0**-32
