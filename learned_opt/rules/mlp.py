"""The 19-input per-parameter MLP: "LOLv2" (Metz et al. 2020, https://arxiv.org/abs/2009.11243).

For every parameter p of a tensor, with gradient g and momenta m_β,

    d, μ = MLP([g, p, m_β, tanh(t/τ − 1)])    g, p and m_β divided by their RMS over the tensor
    p    ← p − a·d·exp(b·μ)                   a, b: the step and exponent multipliers
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from learned_opt.base import LearnedOptimizer, Theta
from learned_opt.features import (
    inverse_root_mean_square,
    map_columns,
    time_features,
    update_momenta,
)
from learned_opt.network import features_major_mlp

MOMENTUM_DECAYS = (0.1, 0.5, 0.9, 0.99, 0.999, 0.9999)
TIMESCALES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1e3, 3e3, 1e4, 3e4, 1e5)
MOST_LAYERS = 16
WIDEST = 4096


class MLPState(NamedTuple):
    """``step``: updates made so far, int32; ``momenta``: like the parameters, [decays, *shape]."""

    step: jax.Array
    momenta: Any


def mlp(
    *,
    step_multiplier: float = 0.001,
    exponent_multiplier: float = 0.001,
    hidden: Sequence[int] = (32, 32),
    momentum_decays: Sequence[float] = MOMENTUM_DECAYS,
    timescales: Sequence[float] = TIMESCALES,
) -> LearnedOptimizer:
    """The update rule at the top of this file.

    Args:
      step_multiplier: a; the published value is 0.001.
      exponent_multiplier: b; the published value is 0.001.
      hidden: widths of the hidden layers.
      momentum_decays: β of each momentum, in [0, 1).
      timescales: τ of each time feature, in updates.

    θ has the names and shapes of ``hk.nets.MLP([*hidden, 2])`` on
    2 + decays + timescales inputs, in the order g, p, momenta, time.

    Raises:
      ValueError: a constant is out of its range.
    """
    _check_positive("step_multiplier", [step_multiplier])
    _check_positive("exponent_multiplier", [exponent_multiplier])
    _check_positive("timescales", timescales)
    if not 1 <= len(hidden) <= MOST_LAYERS or not all(
        isinstance(width, int) and 1 <= width <= WIDEST for width in hidden
    ):
        raise ValueError(
            f"`hidden`={_short(hidden)}: must be 1 to {MOST_LAYERS} whole numbers up to {WIDEST}"
        )
    if not all(0 <= decay < 1 for decay in momentum_decays):
        raise ValueError(f"`momentum_decays`={tuple(momentum_decays)}: each must lie in [0, 1)")
    network = features_major_mlp(
        features=2 + len(momentum_decays), shared=len(timescales), hidden=hidden, outputs=2
    )
    decays = np.asarray(momentum_decays, np.float32)
    scales_of_time = np.asarray(timescales, np.float32)

    def descend(theta: Theta, shared: jax.Array, features: jax.Array) -> jax.Array:
        """The update of one tensor from its features [2 + decays, n]. Shape [n]."""

        def columns(chunk: jax.Array) -> jax.Array:
            output = network.apply(theta, chunk, scales, shared)
            return -step_multiplier * output[0] * jnp.exp(exponent_multiplier * output[1])

        scales = inverse_root_mean_square(features)
        return map_columns(columns, [features])

    def build(theta: Theta) -> optax.GradientTransformationExtraArgs:
        def init(params: optax.Params) -> MLPState:
            return MLPState(
                step=jnp.zeros((), jnp.int32),
                momenta=jax.tree.map(
                    lambda p: jnp.zeros((len(decays), *jnp.shape(p)), jnp.float32), params
                ),
            )

        def update(
            updates: optax.Updates,
            state: MLPState,
            params: optax.Params | None = None,
            **extra_args: Any,
        ) -> tuple[optax.Updates, MLPState]:
            del extra_args  # the rule reads neither the loss nor a horizon
            if params is None:
                raise ValueError(
                    "`params`=None: the update of this rule depends on the parameters; "
                    "call `update(grads, state, params)`"
                )
            updates, params = jax.tree.map(_real_array, (updates, params))
            shared = time_features(state.step.astype(jnp.float32), scales_of_time)

            def step(gradient: jax.Array, momenta: jax.Array, parameter: jax.Array) -> jax.Array:
                if parameter.size == 0:
                    return jnp.zeros_like(parameter)
                rows = [
                    tensor.reshape(count, parameter.size).astype(jnp.float32)
                    for tensor, count in ((gradient, 1), (parameter, 1), (momenta, len(decays)))
                ]
                direction = descend(theta, shared, jnp.concatenate(rows))
                return direction.reshape(parameter.shape).astype(parameter.dtype)

            momenta = jax.tree.map(
                lambda m, g: update_momenta(m, g.astype(jnp.float32), decays),
                state.momenta,
                updates,
            )
            steps = jax.tree.map(step, updates, momenta, params)
            return steps, MLPState(optax.safe_increment(state.step), momenta)

        return optax.GradientTransformationExtraArgs(init, update)

    constants = {
        "step_multiplier": step_multiplier,
        "exponent_multiplier": exponent_multiplier,
        "hidden": list(hidden),
        "momentum_decays": list(momentum_decays),
        "timescales": list(timescales),
    }
    return LearnedOptimizer("mlp", constants, network.init, build)


def _real_array(leaf: Any) -> jax.Array:
    array = jnp.asarray(leaf)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(
            f"a parameter or gradient has dtype {array.dtype}; this rule updates real "
            "floating-point leaves: leave others out with `optax.masked` or `optax.partition`"
        )
    return array


def _check_positive(name: str, values: Sequence[float]) -> None:
    """In float32, which is what the rule computes in."""
    tiny, largest = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if not numbers or len(numbers) < len(values) or not all(tiny <= v <= largest for v in numbers):
        raise ValueError(f"`{name}`={_short(values)}: must be positive numbers of float32")


def _short(values: Sequence[Any]) -> str:
    return str(list(values) if len(values) <= 12 else f"{len(values)} values")
