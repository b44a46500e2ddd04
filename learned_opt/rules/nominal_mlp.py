"""A nominal step plus a learned correction (Harrison et al. 2022, https://arxiv.org/abs/2209.11208).

    n = m̂/(√v̂ + ε)                                    Adam's direction, its start corrected
    d, μ, ν = MLP([28 features of the statistics, tanh(t/τ − 1)])
    p ← p − α·(exp(b·ν)·n + λp) − a·d·exp(b·μ)·c      c: 1, or 1/(√v̂ + ε)

Where the network says nothing (d = ν = 0) the rule is `optax.adamw(α, …, weight_decay=λ)`. Inputs
and learned decays are those of `adafactor_mlp`; n is of the first momentum and second moment.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from learned_opt.base import LearnedOptimizer, Theta
from learned_opt.constants import (
    check_flag,
    check_not_negative,
    check_positive,
    check_state_dtype,
    check_timescales,
    check_widths,
)
from learned_opt.features.decays import init_offsets, learned_decays
from learned_opt.features.groups import (
    ADAFACTOR,
    MOMENT_EPSILON,
    Entries,
    check_group_decays,
    entries_of,
    group_sizes,
    input_names,
)
from learned_opt.features.scales import scales_of_tensor
from learned_opt.features.statistics import (
    Decays,
    Statistics,
    init_statistics,
    stored,
    update_statistics,
)
from learned_opt.features.time import TIMESCALES, tanh_of_steps
from learned_opt.network import per_parameter_mlp
from learned_opt.rules.adafactor_mlp import DECAYS, EPSILON, SECOND_MOMENT_DECAYS, features
from learned_opt.rules.tensorwise import of_tensor, tensorwise
from learned_opt.tensors import UpdateTensor


def nominal_mlp(
    *,
    nominal_rate: float = 0.001,
    nominal_epsilon: float = 1e-8,
    weight_decay: float = 0.0,
    preconditioned: bool = False,
    step_multiplier: float = 0.001,
    exponent_multiplier: float = 0.001,
    hidden: Sequence[int] = (4, 4),
    momentum_decays: Sequence[float] = DECAYS,
    second_moment_decays: Sequence[float] = SECOND_MOMENT_DECAYS,
    factored_decays: Sequence[float] = DECAYS,
    timescales: Sequence[float] = TIMESCALES,
    state_dtype: str = "float32",
) -> LearnedOptimizer:
    """The update rule at the top of this file.

    Args:
      nominal_rate: α, of the nominal step.
      nominal_epsilon: ε of Adam.
      weight_decay: λ, times α.
      preconditioned: whether the correction is divided by √v̂ + ε as the nominal step is.
      step_multiplier: a, of the correction.
      exponent_multiplier: b.

    The other arguments are those of `adafactor_mlp`, and θ but for a third output.

    Raises:
      ValueError: a constant is out of its range.
    """
    check_positive(
        nominal_rate=nominal_rate,
        nominal_epsilon=nominal_epsilon,
        step_multiplier=step_multiplier,
        exponent_multiplier=exponent_multiplier,
    )
    check_not_negative(weight_decay=weight_decay)
    check_flag(preconditioned=preconditioned)
    check_widths(hidden=hidden)
    check_timescales(timescales=timescales)
    check_state_dtype(state_dtype)
    decays = Decays(momentum_decays, second_moment_decays, factored_decays)
    check_group_decays(decays)
    sizes = {**group_sizes(decays), "time": len(timescales)}
    inputs = input_names((*ADAFACTOR, "time"), sizes)
    network = per_parameter_mlp(len(inputs), hidden, outputs=3)

    def init(key: jax.Array) -> Theta:
        return {**network.init(key), **init_offsets(decays)}

    def at_step(theta: Theta, step: jax.Array) -> UpdateTensor:
        time = tanh_of_steps(step, timescales)
        learned = learned_decays(theta, decays)
        beta1, beta2 = learned.momentum[0], learned.second_moment[0]

        def update_one(
            gradient: jax.Array, parameter: jax.Array, before: Statistics
        ) -> tuple[jax.Array, Statistics]:
            statistics = update_statistics(before, gradient, learned)
            entries = entries_of(gradient, parameter, statistics)
            scales = scales_of_tensor(
                entries, ADAFACTOR, moment_epsilon=MOMENT_EPSILON, epsilon=EPSILON
            )

            def descend(entries: Entries) -> jax.Array:
                inputs = [*features(entries), of_tensor(time, parameter)]
                d, mu, nu = network.apply(theta, inputs, [*scales, None])
                m = entries.momenta[0] / (1 - beta1 ** (step + 1.0))
                v = entries.second_moments[0] / (1 - beta2 ** (step + 1.0))
                root = jnp.sqrt(v) + nominal_epsilon
                nominal = jnp.exp(exponent_multiplier * nu) * m / root
                correction = step_multiplier * d * jnp.exp(exponent_multiplier * mu)
                correction = correction / root if preconditioned else correction
                return -nominal_rate * (nominal + weight_decay * entries.parameter[0]) - correction

            update = network.evaluate(descend, entries, parameter.shape)
            return update, stored(statistics, state_dtype, step)

        return update_one

    def build(theta: Theta, num_steps: Any = None) -> optax.GradientTransformationExtraArgs:
        del num_steps
        return tensorwise(
            lambda p: init_statistics(p, decays, state_dtype), lambda step: at_step(theta, step)
        )

    constants = {
        "nominal_rate": nominal_rate,
        "nominal_epsilon": nominal_epsilon,
        "weight_decay": weight_decay,
        "preconditioned": preconditioned,
        "step_multiplier": step_multiplier,
        "exponent_multiplier": exponent_multiplier,
        "hidden": list(hidden),
        "momentum_decays": list(momentum_decays),
        "second_moment_decays": list(second_moment_decays),
        "factored_decays": list(factored_decays),
        "timescales": list(timescales),
        "state_dtype": state_dtype,
    }
    return LearnedOptimizer("nominal_mlp", constants, init, build, inputs)
