"""Real-time recurrent learning (Williams and Zipser 1989): the Jacobian carried forward.

J_t = ∂f/∂θ + ∂f/∂s J_{t−1};    ĝ_t = ∂L_t/∂θ + ∂L_t/∂s J_{t−1},    s_t = f(s_{t−1}; θ)

J holds P = dim θ copies of the state, and every step costs P forward derivatives. With θ held
constant the shares of an episode add up to the exact gradient; across updates of θ, J is that
of the θ of each step.
"""

from typing import Any, NamedTuple, Unpack

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from meta_train.estimators.base import GradientEstimator
from meta_train.estimators.derivatives import Leaves
from meta_train.estimators.differentiated import (
    DifferentiatedArguments,
    EpisodeKeys,
    differentiated_estimator,
    differentiated_settings,
)
from meta_train.estimators.forward import forward_method, initial_floats, inner_step
from meta_train.problem import Data, Theta, UnrolledProblem


class RTRLCarry(NamedTuple):
    """``jacobian``: ∂(floating leaves of the state)/∂θ, each [P, …]."""

    state: Any
    jacobian: Leaves


def rtrl(
    problem: UnrolledProblem, **settings: Unpack[DifferentiatedArguments]
) -> GradientEstimator:
    """The estimator at the top of this file; exact while θ does not change.

    Args:
      problem: what to unroll and differentiate.
      **settings: of `DifferentiatedArguments`.

    Raises:
      ValueError: an argument is out of its range, or the problem cannot be unrolled or
        differentiated.
    """
    checked = differentiated_settings(**settings)

    def begin(keys: EpisodeKeys, theta: Theta) -> RTRLCarry:
        _, linear, state = jax.linearize(initial_floats(problem, keys), theta, has_aux=True)
        return RTRLCarry(state, jax.vmap(linear)(unit_vectors(theta)))

    def step(
        own: jax.Array, key: jax.Array, theta: Theta, carry: RTRLCarry, data: Data
    ) -> tuple[RTRLCarry, jax.Array, Theta]:
        del own
        function, floats = inner_step(problem, key, carry.state, data, checked.loss_bound)
        _, linear, (state, loss) = jax.linearize(function, theta, floats, has_aux=True)
        jacobian, slopes = jax.vmap(linear)(unit_vectors(theta), carry.jacobian)
        flat, unravel = ravel_pytree(theta)
        return RTRLCarry(state, jacobian), loss, unravel(slopes.astype(flat.dtype))

    method = forward_method(begin, step, lambda carry: carry.jacobian, checked.window)
    return differentiated_estimator("rtrl", problem, checked, method)


def unit_vectors(theta: Theta) -> Theta:
    """The P directions of θ, one entry after the other: like θ with a leading axis [P]."""
    flat, unravel = ravel_pytree(theta)
    return jax.vmap(unravel)(jnp.eye(flat.size, dtype=flat.dtype))
