"""Learning-rate schedule of a classifier: who looks further than the next few steps.

MLP 2×100, batch 100, SGD with momentum 0.9, α_t = e^{θ₀} / (1 + t/T)^{e^{θ₁}} from (0.003, 30),
T = 5000, W ∈ {10, 100}, N = 1000, σ = 0.1, Adam at 0.01, 5,000 updates, a grid of 40×40. L_t is
the training loss on a fresh minibatch, or minus the accuracy on validation data.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax

from meta_train.estimators import ESTIMATORS
from meta_train.problem import Data, UnrolledProblem
from meta_train.problems.learning_rate_schedule import OBJECTIVES, START, learning_rate_schedule
from meta_train.reproduce.classifiers import IMAGES, LOSS_BOUND, load_images, one_pair_at_a_time
from meta_train.reproduce.experiment import (
    LABELS,
    Claim,
    Curve,
    Effort,
    Experiment,
    Panel,
    Result,
    Surface,
)
from meta_train.reproduce.measures import in_words
from meta_train.reproduce.scores import mean_losses
from meta_train.reproduce.training import History, one_by_one, run_seeds, side_by_side

METHODS = ("pes", "truncated_es")
REGION = 0.1
"""The optimum region: as good as the best points of the grid, this share of them."""
MOVED = 0.5
"""In an entry of θ: a factor of 1.6."""
LOG_RATES, LOG_DECAYS = (-3.0, -0.5), (-2.2, 2.2)
"""The grid of the paper, in powers of ten."""


class Search(NamedTuple):
    """How θ is searched for with one window."""

    particles: int
    updates: int
    rate: float


class Sizes(NamedTuple):
    """Of the classifier, of an episode, of the searches by window, and of the grid."""

    hidden: tuple[int, ...]
    batch_size: int
    length: int
    searches: Mapping[int, Search]
    grid: int


FULL = Sizes((100, 100), 100, 5000, {w: Search(1000, 5000, 0.01) for w in (10, 100)}, 40)
FAST = Sizes((32, 32), 32, 1000, {10: Search(20, 1000, 0.02), 100: Search(10, 200, 0.05)}, 16)
POINTS = 40


def run(effort: Effort) -> Result:
    """Both objectives, both windows, both methods; then the grid, and the ends of all runs."""
    sizes = FAST if effort.fast else FULL
    data = load_images()
    jobs = {
        (objective, method, window): partial(
            train, sizes, objective, method, window, data, effort.seeds
        )
        for objective in OBJECTIVES
        for window in sizes.searches
        for method in METHODS
    }
    done = side_by_side(jobs)
    panels, claims, figures = [], [], {}
    for objective in OBJECTIVES:
        ways = {name(method, window): done[objective, method, window]
                for _, method, window in jobs if _ == objective}  # fmt: skip
        grid, ends = scores(sizes, objective, ways, data)
        panels.append(panel(objective, ways, grid))
        claims += claims_of(objective, sizes, ways, grid, ends)
        figures[objective] = facts(ways, grid, ends)
    return Result(panels, claims, figures, notes(sizes))


def name(method: str, window: int) -> str:
    """What figures and claims call a search."""
    return f"{LABELS[method]}, W={window}"


def problem_of(sizes: Sizes, objective: str) -> UnrolledProblem:
    """With T as the unit of time of the schedule, as in the paper."""
    return learning_rate_schedule(
        objective,
        hidden=sizes.hidden,
        batch_size=sizes.batch_size,
        time_scale=float(sizes.length),
    )


def train(
    sizes: Sizes, objective: str, method: str, window: int, data: Data, seeds: int
) -> History:
    """The searches of one method with one window."""
    search = sizes.searches[window]
    estimator = ESTIMATORS[method](
        problem_of(sizes, objective),
        window=window,
        particles=search.particles,
        sigma=0.1,
        length=sizes.length,
        stagger=True,
        loss_bound=LOSS_BOUND,
        layout=one_pair_at_a_time(),
    )
    return run_seeds(
        estimator,
        optax.adam(search.rate),
        lambda theta, data: (),
        theta=jnp.asarray(START),
        data=data,
        updates=search.updates,
        every=search.updates // POINTS,
        seeds=seeds,
        over_seeds=one_by_one,
    )


def axes_of_grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Powers of ten of the initial rate, and of the decay exponent."""
    return np.linspace(*LOG_RATES, size), np.linspace(*LOG_DECAYS, size)


def scores(
    sizes: Sizes, objective: str, ways: Mapping[str, History], data: Data
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Mean L_t of an episode on the grid [rate, decay], and where the searches ended [seeds].

    The same initial networks and minibatches at all of them.
    """
    rates, decays = np.meshgrid(*axes_of_grid(sizes.grid), indexing="ij")
    grid = np.stack([rates, decays], axis=-1).reshape(-1, 2) * np.log(10)
    ends = [way.theta[:, -1] for way in ways.values()]
    points = np.concatenate([grid, *ends]).astype(np.float32)
    values = mean_losses(problem_of(sizes, objective), sizes.length, runs=2)(points, data)
    at_ends = values[len(grid) :].reshape(len(ends), -1)
    return values[: len(grid)].reshape(rates.shape), dict(zip(ways, at_ends, strict=True))


def panel(objective: str, ways: Mapping[str, History], grid: np.ndarray) -> Panel:
    """The ways of θ over the grid, in powers of ten, as in the paper's figure."""
    rates, decays = axes_of_grid(len(grid))
    title = {"loss": "Training loss", "accuracy": "−(validation accuracy)"}[objective]
    curves = [
        Curve(label, way.theta[..., 1] / np.log(10), way.theta[..., 0] / np.log(10))
        for label, way in ways.items()
    ]
    return Panel(
        f"{title}, mean over an episode",
        "log₁₀ of the decay exponent",
        "log₁₀ of the initial rate",
        curves,
        surface=Surface(decays, rates, grid),
    )


def better_points(grid: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The share of the grid that is better than each value. Shape of ``values``."""
    return (grid.ravel()[None] < values.ravel()[:, None]).mean(axis=1).reshape(values.shape)


def claims_of(
    objective: str,
    sizes: Sizes,
    ways: Mapping[str, History],
    grid: np.ndarray,
    ends: Mapping[str, np.ndarray],
) -> list[Claim]:
    """For every window: PES ends in the optimum region, truncated ES outside and beyond it."""
    what = {"loss": "training loss", "accuracy": "−(validation accuracy)"}[objective]
    claims = []
    for window in sizes.searches:
        pes, truncated = (name(method, window) for method in METHODS)
        shares = {label: better_points(grid, ends[label]) for label in (pes, truncated)}
        decays = {label: np.exp(ways[label].theta[:, -1, 1]) for label in (pes, truncated)}
        moved = np.abs(ways[truncated].theta[:, -1] - ways[truncated].theta[:, 0]).max(axis=-1)
        claims.append(
            Claim(
                f"{pes} on the {what} ends in the optimum region: at every seed at most "
                f"{REGION:.0%} of the grid is better",
                bool((shares[pes] <= REGION).all()),
                f"{in_words(ends[pes])}, the grid's best {grid.min():.3g}; better: "
                f"{in_words(100 * shares[pes])} % of the grid",
            )
        )
        claims.append(
            Claim(
                f"{truncated} on the {what} leaves the start and ends outside that region, worse "
                "than PES and with a faster decay, at every seed: it looks at short horizons",
                bool(
                    (shares[truncated] > REGION).all()
                    and ends[truncated].min() > ends[pes].max()
                    and decays[truncated].min() > decays[pes].max()
                    and moved.min() > MOVED
                ),
                f"{in_words(ends[truncated])}; better: {in_words(100 * shares[truncated])} % of "
                f"the grid; decay exponent {in_words(decays[truncated])}, of PES "
                f"{in_words(decays[pes])}",
            )
        )
    return claims


def facts(
    ways: Mapping[str, History], grid: np.ndarray, ends: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """As JSON values."""
    rates, decays = axes_of_grid(len(grid))
    row, column = np.unravel_index(grid.argmin(), grid.shape)
    return {
        "grid": grid,
        "grid_optimum": {
            "value": grid.min(),
            "initial_rate": 10 ** rates[row],
            "decay_exponent": 10 ** decays[column],
        },
        "at_the_end": ends,
        "theta": {label: way.theta for label, way in ways.items()},
        "updates": {label: way.updates for label, way in ways.items()},
    }


def notes(sizes: Sizes) -> list[str]:
    """Substitutes and sizes."""
    searches = "; ".join(
        f"W={window}: N={s.particles}, {s.updates:,} updates, Adam {s.rate:g}"
        for window, s in sizes.searches.items()
    )
    return [
        f"{IMAGES}, in place of MNIST.",
        f"Hidden layers {'×'.join(map(str, sizes.hidden))}, batch {sizes.batch_size}, "
        f"T={sizes.length:,}; {searches}; grid {sizes.grid}×{sizes.grid}.",
        "Episodes of different pairs are staggered; a loss counts at most 1.5·log 10.",
    ]


LEARNING_RATE_SCHEDULE = Experiment(
    name="learning_rate_schedule",
    title="Learning-rate schedule of a classifier",
    source="Vicol, Metz, Sohl-Dickstein 2021 (arXiv:2112.13835), section 5.2",
    run=run,
)
