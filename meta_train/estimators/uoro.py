"""Unbiased online recurrent optimization, UORO (Tallec and Ollivier 2018, arXiv:1702.05043):
the Jacobian of RTRL as one random outer product, E[s̃ θ̃ᵀ] = ∂s_t/∂θ.

ĝ_t = (∂L_t/∂s·s̃) θ̃ + ∂L_t/∂θ,    s_t = f(s_{t−1}; θ),    ν Rademacher at every step
s̃ ← ρ₀ (∂f/∂s) s̃ + ρ₁ ν;    θ̃ ← θ̃/ρ₀ + (νᵀ∂f/∂θ)/ρ₁
ρ₀² = ‖θ̃‖/‖(∂f/∂s) s̃‖,    ρ₁² = ‖νᵀ∂f/∂θ‖/‖ν‖,    10⁻⁷ added to each norm
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Unpack

import jax
import jax.numpy as jnp

from meta_train.estimators.base import GradientEstimator, squared_norm
from meta_train.estimators.derivatives import Leaves
from meta_train.estimators.differentiated import (
    DifferentiatedArguments,
    EpisodeKeys,
    differentiated_estimator,
    differentiated_settings,
)
from meta_train.estimators.forward import forward_method, initial_floats, inner_step
from meta_train.problem import Data, Theta, UnrolledProblem

ADDED_TO_NORMS = 1e-7


class UOROCarry(NamedTuple):
    """``state_vector``: s̃, like the floating leaves of the state; ``theta_vector``: θ̃."""

    state: Any
    state_vector: Leaves
    theta_vector: Theta


def uoro(
    problem: UnrolledProblem, **settings: Unpack[DifferentiatedArguments]
) -> GradientEstimator:
    """The estimator at the top of this file, by exact forward derivatives; unbiased while θ
    does not change.

    Args:
      problem: what to unroll and differentiate, one step at a time in both modes.
      **settings: of `DifferentiatedArguments`; every episode has draws of its own.

    Raises:
      ValueError: an argument is out of its range, or the problem cannot be unrolled or
        differentiated.
    """
    checked = differentiated_settings(**settings)

    def begin(keys: EpisodeKeys, theta: Theta) -> UOROCarry:
        floats, pull, state = _vjp(initial_floats(problem, keys), theta)
        nothing, still = jax.tree.map(jnp.zeros_like, (floats, theta))
        vectors = rank_one(keys.own, nothing, still, lambda nu: pull(nu)[0])
        return UOROCarry(state, *vectors)

    def step(
        own: jax.Array, key: jax.Array, theta: Theta, carry: UOROCarry, data: Data
    ) -> tuple[UOROCarry, jax.Array, Theta]:
        function, floats = inner_step(problem, key, carry.state, data, checked.loss_bound)
        (after, counted), pull, (state, loss) = _vjp(function, theta, floats)
        still = jax.tree.map(jnp.zeros_like, theta)
        _, (pushed, slope), _ = jax.jvp(
            function, (theta, floats), (still, carry.state_vector), has_aux=True
        )
        nowhere = jax.tree.map(jnp.zeros_like, after)
        direct, _ = pull((nowhere, jnp.ones_like(counted)))
        gradient = jax.tree.map(
            lambda own, t: own + slope.astype(t.dtype) * t, direct, carry.theta_vector
        )
        vectors = rank_one(
            own, pushed, carry.theta_vector, lambda nu: pull((nu, jnp.zeros_like(counted)))[0]
        )
        return UOROCarry(state, *vectors), loss, gradient

    def outer_product(carry: UOROCarry) -> jax.Array:
        squares = squared_norm(carry.state_vector) * squared_norm(carry.theta_vector)
        return jnp.sqrt(squares)

    method = forward_method(begin, step, outer_product, checked.window, "reverse")
    return differentiated_estimator("uoro", problem, checked, method)


def rank_one(
    key: jax.Array, pushed: Leaves, theta_vector: Theta, pull: Callable[[Leaves], Theta]
) -> tuple[Leaves, Theta]:
    """The new s̃ and θ̃: ``pushed`` is (∂f/∂s) s̃, and ``pull`` gives νᵀ∂f/∂θ of ν."""
    keys = jax.random.split(key, max(len(pushed), 1))
    nu = [jax.random.rademacher(k, x.shape, x.dtype) for k, x in zip(keys, pushed, strict=False)]
    influence = pull(nu)
    rho_0 = _root_of_ratio(theta_vector, pushed)
    rho_1 = _root_of_ratio(influence, nu)

    def combine(scale: jax.Array, old: jax.Array, other: jax.Array, new: jax.Array) -> jax.Array:
        return scale.astype(old.dtype) * old + other.astype(old.dtype) * new

    return (
        [combine(rho_0, x, rho_1, n) for x, n in zip(pushed, nu, strict=True)],
        jax.tree.map(lambda t, g: combine(1 / rho_0, t, 1 / rho_1, g), theta_vector, influence),
    )


def _vjp(function: Callable, *primals: Any) -> Any:
    return jax.vjp(function, *primals, has_aux=True)


def _root_of_ratio(above: Any, below: Any) -> jax.Array:
    norms = [jnp.sqrt(squared_norm(tree)) + ADDED_TO_NORMS for tree in (above, below)]
    return jnp.sqrt(norms[0] / norms[1])
