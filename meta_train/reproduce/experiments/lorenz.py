"""The Lorenz system: a loss that chaos makes rough, smoothed by noise on θ.

T = 2000, W = 100, σ = 0.04, N = 200, pairs at staggered ages, SGD on the mean over a window;
full ES has one window an episode and N = 10. The metric is the mean loss of episodes from
x_0 + N(0, 1), always the same ones, at the θ at hand.
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
from meta_train.problems.lorenz import INITIAL_THETA, TRUE_THETA, lorenz
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
from meta_train.reproduce.measures import in_words, late_mean, recorded
from meta_train.reproduce.scores import episode_losses
from meta_train.reproduce.training import History, run_seeds, side_by_side

LENGTH, WINDOW = 2000, 100
TEST_SEED = 1_000
TEST_EPISODES = 100
POINTS = 50
GRIDS = np.linspace(2.1, 3.9, 31), np.linspace(2.9, 3.8, 31)
NEAR = 0.15
"""A distance to the true θ: a sixth of that at the start."""


class Case(NamedTuple):
    """An estimator with the rate of SGD, and its settings."""

    estimator: str
    rate: float | optax.Schedule
    settings: Mapping[str, Any] = {}


CASES = [
    Case("nres", 1e-5),
    Case("pes", optax.piecewise_constant_schedule(1e-5, {1000: 0.1})),
    Case("full_es", 3e-5, {"window": LENGTH, "particles": 10, "stagger": False}),
    Case("truncated_es", 3e-4),
    Case("truncated_backprop", 3e-4),
]


def mean_loss(theta: Theta, data: Data, *, episodes: int = TEST_EPISODES) -> jax.Array:
    """The mean of L_t over the test episodes."""

    def episode(key: jax.Array) -> jax.Array:
        return episode_losses(lorenz(), key, theta, data, LENGTH).mean()

    return jax.vmap(episode)(jax.random.split(jax.random.key(TEST_SEED), episodes)).mean()


def train(case: Case, updates: int, seeds: int) -> History:
    """The runs of one case."""
    settings = {"window": WINDOW, "particles": 200, "stagger": True, **case.settings}
    estimator = ESTIMATORS[case.estimator](
        lorenz(), length=LENGTH, sigma=0.04, reduction="mean", **settings
    )
    return run_seeds(
        estimator,
        optax.sgd(case.rate),
        mean_loss,
        theta=jnp.asarray(INITIAL_THETA),
        updates=updates,
        every=updates // POINTS,
        seeds=seeds,
    )


def loss_on_grid() -> np.ndarray:
    """The mean loss of a few episodes at (ln a, ln r) of the grids: [ln r, ln a]."""
    first, second = jnp.meshgrid(*map(jnp.asarray, GRIDS))
    theta = jnp.stack([first, second], axis=-1)
    loss = partial(mean_loss, data=None, episodes=10)
    return np.asarray(jax.jit(jax.vmap(jax.vmap(loss)))(theta))


def run(effort: Effort) -> Result:
    """1,000 updates, or 5,000."""
    updates = 1_000 if effort.fast else 5_000
    histories = side_by_side(
        {LABELS[case.estimator]: partial(train, case, updates, effort.seeds) for case in CASES}
    )
    return Result(
        panels=panels(histories, loss_on_grid()),
        claims=claims(histories),
        figures={"true_theta": TRUE_THETA, **recorded(histories)},
        notes=[
            f"{updates:,} updates; an update of full ES unrolls {LENGTH} steps of 10 particles, "
            f"one of the other evolution strategies {WINDOW} steps of 200.",
        ],
    )


def panels(histories: Mapping[str, History], grid: np.ndarray) -> list[Panel]:
    """The test loss over the updates, and the ways of θ over the surface."""
    loss = [Curve(label, h.updates, h.metric) for label, h in histories.items()]
    ways = [Curve(label, h.theta[..., 0], h.theta[..., 1]) for label, h in histories.items()]
    truth = Curve("truth", np.array(TRUE_THETA[:1]), np.array(TRUE_THETA[1:]), marks=True)
    return [
        Panel("Test loss", "updates of θ", "mean (z − ẑ)²", loss, y_scale="log"),
        Panel("Ways over the loss surface", "ln a", "ln r", [*ways, truth],
              surface=Surface(*GRIDS, grid), x_limits=tuple(GRIDS[0][[0, -1]]),
              y_limits=tuple(GRIDS[1][[0, -1]])),
    ]  # fmt: skip


def claims(histories: Mapping[str, History]) -> list[Claim]:
    """What the paper's figure says, of the last 30 % of the points."""
    late = {label: late_mean(h.metric) for label, h in histories.items()}
    theta = {label: late_mean(h.theta) for label, h in histories.items()}
    away, moved = (
        {label: np.linalg.norm(late - np.asarray(point)[None], axis=1)
         for label, late in theta.items()}
        for point in (TRUE_THETA, INITIAL_THETA)
    )  # fmt: skip
    nres = np.median(late["NRES"])
    return [
        Claim(
            f"The late test loss of NRES is below that of {label} (medians)",
            bool(nres < np.median(late[label])),
            f"NRES {in_words(late['NRES'])}; {label} {in_words(late[label])}",
        )
        for label in ("PES", "truncated ES", "TBPTT")
    ] + [
        Claim(
            f"NRES ends near the truth (within {NEAR} in ln a, ln r, at every seed)",
            bool((away["NRES"] < NEAR).all()),
            f"distance {in_words(away['NRES'])}, at the start "
            f"{np.linalg.norm(np.subtract(INITIAL_THETA, TRUE_THETA)):.3g}",
        ),
        Claim(
            f"Truncated ES and TBPTT leave the start for a wrong θ (further than {NEAR} from both, "
            "at every seed)",
            all(
                (away[label] > NEAR).all() and (moved[label] > NEAR).all()
                for label in ("truncated ES", "TBPTT")
            ),
            "; ".join(f"{label} {in_words(away[label])}" for label in ("truncated ES", "TBPTT")),
        ),
    ]


LORENZ = Experiment(
    name="lorenz",
    title="The Lorenz system",
    source="Li et al. 2023 (arXiv:2304.12180)",
    run=run,
)
