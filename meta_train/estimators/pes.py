"""Persistent evolution strategies (Vicol, Metz, Sohl-Dickstein 2021, arXiv:2112.13835).

ε_τ ~ N(0, σ²I) every window;    ξ_t = Σ_{τ≤t} ε_τ over the windows of the episode
ĝ_t = 1/(Nσ²) Σ_i ξ_t⁽ⁱ⁾ L_t⁽ⁱ⁾,    L_t⁽ⁱ⁾ the loss of window t unrolled at θ + ε_t⁽ⁱ⁾
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from meta_train.estimators.antithetic import (
    PairsOfWindow,
    credit,
    empty_inner_states,
    norm_per_pair,
    pair_keys,
    sample_noise,
    unroll_pairs,
    window_loss,
)
from meta_train.estimators.base import (
    ALL_AT_ONCE,
    EstimatorInfo,
    GradientEstimator,
    Layout,
    Length,
    check_settings,
    check_theta,
)
from meta_train.estimators.episodes import Episodes, begin_episodes, no_episodes
from meta_train.problem import Data, Theta, UnrolledProblem


class PESState(NamedTuple):
    """``inner`` [pairs, 2, …]; ``accumulator``: ξ, like θ with a leading axis [pairs]."""

    inner: Any
    accumulator: Theta
    episodes: Episodes


def pes(
    problem: UnrolledProblem,
    *,
    window: int,
    particles: int,
    sigma: float,
    length: Length = None,
    reduction: str = "sum",
    stagger: bool = False,
    loss_bound: float | None = None,
    layout: Layout = ALL_AT_ONCE,
) -> GradientEstimator:
    """The estimator at the top of this file; unbiased for quadratic losses at any σ.

    Args:
      problem: what to unroll; only evaluated forward.
      window: W, inner steps a call of ``step``.
      particles: N, both members of a pair counted.
      sigma: σ, standard deviation of the noise on every entry of θ.
      length: inner steps of an episode, a multiple of W; None never restarts; a function
        ``key -> length`` draws it anew for every episode, rounded up to whole windows.
      reduction: the window loss is the "sum" or the "mean" of its W losses. With "sum"
        the estimates of an episode add up to that of ∇ Σ_t L_t.
      stagger: shorten the first episodes so that the pairs cover all ages.
      loss_bound: what a loss counts at most; one that is not a number counts as that.
      layout: how pairs are spread over devices and in time.

    A pair with a loss that is not finite is counted in ``info.diverged``. Where its window
    loss is not finite either (there is no bound), it is left out of that estimate, and
    begins a new episode with the next window.

    Raises:
      ValueError: an argument is out of its range, or the problem cannot be unrolled.
    """
    check_settings(
        window=window,
        particles=particles,
        sigma=sigma,
        length=length,
        reduction=reduction,
        stagger=stagger,
        loss_bound=loss_bound,
    )
    pairs = particles // 2
    reduce = window_loss(reduction, loss_bound)

    def init(key: jax.Array, theta: Theta) -> PESState:
        del key  # the first window draws everything
        check_theta(theta)
        return PESState(
            inner=empty_inner_states(problem, theta, pairs),
            accumulator=jax.tree.map(
                lambda t: jnp.zeros((pairs, *jnp.shape(t)), jnp.result_type(t)), theta
            ),
            episodes=no_episodes(pairs),
        )

    def step(
        key: jax.Array, theta: Theta, state: PESState, data: Data = None
    ) -> tuple[Theta, PESState, EstimatorInfo]:
        key_noise, key_length, key_init, key_unroll = (
            pair_keys(k, pairs) for k in jax.random.split(key, 4)
        )
        noise = layout.everywhere(sample_noise(key_noise, theta, sigma))
        restart, episodes = begin_episodes(
            key_length, state.episodes, length=length, window=window, stagger=stagger
        )
        accumulator = jax.tree.map(
            lambda xi, e: e + jnp.where(restart.reshape(-1, *[1] * (e.ndim - 1)), 0, xi),
            state.accumulator,
            noise,
        )
        inner, losses = unroll_pairs(
            problem,
            window,
            reduce,
            layout,
            PairsOfWindow(noise, state.inner, layout.everywhere(restart), key_init, key_unroll),
            theta,
            data,
        )
        gradient, finite = credit(accumulator, losses.value, sigma)
        age = episodes.age + window
        info = EstimatorInfo(
            losses=losses.value,
            ages=age,
            restarts=restart.sum(),
            diverged=losses.diverged.any(axis=1).sum(),
            accumulator_norm=norm_per_pair(accumulator),
        )
        ended = jnp.where(finite, episodes.length, age)
        return gradient, PESState(inner, accumulator, Episodes(age, ended, episodes.begun)), info

    return GradientEstimator(init, step)
