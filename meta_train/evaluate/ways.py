"""How soon the reference gets to a loss: its ways there, from which speed-ups come.

Everyone is scored at the end of a run, and so is the reference: a schedule counts by what it ends
with; a constant rate may be stopped anywhere. Neither has the dips of a noisy curve, which nobody
could have known to stop at, or to choose that horizon for.
"""

from collections.abc import Sequence

import numpy as np

from meta_train.evaluate.contestant import Contestant
from meta_train.evaluate.running import Run
from meta_train.evaluate.runs import Curve, RunSpec
from meta_train.evaluate.tuning import Tuned

STRETCHES = (0.0625, 0.125, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)
"""Horizons of the reference's schedule."""
LONGEST = max(STRETCHES)
REACH = 2  # points on each side, of the median that takes dips away


def reference_ways(
    run: Run, reference: Contestant, tuned: Tuned, steps: int, seeds: int
) -> list[list[Curve]]:
    """Curves of the reference's ways to a loss, on the scored seeds: steps spent, and the loss.

    One for each of its constant rates: the tuned one and its two neighbours on the grid, four
    horizons long. And one of its tuned schedule, through the ends of runs of `STRETCHES` horizons.
    """
    longest = round(LONGEST * steps)
    constant, cosine = (tuned.best[schedule][0] for schedule in ("constant", "cosine"))
    specs = [
        RunSpec(seed, reference.settings("constant", rate, longest), longest)
        for rate in (constant / tuned.step, constant, constant * tuned.step)
        for seed in range(seeds)
    ] + [
        RunSpec(seed, reference.settings("cosine", cosine, stretched), stretched, curve=False)
        for stretched in (max(1, round(stretch * steps)) for stretch in STRETCHES)
        for seed in range(seeds)
    ]
    curves = run(reference, "ways", specs)
    ways = [curves[first : first + seeds] for first in range(0, len(curves), seeds)]
    constants, schedules = ways[: -len(STRETCHES)], ways[-len(STRETCHES) :]
    ends = [_through_ends(start, own) for start, *own in zip(constants[0], *schedules, strict=True)]
    return [[without_dips(curve) for curve in way] for way in [*constants, ends]]


def _through_ends(start: Curve, runs: Sequence[Curve]) -> Curve:
    """A curve from the start of a run through the ends of others with the same seed."""
    ends = [[x[:1], *(y[-1:] for y in own)] for x, *own in zip(start, *runs, strict=True)]
    return Curve(*map(np.concatenate, ends))


def without_dips(curve: Curve) -> Curve:
    """The test loss as the median of the points around; what only falls is left as it is."""
    test = np.where(np.isfinite(curve.test), curve.test, np.inf)
    last = len(test) - 1
    reach = [min(REACH, i, last - i) for i in range(len(test))]
    medians = [np.median(test[i - r : i + r + 1]) for i, r in enumerate(reach)]
    return curve._replace(test=np.asarray(medians))
