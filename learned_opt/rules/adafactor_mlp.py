"""The Adafactor MLP, "small_fc_lopt" (Metz et al. 2022, https://arxiv.org/abs/2203.11860).

    d, μ = MLP([28 features of the statistics, tanh(t/τ − 1)])
    p    ← p − a·d·exp(b·μ)

The features are those of `learned_opt.features.groups.ADAFACTOR`: g, p, momenta m, second moment
v, Adam's m/√v, Adafactor's rows, columns and factors; each divided by its RMS over the tensor. The
11 features of time are not. Decays are meta-learned: β = 1 − (1 − β₀)·exp(10·offset). With hidden
layers of 4 and 4 θ is 197 numbers, with 32 and 32 it is 2409, 7 of them offsets.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from learned_opt.base import LearnedOptimizer, Theta
from learned_opt.constants import (
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
    feature_groups,
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
from learned_opt.rules.tensorwise import of_tensor, tensorwise
from learned_opt.tensors import UpdateTensor

DECAYS = (0.9, 0.99, 0.999)
SECOND_MOMENT_DECAYS = (0.999,)
EPSILON = 1e-5


def adafactor_mlp(
    *,
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
      step_multiplier: a; the published value is 0.001.
      exponent_multiplier: b; the published value is 0.001.
      hidden: widths of the hidden layers; (4, 4) and (32, 32) are published.
      momentum_decays, second_moment_decays, factored_decays: β₀ of each statistic, in [0, 1).
      timescales: τ of each time feature, in updates.
      state_dtype: of the statistics, "float32" or "bfloat16".

    θ has the weights of ``hk.nets.MLP([*hidden, 2])`` and the offsets of the decays.

    Raises:
      ValueError: a constant is out of its range.
    """
    check_positive(step_multiplier=step_multiplier, exponent_multiplier=exponent_multiplier)
    check_widths(hidden=hidden)
    check_timescales(timescales=timescales)
    check_state_dtype(state_dtype)
    decays = Decays(momentum_decays, second_moment_decays, factored_decays)
    check_group_decays(decays)
    sizes = {**group_sizes(decays), "time": len(timescales)}
    inputs = input_names((*ADAFACTOR, "time"), sizes)
    network = per_parameter_mlp(len(inputs), hidden, outputs=2)

    def init(key: jax.Array) -> Theta:
        return {**network.init(key), **init_offsets(decays)}

    def at_step(theta: Theta, step: jax.Array) -> UpdateTensor:
        time = tanh_of_steps(step, timescales)
        learned = learned_decays(theta, decays)

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
                d, mu = network.apply(theta, inputs, [*scales, None])
                return -step_multiplier * d * jnp.exp(exponent_multiplier * mu)

            update = network.evaluate(descend, entries, parameter.shape)
            return update, stored(statistics, state_dtype, step)

        return update_one

    def build(theta: Theta, num_steps: Any = None) -> optax.GradientTransformationExtraArgs:
        del num_steps
        return tensorwise(
            lambda p: init_statistics(p, decays, state_dtype), lambda step: at_step(theta, step)
        )

    constants = {
        "step_multiplier": step_multiplier,
        "exponent_multiplier": exponent_multiplier,
        "hidden": list(hidden),
        "momentum_decays": list(momentum_decays),
        "second_moment_decays": list(second_moment_decays),
        "factored_decays": list(factored_decays),
        "timescales": list(timescales),
        "state_dtype": state_dtype,
    }
    return LearnedOptimizer("adafactor_mlp", constants, init, build, inputs)


def features(entries: Entries) -> list[jax.Array]:
    """The 28 inputs that are scaled, by group."""
    groups = feature_groups(entries, MOMENT_EPSILON)
    return [groups[name] for name in ADAFACTOR]
