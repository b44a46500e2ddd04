"""The 19-input per-parameter MLP: "LOLv2" (Metz et al. 2020, https://arxiv.org/abs/2009.11243).

For every parameter p of a tensor, with gradient g and momenta m_β ← βm_β + (1−β)g,

    d, μ = MLP([g, p, m_β, tanh(t/τ − 1)])    g, p and m_β divided by their RMS over the tensor
    p    ← p − a·d·exp(b·μ)                   a, b: the step and exponent multipliers

β = 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999; τ = 1, 3, 10, …, 10⁵; MLP 19-32-32-2: 1762 numbers.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from learned_opt.base import LearnedOptimizer, Theta
from learned_opt.constants import (
    check_decays,
    check_positive,
    check_state_dtype,
    check_timescales,
    check_widths,
)
from learned_opt.features.groups import input_names
from learned_opt.features.normalization import inverse_rms
from learned_opt.features.statistics import init_momenta, running_mean
from learned_opt.features.time import TIMESCALES, tanh_of_steps
from learned_opt.kernels.pass_of_tensor import momenta_pass, pass_fits
from learned_opt.kernels.step_of_tensor import Recipe, kernel_fits, mlp_step, with_derivative_of
from learned_opt.network import per_parameter_mlp
from learned_opt.rules.tensorwise import of_tensor, tensorwise
from learned_opt.tensors import UpdateTensor, round_to

MOMENTUM_DECAYS = (0.1, 0.5, 0.9, 0.99, 0.999, 0.9999)
EPSILON = 1e-5


def mlp(
    *,
    step_multiplier: float = 0.001,
    exponent_multiplier: float = 0.001,
    hidden: Sequence[int] = (32, 32),
    momentum_decays: Sequence[float] = MOMENTUM_DECAYS,
    timescales: Sequence[float] = TIMESCALES,
    state_dtype: str = "float32",
) -> LearnedOptimizer:
    """The update rule at the top of this file.

    Args:
      step_multiplier: a; the published value is 0.001.
      exponent_multiplier: b; the published value is 0.001.
      hidden: widths of the hidden layers.
      momentum_decays: β of each momentum, in [0, 1).
      timescales: τ of each time feature, in updates.
      state_dtype: of the momenta, "float32" or "bfloat16".

    θ has the names and shapes of ``hk.nets.MLP([*hidden, 2])`` on
    2 + decays + timescales inputs, in the order g, p, momenta, time.

    Raises:
      ValueError: a constant is out of its range.
    """
    check_positive(step_multiplier=step_multiplier, exponent_multiplier=exponent_multiplier)
    check_widths(hidden=hidden)
    check_decays(momentum_decays=momentum_decays)
    check_timescales(timescales=timescales)
    check_state_dtype(state_dtype)
    sizes = {"g": 1, "p": 1, "m": len(momentum_decays), "time": len(timescales)}
    network = per_parameter_mlp(sum(sizes.values()), hidden, outputs=2)

    recipe = Recipe(step_multiplier, exponent_multiplier, EPSILON)

    def inputs_and_scales(
        gradient: jax.Array, parameter: jax.Array, momenta: jax.Array
    ) -> tuple[list[jax.Array], list[jax.Array]]:
        momenta = running_mean(momenta, gradient, momentum_decays)
        inputs = [gradient[None], parameter[None], momenta]
        return inputs, [inverse_rms(x, EPSILON) for x in inputs]

    def plain(
        theta: Theta, time: jax.Array, gradient: jax.Array, parameter: jax.Array, momenta: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        inputs, scales = inputs_and_scales(gradient, parameter, momenta)

        def descend(inputs: Any) -> jax.Array:
            d, mu = network.apply(theta, [*inputs, of_tensor(time, parameter)], [*scales, None])
            return -step_multiplier * d * jnp.exp(exponent_multiplier * mu)

        return network.evaluate(descend, inputs, parameter.shape), inputs[-1]

    def in_one_pass(
        theta: Theta, time: jax.Array, *tensors: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        inputs, scales = inputs_and_scales(*tensors)
        return momenta_pass(recipe, network.layers(theta), time, inputs, scales), inputs[-1]

    def kernel(theta: Theta, time: jax.Array, *tensors: jax.Array) -> tuple[jax.Array, jax.Array]:
        decays = jnp.asarray(momentum_decays, jnp.float32)
        return mlp_step(recipe, network.layers(theta), time, decays, *tensors)

    compiled = with_derivative_of(plain, kernel)

    def at_step(theta: Theta, step: jax.Array) -> UpdateTensor:
        time = tanh_of_steps(step, timescales)

        def update_one(
            gradient: jax.Array, parameter: jax.Array, momenta: jax.Array
        ) -> tuple[jax.Array, jax.Array]:
            form: Any = plain
            if pass_fits(parameter, len(momentum_decays), hidden):
                form = in_one_pass
            elif kernel_fits(parameter, long=False):
                form = compiled
            momenta = momenta.astype(jnp.float32)
            update, momenta = form(theta, time, gradient, parameter, momenta)
            return update, round_to(momenta, state_dtype, step)

        return update_one

    def build(theta: Theta, num_steps: Any = None) -> optax.GradientTransformationExtraArgs:
        del num_steps
        return tensorwise(
            lambda p: init_momenta(p, len(momentum_decays), state_dtype),
            lambda step: at_step(theta, step),
        )

    constants = {
        "step_multiplier": step_multiplier,
        "exponent_multiplier": exponent_multiplier,
        "hidden": list(hidden),
        "momentum_decays": list(momentum_decays),
        "timescales": list(timescales),
        "state_dtype": state_dtype,
    }
    inputs = input_names(("g", "p", "m", "time"), sizes)
    return LearnedOptimizer("mlp", constants, network.init, build, inputs)
