"""What the estimators that carry a derivative forward, step by step, share.

ĝ_t = Σ over the inner steps of the window of an estimate of dL/dθ at each
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from meta_train.estimators.base import count_losses, squared_norm
from meta_train.estimators.derivatives import Leaves, split_floating
from meta_train.estimators.differentiated import (
    Carry,
    EpisodeKeys,
    Method,
    WindowOfEpisode,
    choose,
)
from meta_train.problem import Data, Theta, UnrolledProblem

Step = Callable[[jax.Array, jax.Array, Theta, Carry, Data], tuple[Carry, jax.Array, Theta]]


def forward_method(
    begin: Callable[[EpisodeKeys, Theta], Carry],
    step: Step,
    derivative: Callable[[Carry], Any],
    window: int,
    mode: str = "forward",
) -> Method:
    """A method from what it does at one inner step.

    Args:
      begin: ``(keys, θ) -> carry``, at the start of an episode.
      step: ``(key_own, key, θ, carry, data) -> (carry, loss, gradient)``; ``key_own`` is
        for its own draws, ``key`` the problem's.
      derivative: the part of the carry whose norm is reported.
      window: W.
      mode: of differentiation.
    """

    def one_window(
        keys: EpisodeKeys, restart: jax.Array, theta: Theta, carry: Carry, data: Data
    ) -> WindowOfEpisode:
        def body(
            loop: tuple[Carry, Theta], keys: tuple[jax.Array, jax.Array]
        ) -> tuple[tuple[Carry, Theta], jax.Array]:
            carry, total = loop
            carry, loss, gradient = step(keys[0], keys[1], theta, carry, data)
            return (carry, jax.tree.map(jnp.add, total, gradient)), loss

        start = (choose(restart, begin(keys, theta), carry), jax.tree.map(jnp.zeros_like, theta))
        own = jax.random.split(jax.random.fold_in(keys.own, 1), window)
        (carry, total), losses = jax.lax.scan(
            body, start, (own, jax.random.split(keys.unroll, window))
        )
        return WindowOfEpisode(total, carry, losses, jnp.sqrt(squared_norm(derivative(carry))))

    return Method(begin, one_window, mode)


def inner_step(
    problem: UnrolledProblem, key: jax.Array, state: Any, data: Data, loss_bound: float | None
) -> tuple[Callable[[Theta, Leaves], tuple], Leaves]:
    """One inner step as a function to differentiate, and where: at θ and these floats.

    Returns:
      ``function(θ, floats) -> ((floats, loss that counts), (state, loss))``, of which the
      second pair is not to be differentiated; and the floating-point leaves of the state.
    """
    floats, others, join = split_floating(state)

    def function(theta: Theta, floats: Leaves) -> tuple[tuple, tuple]:
        after, loss = problem.step(key, theta, join(floats, others), data)
        return (split_floating(after)[0], count_losses(loss, loss_bound)), (after, loss)

    return function, floats


def initial_floats(problem: UnrolledProblem, keys: EpisodeKeys) -> Callable[[Theta], tuple]:
    """``θ -> (floats, state)`` of the beginning of an episode, the first to differentiate."""

    def function(theta: Theta) -> tuple[Leaves, Any]:
        state = problem.begin(keys.init, theta, keys.length)
        return split_floating(state)[0], state

    return function
