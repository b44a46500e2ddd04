"""Persistent evolution strategies with an analytic gradient for the window itself, PES+A
(Vicol, Metz, Sohl-Dickstein 2021, arXiv:2112.13835, appendix).

ĝ_t = p_t + 1/(Nσ²) Σ_i (L_t⁽ⁱ⁾ − ε_t⁽ⁱ⁾·p_t) ξ_{t−1}⁽ⁱ⁾

p_t is the gradient of the window loss by backpropagation, along a mean state that is unrolled
at the unperturbed θ; ξ_{t−1} is the noise before that of the window is added. Every pair has a
mean state of its own, with the keys of the pair, since episodes of different pairs differ.
"""

from typing import Any, NamedTuple, Unpack

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from meta_train.estimators.antithetic import (
    AntitheticArguments,
    antithetic_settings,
    begin_window,
    close_window,
    loss_differences,
    pairs_in,
)
from meta_train.estimators.base import (
    EstimatorInfo,
    GradientEstimator,
    check_problem,
    check_theta,
    empty_rows,
    mean_of_rows,
    window_loss,
)
from meta_train.estimators.derivatives import check_derivative
from meta_train.estimators.differentiated import EpisodeKeys, unravel_like
from meta_train.estimators.episodes import Episodes, no_episodes
from meta_train.estimators.noise import sigma_like
from meta_train.estimators.pes import past_score
from meta_train.estimators.truncated_backprop import backprop_method
from meta_train.estimators.unroll import PairsOfWindow, both_signs, unroll_pairs
from meta_train.problem import Data, Theta, UnrolledProblem


class PESAnalyticState(NamedTuple):
    """``inner``: states of the particles [pairs, 2, …], and of the means [pairs, …];
    ``accumulator``: Σ of the scores of the episode, [pairs, …] like θ.
    """

    inner: tuple[Any, Any]
    accumulator: Theta
    episodes: Episodes
    windows: jax.Array


def pes_analytic(
    problem: UnrolledProblem, **settings: Unpack[AntitheticArguments]
) -> GradientEstimator:
    """The estimator at the top of this file; unbiased for quadratic losses at any σ.

    Args:
      problem: what to unroll, and to differentiate window by window.
      **settings: of `AntitheticArguments`; a transform is applied to what is left of the loss
        differences.

    Raises:
      ValueError: an argument is out of its range, or the problem cannot be unrolled or
        differentiated.
    """
    checked = antithetic_settings(**settings)
    pairs, layout = checked.particles // 2, checked.layout
    unroll = unroll_pairs(
        problem, checked.window, window_loss(checked.reduction, checked.loss_bound)
    )
    backprop = backprop_method(problem, checked.window, checked.loss_bound).window
    scale = 1 / checked.window if checked.reduction == "mean" else 1.0

    def init(key: jax.Array, theta: Theta) -> PESAnalyticState:
        theta = check_theta(theta)
        sigma_like(checked.sigma, jnp.zeros((), jnp.int32), theta)
        one = jax.eval_shape(problem.init, key, theta)
        return PESAnalyticState(
            inner=empty_rows((both_signs(one), one), pairs),
            accumulator=empty_rows(theta, pairs),
            episodes=no_episodes(pairs),
            windows=jnp.zeros((), jnp.int32),
        )

    def analytic(pair: PairsOfWindow, mean: Any, theta: Theta, data: Data) -> tuple:
        keys = EpisodeKeys(pair.init_key, pair.init_key, pair.unroll_key, pair.length)
        result = backprop(keys, pair.restart, theta, mean, data)
        return result.carry, ravel_pytree(result.gradient)[0] * scale

    def both(mapped: tuple[PairsOfWindow, Any], shared: tuple[Theta, Data]) -> tuple:
        pairs, mean = mapped
        particles, packed = unroll(pairs, shared)
        mean, flat = jax.vmap(analytic, in_axes=(0, 0, None, None))(pairs, mean, *shared)
        flattened = packed.reshape(packed.shape[0], -1)
        return (particles, mean), jnp.concatenate([flattened, flat], axis=1)

    def step(
        key: jax.Array, theta: Theta, state: PESAnalyticState, data: Data = None
    ) -> tuple[Theta, PESAnalyticState, EstimatorInfo]:
        theta = check_theta(theta)
        check_problem(problem, key, theta, data)
        check_derivative("pes_analytic", problem, key, theta, data, "reverse")
        window = begin_window(checked, key, theta, state.episodes, state.windows)
        past = past_score(state.accumulator, window.restart)
        window = layout.everywhere(window)  # else spread as the lengths of its episodes are
        particles = pairs_in(window, window.fresh.noise, state.inner[0])
        inner, packed = layout.spread(both)((particles, state.inner[1]), (theta, data))
        packed = layout.everywhere(packed)  # all that devices tell each other
        flat = packed[:, 4:]
        finite = jnp.isfinite(flat).all(axis=1)
        packed = packed[:, :4].reshape(pairs, 2, 2)
        undefined = jnp.asarray([jnp.nan, 1.0], packed.dtype)  # a loss, and a divergence
        packed = jnp.where(finite[:, None, None], packed, undefined[None, None])
        window_gradient = jax.vmap(unravel_like(theta))(jnp.where(finite[:, None], flat, 0))
        expected = row_products(window.fresh.noise, window_gradient)
        differences, counted = loss_differences(checked, packed[..., 0], expected)
        gradient, variance = mean_of_rows(
            jax.tree.map(lambda p, xi: p + rows_like(differences, xi) * xi, window_gradient, past),
            counted & finite,
        )
        accumulator = jax.tree.map(jnp.add, past, window.fresh.score)
        episodes, info = close_window(checked, window, packed, accumulator, gradient, variance)
        state = PESAnalyticState(inner, accumulator, episodes, state.windows + 1)
        return gradient, state, info

    return GradientEstimator(init, step)


def rows_like(values: jax.Array, leaf: jax.Array) -> jax.Array:
    """Values [rows] in the dtype and with the number of axes of a leaf [rows, …]."""
    return values.astype(leaf.dtype).reshape(-1, *[1] * (leaf.ndim - 1))


def row_products(left: Theta, right: Theta) -> jax.Array:
    """Inner products of two pytrees [rows, …], row by row, in float32. Shape [rows]."""

    def one(left: Theta, right: Theta) -> jax.Array:
        products = jax.tree.map(
            lambda x, y: jnp.sum(x.astype(jnp.float32) * y.astype(jnp.float32)), left, right
        )
        return sum(jax.tree.leaves(products), start=jnp.zeros(()))

    return jax.vmap(one)(left, right)
