"""The L2 coefficient of linear regression, from starts far and near, on both sides.

Full-batch gradient descent at 1e-3, W = 1, N = 4, σ = 0.01, Adam at 0.003, from
θ = ±1, ±3, ±5; the metric is the mean validation loss of an episode at the θ at hand.
"""

from collections.abc import Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

from meta_train.estimators import ESTIMATORS
from meta_train.problem import Data, Theta
from meta_train.problems.l2_regression import (
    INITIAL_THETAS,
    LENGTH,
    l2_regression,
    synthetic_examples,
)
from meta_train.reproduce.experiment import (
    LABELS,
    Claim,
    Curve,
    Effort,
    Experiment,
    Panel,
    Result,
)
from meta_train.reproduce.measures import in_words, late_mean, recorded
from meta_train.reproduce.scores import episode_losses
from meta_train.reproduce.training import History, seed_keys, side_by_side, trajectory

ESTIMATORS_COMPARED = ("pes", "truncated_es")
EVERY = 400
GRID = np.linspace(-7, 7, 113)
NEAR = 0.5
"""A distance in θ, the logarithm of the coefficient."""


def mean_loss(theta: Theta, data: Data) -> jax.Array:
    """The mean of L_t over an episode at θ."""
    losses = episode_losses(l2_regression(), jax.random.key(0), theta, data, LENGTH)
    return losses.mean()


def train(name: str, data: Data, updates: int, seeds: int) -> History:
    """The runs of one estimator: θ and metric [starts, seeds, points]."""
    estimator = ESTIMATORS[name](
        l2_regression(), window=1, length=LENGTH, particles=4, sigma=0.01, stagger=True
    )
    run = trajectory(estimator, optax.adam(0.003), mean_loss, updates=updates, every=EVERY)
    over_seeds = jax.vmap(run, in_axes=(0, None, None))
    over_starts = jax.vmap(over_seeds, in_axes=(None, 0, None))
    theta, metric = jax.jit(over_starts)(seed_keys(seeds), jnp.asarray(INITIAL_THETAS), data)
    return History(np.arange(0, updates + 1, EVERY), np.asarray(theta), np.asarray(metric))


def run(effort: Effort) -> Result:
    """16,000 updates, or 48,000."""
    updates = 16_000 if effort.fast else 48_000
    data = synthetic_examples()
    histories = side_by_side(
        {
            LABELS[name]: partial(train, name, data, updates, effort.seeds)
            for name in ESTIMATORS_COMPARED
        }
    )
    on_grid = np.asarray(jax.jit(jax.vmap(mean_loss, in_axes=(0, None)))(jnp.asarray(GRID), data))
    best = {"theta": GRID[on_grid.argmin()], "loss": on_grid.min()}
    return Result(
        panels=panels(histories, on_grid),
        claims=claims(histories, best["theta"], best["loss"]),
        figures={"grid_optimum": best, "starts": INITIAL_THETAS, **recorded(histories)},
        notes=[
            "Substitute: synthetic examples (30 to train on, 500 to validate, 3 features that "
            f"matter of 20) for the paper's data; episodes of {LENGTH} steps.",
            f"{updates:,} updates; pairs at staggered ages.",
        ],
    )


def panels(histories: Mapping[str, History], on_grid: np.ndarray) -> list[Panel]:
    """θ over the updates from every start, and where the runs end on the loss curve."""
    ways = [
        Curve(label, h.updates, of_start) for label, h in histories.items() for of_start in h.theta
    ]
    updates = next(iter(histories.values())).updates
    best = GRID[on_grid.argmin()]
    optimum = Curve("optimum of the grid", updates, np.full((1, len(updates)), best))
    ends = [
        Curve(f"{label}, ends", h.theta[..., -1], h.metric[..., -1], marks=True)
        for label, h in histories.items()
    ]
    return [
        Panel("Way of θ from six starts", "updates of θ", "θ, log of the coefficient",
              [*ways, optimum]),
        Panel("Mean validation loss of an episode", "θ, log of the coefficient", "loss",
              [Curve("on the grid", GRID, on_grid[None]), *ends], y_scale="log"),
    ]  # fmt: skip


def claims(histories: Mapping[str, History], best: float, least: float) -> list[Claim]:
    """What the paper's figure says, of the last 30 % of the points.

    Args:
      histories: θ and metric [starts, seeds, points].
      best, least: θ of the grid's optimum, and the loss there.
    """
    theta, loss = (
        {
            label: late_mean(np.reshape(values, (-1, values.shape[-1])))
            for label, values in ((label, getattr(h, field)) for label, h in histories.items())
        }
        for field in ("theta", "metric")
    )
    away = np.abs(theta["truncated ES"] - best)
    moved = np.abs(theta["truncated ES"] - histories["truncated ES"].theta[..., 0].ravel())
    excess = {label: values / least - 1 for label, values in loss.items()}
    return [
        Claim(
            f"PES reaches the optimum of the grid (within {NEAR}) from every start and seed",
            bool((np.abs(theta["PES"] - best) < NEAR).all()),
            f"θ {in_words(theta['PES'])}, on the grid {best:.3g}",
        ),
        Claim(
            "Its loss is within 2 % of the least of the grid",
            bool((excess["PES"] < 0.02).all()),
            f"{in_words(100 * excess['PES'], 2)} % above {least:.4g}",
        ),
        Claim(
            f"Truncated ES does not (further than {NEAR}, loss more than 2 % above), from any "
            "start, and it has left them all",
            bool(
                (away > NEAR).all() and (excess["truncated ES"] > 0.02).all() and moved.min() > 0.1
            ),
            f"θ {in_words(theta['truncated ES'])}; loss "
            f"{in_words(100 * excess['truncated ES'], 2)} % above",
        ),
    ]


L2_REGRESSION = Experiment(
    name="l2_regression",
    title="The L2 coefficient of linear regression",
    source="Vicol, Metz, Sohl-Dickstein 2021 (arXiv:2112.13835), appendix",
    run=run,
)
