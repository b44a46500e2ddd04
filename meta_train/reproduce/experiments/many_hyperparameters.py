"""Many hyperparameters of a classifier: 12 rates, 12 momenta and 5 widths at once.

MLP of five hidden layers, T = 1000, W = 10, N = 10, σ = 0.3, Adam at 0.01. Searches are compared
by the best θ that they have found, judged by the mean validation loss of an episode, against
the inner iterations that they have spent; judging a θ costs an episode to all of them.
"""

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from meta_train.estimators import ESTIMATORS
from meta_train.problem import Data, UnrolledProblem
from meta_train.problems.hyperparameters import (
    Hyperparameters,
    Ranges,
    draw_hyperparameters,
    hyperparameters,
)
from meta_train.reproduce.classifiers import IMAGES, LOSS_BOUND, load_images, one_pair_at_a_time
from meta_train.reproduce.experiment import (
    LABELS,
    Claim,
    Curve,
    Effort,
    Experiment,
    Panel,
    Result,
)
from meta_train.reproduce.measures import in_words
from meta_train.reproduce.scores import mean_losses
from meta_train.reproduce.training import (
    History,
    one_by_one,
    run_seeds,
    seed_keys,
    side_by_side,
)

METHODS = ("pes", "truncated_es")
RANDOM = "random search"
WINDOW, PARTICLES = 10, 10
LAYERS = 5
POINTS = 25
RANGES = Ranges(rate=(1e-4, 1.0), momentum=(0.1, 0.99), width=(0.1, 0.9))


class Sizes(NamedTuple):
    """Of the classifier, of an episode, and of the search."""

    width: int
    batch_size: int
    length: int
    updates: int
    rate: float


FULL = Sizes(100, 100, 1000, 10_000, 0.01)
FAST = Sizes(32, 32, 1000, 5_000, 0.01)


class Search(NamedTuple):
    """Inner iterations spent at each θ [points], and its score [seeds, points]."""

    iterations: np.ndarray
    scores: np.ndarray

    def best(self) -> np.ndarray:
        """The least score so far: [seeds, points]."""
        return np.minimum.accumulate(self.scores, axis=1)


def run(effort: Effort) -> Result:
    """5,000 updates of a small classifier, or 10,000 of the paper's."""
    sizes = FAST if effort.fast else FULL
    data = load_images()
    jobs = {m: partial(train, sizes, m, data, effort.seeds) for m in METHODS}
    histories = side_by_side(jobs)
    searches = scores(sizes, histories, data, effort.seeds)
    return Result(
        panels=panels(searches),
        claims=claims(searches),
        figures={name: s._asdict() for name, s in searches.items()},
        notes=[
            f"{IMAGES}, in place of 28×28; hidden width {sizes.width}, batch {sizes.batch_size}, "
            f"T={sizes.length:,}, {sizes.updates:,} updates (the paper: 50,000), Adam "
            f"{sizes.rate:g}.",
            "Every search begins in the middle of the ranges, and these are narrower than the "
            f"paper's, which helps random search: it draws log-uniform rates in {RANGES.rate}, and "
            f"momenta in {RANGES.momentum} and shares of the width in {RANGES.width} uniform in "
            "their logits.",
        ],
    )


def middle() -> Hyperparameters:
    """θ_0 of every search: the middle of the ranges, in the units of θ."""
    ends = [
        draw_hyperparameters(jax.random.key(0), Ranges(*((r[end], r[end]) for r in RANGES)), LAYERS)
        for end in (0, 1)
    ]
    return jax.tree.map(lambda low, high: (low + high) / 2, *ends)


def draw(key: jax.Array, count: int) -> Hyperparameters:
    """θ_0, and the draws of a random search: [count, …]."""
    drawn = jax.vmap(lambda k: draw_hyperparameters(k, RANGES, LAYERS))(
        jax.random.split(key, count - 1)
    )
    return jax.tree.map(lambda x, xs: jnp.concatenate([x[None], xs]), middle(), drawn)


def problem_of(sizes: Sizes) -> UnrolledProblem:
    """The classifier and its training."""
    return hyperparameters(hidden_layers=LAYERS, width=sizes.width, batch_size=sizes.batch_size)


def train(sizes: Sizes, method: str, data: Data, seeds: int) -> History:
    """The searches of one method."""
    estimator = ESTIMATORS[method](
        problem_of(sizes),
        window=WINDOW,
        particles=PARTICLES,
        sigma=0.3,
        length=sizes.length,
        reduction="mean",
        stagger=True,
        loss_bound=LOSS_BOUND,
        layout=one_pair_at_a_time(),
    )
    return run_seeds(
        estimator,
        optax.adam(sizes.rate),
        lambda theta, data: (),
        theta=middle(),
        data=data,
        updates=sizes.updates,
        every=sizes.updates // POINTS,
        seeds=seeds,
        over_seeds=one_by_one,
    )


def scores(
    sizes: Sizes, histories: Mapping[str, History], data: Data, seeds: int
) -> dict[str, Search]:
    """All θ of all searches on the same initial networks and minibatches."""
    spent = {
        LABELS[name]: PARTICLES * WINDOW * h.updates + sizes.length * (1 + np.arange(POINTS + 1))
        for name, h in histories.items()
    }
    draws = int(max(last[-1] for last in spent.values())) // sizes.length
    spent[RANDOM] = sizes.length * (1 + np.arange(draws))
    thetas = [h.theta for h in histories.values()]
    thetas.append(jax.vmap(lambda key: draw(key, draws))(seed_keys(seeds)))
    points = jax.tree.map(
        lambda *leaves: np.concatenate([x.reshape(-1, *x.shape[2:]) for x in leaves]), *thetas
    )
    values = mean_losses(problem_of(sizes), sizes.length, runs=1)(points, data)
    ends = np.cumsum([seeds * len(iterations) for iterations in spent.values()])
    parts = np.split(values, ends[:-1])
    return {
        name: Search(iterations, part.reshape(seeds, -1))
        for (name, iterations), part in zip(spent.items(), parts, strict=True)
    }


def panels(searches: Mapping[str, Search]) -> list[Panel]:
    """The best score so far against the iterations."""
    curves = [Curve(name, s.iterations, s.best()) for name, s in searches.items()]
    return [
        Panel("Best θ so far", "inner iterations spent", "mean validation loss of an episode",
              curves, y_scale="log")
    ]  # fmt: skip


def claims(searches: Mapping[str, Search]) -> list[Claim]:
    """What the paper's figure says, when all have spent the same."""
    last = {name: s.best()[:, -1] for name, s in searches.items()}
    return [
        Claim(
            f"PES finds a better θ than {name} at equal inner iterations, at every seed",
            bool((last[LABELS["pes"]] < last[name]).all()),
            f"best loss {in_words(last[LABELS['pes']])} against {in_words(last[name])}",
        )
        for name in (LABELS["truncated_es"], RANDOM)
    ]


MANY_HYPERPARAMETERS = Experiment(
    name="many_hyperparameters",
    title="Many hyperparameters of a classifier",
    source="Vicol, Metz, Sohl-Dickstein 2021 (arXiv:2112.13835), section 5.3",
    run=run,
)
