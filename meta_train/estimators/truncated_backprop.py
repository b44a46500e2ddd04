"""Truncated backpropagation through time (Werbos 1990; Williams and Peng 1990).

ĝ_t = ∇_θ Σ of the losses of window t, the inner state at its beginning held constant

What θ did to that state is not credited, so the estimate is biased towards short horizons.
Where an episode begins in the window, its initial state is differentiated too.
"""

from typing import Any, Unpack

import jax
import jax.numpy as jnp

from meta_train.estimators.base import GradientEstimator, count_losses
from meta_train.estimators.differentiated import (
    DifferentiatedArguments,
    EpisodeKeys,
    Method,
    WindowOfEpisode,
    choose,
    differentiated_estimator,
    differentiated_settings,
)
from meta_train.problem import Data, Theta, UnrolledProblem


def truncated_backprop(
    problem: UnrolledProblem, **settings: Unpack[DifferentiatedArguments]
) -> GradientEstimator:
    """The estimator at the top of this file; biased unless a window is an episode.

    Args:
      problem: what to unroll and differentiate.
      **settings: of `DifferentiatedArguments`.

    Raises:
      ValueError: an argument is out of its range, or the problem cannot be unrolled or
        differentiated.
    """
    checked = differentiated_settings(**settings)
    method = backprop_method(problem, checked.window, checked.loss_bound)
    return differentiated_estimator("truncated_backprop", problem, checked, method)


def backprop_method(problem: UnrolledProblem, window: int, loss_bound: float | None) -> Method:
    """Reverse-mode differentiation of one window of one episode; the state alone is carried."""

    def begin(keys: EpisodeKeys, theta: Theta) -> Any:
        return problem.begin(keys.init, theta, keys.length)

    def one_window(
        keys: EpisodeKeys, restart: jax.Array, theta: Theta, carry: Any, data: Data
    ) -> WindowOfEpisode:
        def total(theta: Theta) -> tuple[jax.Array, tuple]:
            # Only the W states are kept for the way back: as fast, in a third of the memory.
            @jax.checkpoint
            def step(state: Any, key: jax.Array) -> tuple[Any, jax.Array]:
                return problem.step(key, theta, state, data)

            state = choose(restart, begin(keys, theta), carry)
            state, losses = jax.lax.scan(step, state, jax.random.split(keys.unroll, window))
            return count_losses(losses, loss_bound).sum(), (state, losses)

        gradient, (state, losses) = jax.grad(total, has_aux=True)(theta)
        return WindowOfEpisode(gradient, state, losses, jnp.zeros(()))

    return Method(begin, one_window, "reverse")
