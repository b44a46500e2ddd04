"""How the tasks of a list are made comparable, so that none dominates the meta-gradient.

none           L
initial_loss   L / L_0,  L_0 the loss of a model that knows nothing: 1 is no training at all
gradient_norm  the same, and ĝ_n / √m_n,  m_n the mean of ‖ĝ‖² over the task's windows before

m_n is over the last hundred or so, m_n = m_{n−1} + (‖ĝ_{n−1}‖² − m_{n−1}) / min(n − 1, 100); the
first window is divided by its own norm. As no window after it has a say in its own scale, the
direction of a task's meta-gradient is as unbiased as it was. A meta-loss that is no loss, an
accuracy, has its own unit, and is not divided.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from meta_train.estimators.base import EstimatorInfo, GradientEstimator, squared_norm
from meta_train.problem import Data, InnerState, Theta, UnrolledProblem

TASK_SCALES = ("none", "initial_loss", "gradient_norm")
WINDOWS = 100


def in_units_of(problem: UnrolledProblem, unit: float) -> UnrolledProblem:
    """The problem with its losses divided by ``unit``."""

    def step(
        key: jax.Array, theta: Theta, state: InnerState, data: Data
    ) -> tuple[InnerState, jax.Array]:
        state, loss = problem.step(key, theta, state, data)
        return state, loss / unit

    return problem._replace(step=step)


class NormalizedState(NamedTuple):
    """``inner``: of the estimator, and ``rest`` its state without it; ``mean_square``, float32:
    m_n; ``windows``, int32: those that it is the mean of.
    """

    inner: Any
    rest: Any
    mean_square: jax.Array
    windows: jax.Array


def normalized(estimator: GradientEstimator) -> GradientEstimator:
    """The estimator with gradients ĝ_n / √m_n, as at the top; one of norm 0 stays that."""

    def init(key: jax.Array, theta: Theta) -> NormalizedState:
        state = estimator.init(key, theta)
        return NormalizedState(
            state.inner,
            state._replace(inner=()),
            jnp.zeros((), jnp.float32),
            jnp.zeros((), jnp.int32),
        )

    def step(
        key: jax.Array, theta: Theta, state: NormalizedState, data: Data = None
    ) -> tuple[Theta, NormalizedState, EstimatorInfo]:
        gradient, after, info = estimator.step(
            key, theta, state.rest._replace(inner=state.inner), data
        )
        square = squared_norm(gradient)
        counts = jnp.isfinite(square) & (square > 0)
        windows = state.windows + counts
        change = (square - state.mean_square) / jnp.clip(windows, 1, WINDOWS)
        mean_square = state.mean_square + jnp.where(counts, change, 0)
        before = jnp.where(state.windows > 0, state.mean_square, mean_square)
        scale = jnp.where(before > 0, jax.lax.rsqrt(before), 1)
        return (
            jax.tree.map(lambda g: (g * scale).astype(g.dtype), gradient),
            NormalizedState(after.inner, after._replace(inner=()), mean_square, windows),
            info._replace(variance=info.variance * scale**2),
        )

    return GradientEstimator(init, step)
