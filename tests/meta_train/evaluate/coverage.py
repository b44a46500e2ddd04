"""How often intervals hold the truth, in simulation."""

import numpy as np


def coverage(draw, truth, estimate, seed, trials=1_500):
    """Share of intervals that do.

    ``draw``: data from a random generator; ``estimate(data, seed=…, resamples=…)``: the estimate.
    """
    random = np.random.default_rng(seed)
    covered = 0
    for _ in range(trials):
        found = estimate(draw(random), seed=int(random.integers(1 << 31)), resamples=400)
        covered += found.low <= truth <= found.high
    return covered / trials
