"""Directional gradient estimation, DODGE (Silver et al. 2022, "Learning by directional gradient
descent"): one direction carried forward.

c_t = ∂f/∂θ u + ∂f/∂s c_{t−1};    ĝ_t = (∂L_t/∂θ·u + ∂L_t/∂s·c_{t−1}) u,    s_t = f(s_{t−1}; θ)

u ~ N(0, I) is drawn once an episode: NRES in the limit σ → 0. Unbiased, since E[u uᵀ] = I; with
episodes that never restart, each keeps to its one direction.
"""

from typing import Any, NamedTuple, Unpack

import jax

from meta_train.estimators.base import GradientEstimator
from meta_train.estimators.derivatives import Leaves
from meta_train.estimators.differentiated import (
    DifferentiatedArguments,
    EpisodeKeys,
    differentiated_estimator,
    differentiated_settings,
)
from meta_train.estimators.forward import forward_method, initial_floats, inner_step
from meta_train.estimators.noise import sample_normal
from meta_train.problem import Data, Theta, UnrolledProblem


class DODGECarry(NamedTuple):
    """``direction``: u, like θ; ``tangent``: c, like the floating leaves of the state."""

    state: Any
    direction: Theta
    tangent: Leaves


def dodge(
    problem: UnrolledProblem, **settings: Unpack[DifferentiatedArguments]
) -> GradientEstimator:
    """The estimator at the top of this file; unbiased while θ does not change.

    Args:
      problem: what to unroll and differentiate, in forward mode only.
      **settings: of `DifferentiatedArguments`; every episode has a direction of its own.

    Raises:
      ValueError: an argument is out of its range, or the problem cannot be unrolled or
        differentiated.
    """
    checked = differentiated_settings(**settings)

    def begin(keys: EpisodeKeys, theta: Theta) -> DODGECarry:
        direction = jax.tree.map(lambda z: z[0], sample_normal(keys.own[None], theta))
        _, tangent, state = jax.jvp(
            initial_floats(problem, keys), (theta,), (direction,), has_aux=True
        )
        return DODGECarry(state, direction, tangent)

    def step(
        own: jax.Array, key: jax.Array, theta: Theta, carry: DODGECarry, data: Data
    ) -> tuple[DODGECarry, jax.Array, Theta]:
        del own
        function, floats = inner_step(problem, key, carry.state, data, checked.loss_bound)
        _, (tangent, slope), (state, loss) = jax.jvp(
            function, (theta, floats), (carry.direction, carry.tangent), has_aux=True
        )
        gradient = jax.tree.map(lambda u: slope.astype(u.dtype) * u, carry.direction)
        return DODGECarry(state, carry.direction, tangent), loss, gradient

    method = forward_method(begin, step, lambda carry: carry.tangent, checked.window)
    return differentiated_estimator("dodge", problem, checked, method)
