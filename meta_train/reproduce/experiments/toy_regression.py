"""Toy 2-D regression: a learning-rate schedule on a plateau with a valley far away.

T = 100, W = 10, N = 100, σ = 0.3 (truncated ES 1.0), Adam at 0.01 with b1 = 0.99, from
θ = (−4, −4); the metric is the sum of the losses of an episode at the θ at hand.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from meta_train.estimators import ESTIMATORS
from meta_train.problem import Data, Theta
from meta_train.problems.toy_regression import INITIAL_THETA, toy_regression
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
from meta_train.reproduce.measures import at, in_words, recorded
from meta_train.reproduce.scores import episode_losses
from meta_train.reproduce.training import History, run_seeds, side_by_side

LENGTH, WINDOW = 100, 10
POINTS = 40
CLAIMED_AT = 2_000
GRID = np.linspace(-5, 4, 91)


class Case(NamedTuple):
    """An estimator with its settings."""

    estimator: str
    settings: Mapping[str, Any] = {}


CASES = [
    Case("pes"),
    Case("nres"),
    Case("gpes", {"noise_period": 50}),
    Case("truncated_es", {"sigma": 1.0}),
    Case("truncated_backprop"),
    Case("rtrl"),
    Case("uoro"),
]
ON_THE_PLATEAU = ("TBPTT", "RTRL", "UORO")
SHARED_NOISE = ("NRES", "GPES")


def total_loss(theta: Theta, data: Data) -> jax.Array:
    """Σ_t L_t of an episode at θ."""
    problem = toy_regression(LENGTH)
    return episode_losses(problem, jax.random.key(0), theta, data, LENGTH).sum()


def train(case: Case, updates: int, seeds: int) -> History:
    """The runs of one case."""
    settings = {"particles": 100, "sigma": 0.3, **case.settings}
    return run_seeds(
        ESTIMATORS[case.estimator](
            toy_regression(LENGTH), window=WINDOW, length=LENGTH, **settings
        ),
        optax.adam(0.01, b1=0.99),
        total_loss,
        theta=jnp.asarray(INITIAL_THETA),
        updates=updates,
        every=updates // POINTS,
        seeds=seeds,
    )


def loss_on_grid() -> np.ndarray:
    """Σ_t L_t at (θ₀, θ₁) of the grid: [θ₁, θ₀]."""
    first, second = jnp.meshgrid(jnp.asarray(GRID), jnp.asarray(GRID))
    theta = jnp.stack([first, second], axis=-1)
    losses = jax.vmap(jax.vmap(lambda point: total_loss(point, None)))
    return np.asarray(jax.jit(losses)(theta))


def run(effort: Effort) -> Result:
    """2,000 updates, or 20,000."""
    updates = CLAIMED_AT if effort.fast else 10 * CLAIMED_AT
    histories = side_by_side(
        {LABELS[case.estimator]: partial(train, case, updates, effort.seeds) for case in CASES}
    )
    grid = loss_on_grid()
    row, column = np.unravel_index(np.nanargmin(grid), grid.shape)
    best = {"loss": grid[row, column], "theta": [GRID[column], GRID[row]]}
    return Result(
        panels=panels(histories, grid),
        claims=claims(histories, float(grid[row, column])),
        figures={"grid_optimum": best, **recorded(histories)},
        notes=[
            f"{updates:,} updates.",
            "The loss has teeth finer than the grid: its least value depends on the rounding of "
            "the machine, by some units.",
            "The noise of GPES lasts 50 inner steps.",
        ],
    )


def panels(histories: Mapping[str, History], grid: np.ndarray) -> list[Panel]:
    """The loss over the updates, and the ways of θ over the surface."""
    loss = [Curve(label, h.updates, h.metric) for label, h in histories.items()]
    ways = [
        Curve(label, h.theta[..., 0], h.theta[..., 1])
        for label, h in histories.items()
        if label not in ("RTRL", "UORO")
    ]
    return [
        Panel("Sum of the losses of an episode", "updates of θ", "loss", loss),
        Panel("Ways over the loss surface", "θ₀, log of the first rate",
              "θ₁, log of the last rate", ways, surface=Surface(GRID, GRID, grid)),
    ]  # fmt: skip


def claims(histories: Mapping[str, History], grid_optimum: float) -> list[Claim]:
    """What the paper's figure says."""
    early = {label: at(h, CLAIMED_AT) for label, h in histories.items()}
    last = {label: h.metric[:, -1] for label, h in histories.items()}
    return [
        Claim(
            f"PES is below 600 after {CLAIMED_AT:,} updates, at every seed",
            bool((early["PES"] < 600).all()),
            f"loss {in_words(early['PES'], 4)}; the grid's least is {grid_optimum:.4g}",
        ),
        Claim(
            f"TBPTT is above 2,400 after {CLAIMED_AT:,} updates, at every seed",
            bool((early["TBPTT"] > 2400).all()),
            f"loss {in_words(early['TBPTT'], 4)}",
        ),
        Claim(
            "Derivatives do not leave the plateau: TBPTT, RTRL and UORO end above 2,400",
            all((last[label] > 2400).all() for label in ON_THE_PLATEAU),
            "; ".join(f"{label}: {in_words(last[label], 4)}" for label in ON_THE_PLATEAU),
        ),
        Claim(
            "Truncated ES ends above 1,200, at every seed",
            bool((last["truncated ES"] > 1200).all()),
            f"loss {in_words(last['truncated ES'], 4)}",
        ),
        Claim(
            "NRES and GPES end near 565 (medians within 20)",
            all(abs(np.median(last[label]) - 565) < 20 for label in SHARED_NOISE),
            "; ".join(f"{label}: {in_words(last[label], 4)}" for label in SHARED_NOISE),
        ),
    ]


TOY_REGRESSION = Experiment(
    name="toy_regression",
    title="Toy 2-D regression",
    source="Vicol, Metz, Sohl-Dickstein 2021 (arXiv:2112.13835), section 5",
    run=run,
)
