"""Numbers of curves: final losses, ratios, and how soon a loss is reached."""

from collections.abc import Sequence

import numpy as np

from meta_train.evaluate.baselines import REFERENCE
from meta_train.evaluate.measure import TaskResult
from meta_train.evaluate.runs import Curve
from meta_train.evaluate.statistics.comparisons import SMALLEST_EFFECT
from meta_train.evaluate.ways import LONGEST, without_dips

AHEAD = 1 + SMALLEST_EFFECT  # a ratio that wins
SMALLEST_LOSS = 1e-12  # a ratio of two losses below is one of rounding errors


def final_losses(curves: Sequence[Curve]) -> np.ndarray:
    """Test loss at the end of every run. Shape [S]."""
    return np.asarray([curve.test[-1] for curve in curves], float)


def final_loss_ratios(ours: Sequence[Curve], theirs: Sequence[Curve]) -> np.ndarray:
    """Their final loss ÷ ours on each seed; above 1 ours is lower. Shape [S].

    See `ratios_of_losses` for runs that diverged; where theirs did, it counts with the loss that it
    started from.
    """
    start = np.asarray([curve.test[0] for curve in theirs], float)
    return ratios_of_losses(final_losses(ours), final_losses(theirs), start)


def ratios_of_losses(ours: np.ndarray, theirs: np.ndarray, stand_in: np.ndarray) -> np.ndarray:
    """Theirs ÷ ours. Shapes [S].

    0 where ours alone is not finite, 1 where neither is; where theirs alone is not, ``stand_in``
    counts for it, and the ratio is at least `AHEAD`, for ours has not diverged. Losses are taken
    to be at least `SMALLEST_LOSS`.
    """
    finite, other = np.isfinite(ours), np.isfinite(theirs)
    mine = np.maximum(np.where(finite, ours, 1.0), SMALLEST_LOSS)
    ratios = np.maximum(np.where(other, theirs, stand_in), SMALLEST_LOSS) / mine
    ratios = np.where(other, ratios, np.maximum(ratios, AHEAD))
    return np.where(finite, ratios, np.where(other, 0.0, 1.0))


def diverged_alone(ratios: np.ndarray) -> int:
    """How many of `final_loss_ratios` are of runs of ours that diverged where theirs did not."""
    return int((np.asarray(ratios) == 0).sum())


def speedups(result: TaskResult, name: str, horizon: int) -> tuple[np.ndarray, np.ndarray]:
    """Steps that the reference takes to our final losses ÷ our horizon; below 1 ÷ those that it
    takes to its own loss.

    The latter are fewer than the horizon where it is done before: to end where the reference ends
    is a speed-up of 1, however early that could have been had; above 1 it does take longer than
    we do.

    Args:
      result: of `measure_task`, with ``ways``.
      name: ours.
      horizon: our steps.

    Returns:
      speed-ups [S], 0 where ours diverged; and where the reference never got there, bool [S]: the
      speed-up is then at least `LONGEST`, which stands for it.
    """
    losses, own = (final_losses(result.scored(n)) for n in (name, REFERENCE))
    needed, sufficient = (_steps_of_quickest(result, ends, horizon) for ends in (losses, own))
    sufficient = np.minimum(sufficient, horizon)  # of a run that diverged too
    censored = np.isinf(needed) & np.isfinite(losses)
    with np.errstate(invalid="ignore", divide="ignore"):
        slower = np.where(needed >= sufficient, 1.0, needed / sufficient)
    found = np.where(needed > horizon, np.minimum(needed / horizon, LONGEST), slower)
    return np.where(np.isfinite(losses), found, 0.0), censored


def horizons_needed(result: TaskResult, name: str, horizon: int) -> np.ndarray:
    """Steps that the reference takes to our final losses ÷ our horizon, at most `LONGEST`; 0 where
    ours diverged. [S]
    """
    losses = final_losses(result.scored(name))
    needed = _steps_of_quickest(result, losses, horizon)
    return np.where(np.isfinite(losses), np.minimum(needed / horizon, LONGEST), 0.0)


def _steps_of_quickest(result: TaskResult, losses: np.ndarray, horizon: int) -> np.ndarray:
    """Steps of the reference's quickest way to losses, or of its tuned run itself. [S]

    The quickest way is that of the smallest median over the seeds on which a loss is finite (of
    equal ones, of the smallest mean; never counts `LONGEST` horizons), so that no seed takes the
    luckiest of all ways; a seed on which it does not get there takes the quickest that does.
    """
    steps = np.stack([steps_to_targets(way, losses) for way in result.ways])
    quickest = min(steps, key=lambda way: _how_long(way[np.isfinite(losses)], horizon))
    needed = np.where(np.isfinite(quickest), quickest, steps.min(axis=0))
    own = final_losses(result.scored(REFERENCE))
    return np.where(own <= losses, np.minimum(needed, horizon), needed)


def _how_long(steps: np.ndarray, horizon: int) -> tuple[float, float]:
    """Median and mean; of no seeds 0."""
    counted = np.minimum(steps, LONGEST * horizon)
    return (float(np.median(counted)), float(counted.mean())) if len(counted) else (0.0, 0.0)


def steps_to_targets(curves: Sequence[Curve], targets: np.ndarray) -> np.ndarray:
    """Steps of each run to a target loss of its own; infinite if never. Shape [S]."""
    return np.asarray([steps_to_reach(c, t) for c, t in zip(curves, targets, strict=True)])


def steps_to_stay(curves: Sequence[Curve], targets: np.ndarray) -> np.ndarray:
    """Steps after which each run is at or below its target for good; infinite if never. Shape [S].

    So a run that was there on its way and ends above has not reached it. One or two points in a row
    of a noisy curve, dips or peaks, do not count (`without_dips`), but for the last.
    """
    found = []
    for curve, target in zip(map(without_dips, curves), targets, strict=True):
        above = np.flatnonzero(~(curve.test <= target))
        last = above[-1] if len(above) else -1
        rest = Curve(*(values[max(last, 0) :] for values in curve))
        found.append(steps_to_reach(rest, target))
    return np.asarray(found)


def steps_to_reach(curve: Curve, loss: float) -> float:
    """Steps after which the test loss is first at or below ``loss``, interpolated; or inf."""
    reached = np.flatnonzero(curve.test <= loss)
    if not np.isfinite(loss) or len(reached) == 0:
        return np.inf
    after = reached[0]
    if after == 0:
        return 0.0
    x, y = curve.steps[after - 1 : after + 1], curve.test[after - 1 : after + 1]
    if not np.isfinite(y[0]):
        return float(x[1])
    return float(x[0] + (x[1] - x[0]) * (y[0] - loss) / (y[0] - y[1]))
