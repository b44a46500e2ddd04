"""What a reader of a report has to know of its numbers."""

from meta_train.evaluate.report.rows import BOOTSTRAP_SEED, RESAMPLES_OF_CURVES
from meta_train.evaluate.runs import EXAMPLES
from meta_train.evaluate.scores import AHEAD
from meta_train.evaluate.statistics.comparisons import FEWEST, R_MAX, SMALLEST_EFFECT
from meta_train.evaluate.statistics.intervals import RESAMPLES
from meta_train.evaluate.ways import LONGEST

NOTES = (
    "Final loss: test loss at the end of the horizon, never on the way. Ratio: the baseline's "
    "final loss ÷ the learned optimizer's on the same seed (above 1 is better); a diverged run of "
    "the learned optimizer counts 0, one of the baseline counts with the loss it started from, and "
    f"as {AHEAD:g} at least; where both diverged it is 1.",
    f"Losses are over {EXAMPLES:,} examples of a split, the same for everyone, or all there are; "
    "synthetic tasks may have no examples, and one loss for all splits.",
    "Speed-up: steps that tuned Adam needs to reach the learned optimizer's final loss ÷ the "
    "horizon; below 1 ÷ those that it needs to reach its own, which are fewer where it is done "
    "before the horizon. It goes the quickest way, by the median over seeds, of its constant rates "
    "(stopped anywhere) and of its schedule stretched to other horizons (by what it ends with), "
    f"but for dips; what takes {LONGEST:g} horizons or more, or is never reached, counts "
    f"{LONGEST:g}. The speed-up in time counts all steps as they are.",
    "Everyone is tuned on seeds that are not scored, by the mean final loss on the "
    "outer-validation split, with the same grid of rates, wider where the best rate is on its "
    "edge, and scored once on the test split. Which of its schedules stands for a baseline is for "
    "tuning to say; the ratio with the one that is better on the scored seeds shows how much that "
    "decides.",
    f"Intervals are 95 % bootstrap intervals over seeds ({RESAMPLES:,} resamples, of curves "
    f"{RESAMPLES_OF_CURVES:,}, seed {BOOTSTRAP_SEED}), with expanded percentiles: √(n/(n−1)) and "
    f"Student's quantile, for small n. Of {FEWEST} seeds, those of the IQM cover the truth in 92 "
    "to 97.5 of 100 cases; of fewer, in less. IQM is the mean of the middle half of runs × tasks. "
    "Over tasks: these are resampled too, so that the interval speaks of tasks like these.",
    f"A win is a ratio of {FEWEST} seeds or more whose interval lies above 1, that is at least "
    f"{1 + SMALLEST_EFFECT:g}, and where no run diverged that did not for the other. A loss is a "
    f"ratio of as many that is at most 1/{1 + SMALLEST_EFFECT:g} and whose interval lies below 1. "
    "All else is a tie.",
    "P(better): probability that our run ends below one of Adam's on another seed of the task.",
    "AlgoPerf's score: time is the median number of steps after which a run stays at or below "
    "tuned Adam's final loss on the same seed; ρ(τ) is the share of tasks within τ of the best, "
    f"and the score its mean up to τ = {R_MAX:g}.",
)
