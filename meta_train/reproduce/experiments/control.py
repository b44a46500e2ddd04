"""Control: a linear policy learns to swim, a window of its episode at a time.

Horizon 1000, W = 100, N = 40, σ = 0.3, pairs at staggered ages, Adam, from the policy that does
nothing. The metric is the mean reward of episodes with the policy at hand.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from meta_train.estimators import ESTIMATORS
from meta_train.problem import Data, Theta, UnrolledProblem
from meta_train.problems.swimmer import HORIZON, swimmer
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
from meta_train.reproduce.training import History, run_seeds, side_by_side

METHODS = ("pes", "nres", "truncated_es")
CLAIMED = ("pes", "nres")
WINDOW, PARTICLES, SIGMA, RATE = 100, 40, 0.3, 0.05
POINTS = 20
TEST_SEED, TEST_EPISODES = 1_000, 8
IMPROVED = 0.05
"""A mean reward: in an episode, of 40 units of time, the body moves by two of its three links."""


def without_derivative(problem: UnrolledProblem) -> UnrolledProblem:
    """The same problem; to differentiate its loss is an error."""

    @jax.custom_jvp
    def opaque(loss: jax.Array) -> jax.Array:
        return loss

    @opaque.defjvp
    def _(primals: tuple, tangents: tuple) -> Any:
        raise TypeError("the reward was differentiated")

    def step(key: jax.Array, theta: Theta, state: Any, data: Data) -> tuple[Any, jax.Array]:
        state, loss = problem.step(key, theta, state, data)
        return state, opaque(loss)

    return problem._replace(step=step)


def mean_reward(theta: Theta, data: Data) -> jax.Array:
    """Mean reward of the test episodes, by step."""

    def episode(key: jax.Array) -> jax.Array:
        return -episode_losses(swimmer(), key, theta, data, HORIZON).mean()

    return jax.vmap(episode)(jax.random.split(jax.random.key(TEST_SEED), TEST_EPISODES)).mean()


def train(method: str, updates: int, seeds: int) -> History:
    """The runs of one estimator."""
    estimator = ESTIMATORS[method](
        without_derivative(swimmer()),
        window=WINDOW,
        particles=PARTICLES,
        sigma=SIGMA,
        length=HORIZON,
        reduction="mean",
        stagger=True,
    )
    return run_seeds(
        estimator,
        optax.adam(RATE),
        mean_reward,
        theta=jnp.zeros((2, 8)),
        updates=updates,
        every=updates // POINTS,
        seeds=seeds,
    )


def run(effort: Effort) -> Result:
    """400 updates, or 2,000."""
    updates = 400 if effort.fast else 2_000
    histories = side_by_side(
        {LABELS[method]: partial(train, method, updates, effort.seeds) for method in METHODS}
    )
    return Result(
        panels=panels(histories),
        claims=claims(histories),
        figures=recorded(histories),
        notes=[
            "Substitute: a three-link swimmer in a viscous fluid, written in JAX, for MuJoCo's "
            "Swimmer; the same observations, actions and reward.",
            f"{updates:,} updates; to differentiate the reward would be an error.",
        ],
    )


def panels(histories: Mapping[str, History]) -> list[Panel]:
    """The reward over the updates."""
    curves = [Curve(label, h.updates, h.metric) for label, h in histories.items()]
    return [Panel("Mean reward of an episode", "updates of θ", "forward velocity − cost", curves)]


def claims(histories: Mapping[str, History]) -> list[Claim]:
    """What the papers' figures say, of the last 30 % of the points."""
    return [
        Claim(
            f"{label} learns to swim from single windows (mean reward above {IMPROVED}, every "
            "seed)",
            bool((late_mean(h.metric) > IMPROVED).all()),
            f"{in_words(late_mean(h.metric))}, at the start {in_words(h.metric[:, 0])}",
        )
        for label, h in histories.items()
        if label in [LABELS[method] for method in CLAIMED]
    ]


CONTROL = Experiment(
    name="control",
    title="Control: a linear policy that swims",
    source="Vicol, Metz, Sohl-Dickstein 2021 (arXiv:2112.13835); Li et al. 2023 (arXiv:2304.12180)",
    run=run,
)
