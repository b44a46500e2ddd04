"""What the rules on the inputs of Metz et al. 2022 (https://arxiv.org/abs/2203.11860) share.

    outputs = MLP([28 features of the statistics, tanh(t/τ − 1)])

The features are those of `learned_opt.features.groups.ADAFACTOR`: g, p, momenta m, second moment
v, Adam's m/√v, Adafactor's rows, columns and factors; each divided by its RMS over the tensor. The
11 features of time are not. Decays are meta-learned: β = 1 − (1 − β₀)·exp(10·offset). What a rule
makes of the outputs is its own.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from learned_opt.base import LearnedOptimizer, Theta
from learned_opt.constants import check_state_dtype, check_timescales, check_widths
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
from learned_opt.features.time import tanh_of_steps
from learned_opt.kernels.pass_of_tensor import adafactor_pass, pass_fits
from learned_opt.kernels.step_of_tensor import (
    Recipe,
    adafactor_step,
    kernel_fits,
    with_derivative_of,
)
from learned_opt.network import is_narrow, per_parameter_mlp
from learned_opt.rules.tensorwise import of_tensor, tensorwise
from learned_opt.tensors import UpdateTensor

DECAYS = (0.9, 0.99, 0.999)
SECOND_MOMENT_DECAYS = (0.999,)
EPSILON = 1e-5

Combine = Callable[[Sequence[jax.Array], Entries, jax.Array, Decays], jax.Array]
"""The update of every entry, from the outputs of the network, t and the learned decays."""


def adafactor_family(
    name: str,
    constants: Mapping[str, Any],
    combine: Combine,
    outputs: int,
    *,
    recipe: Recipe | None = None,
    hidden: Sequence[int],
    decays: Decays,
    timescales: Sequence[float],
    state_dtype: str,
) -> LearnedOptimizer:
    """A rule of this family; ``constants`` are those of its own.

    ``recipe``: of a rule whose step is −a·d·exp(b·μ), which has a compiled kernel.

    Raises:
      ValueError: one of the other constants is out of its range.
    """
    check_widths(hidden=hidden)
    check_timescales(timescales=timescales)
    check_state_dtype(state_dtype)
    check_group_decays(decays)
    sizes = {**group_sizes(decays), "time": len(timescales)}
    inputs = input_names((*ADAFACTOR, "time"), sizes)
    network = per_parameter_mlp(len(inputs), hidden, outputs)

    def init(key: jax.Array) -> Theta:
        return {**network.init(key), **init_offsets(decays)}

    def entries_and_scales(
        learned: Decays, gradient: jax.Array, parameter: jax.Array, before: Statistics
    ) -> tuple[Statistics, Entries, list[jax.Array]]:
        statistics = update_statistics(before, gradient, learned)
        entries = entries_of(gradient, parameter, statistics)
        scales = scales_of_tensor(
            entries, ADAFACTOR, moment_epsilon=MOMENT_EPSILON, epsilon=EPSILON
        )
        return statistics, entries, scales

    def plain(
        theta: Theta,
        step: jax.Array,
        gradient: jax.Array,
        parameter: jax.Array,
        before: Statistics,
    ) -> tuple[jax.Array, Statistics]:
        time = tanh_of_steps(step, timescales)
        learned = learned_decays(theta, decays)
        statistics, entries, scales = entries_and_scales(learned, gradient, parameter, before)

        def descend(entries: Entries) -> jax.Array:
            groups = feature_groups(entries, MOMENT_EPSILON)
            inputs = [*(groups[group] for group in ADAFACTOR), of_tensor(time, parameter)]
            return combine(network.apply(theta, inputs, [*scales, None]), entries, step, learned)

        return network.evaluate(descend, entries, parameter.shape), statistics

    def in_one_pass(theta: Theta, step: jax.Array, *tensors: Any) -> tuple[jax.Array, Statistics]:
        assert recipe is not None
        time = tanh_of_steps(step, timescales)
        learned = learned_decays(theta, decays)
        statistics, entries, scales = entries_and_scales(learned, *tensors)
        return adafactor_pass(recipe, network.layers(theta), time, entries, scales), statistics

    def kernel(theta: Theta, step: jax.Array, *tensors: Any) -> tuple[jax.Array, Statistics]:
        assert recipe is not None
        time = tanh_of_steps(step, timescales)
        learned = learned_decays(theta, decays)
        return adafactor_step(recipe, network.layers(theta), time, learned, *tensors)

    compiled = with_derivative_of(plain, kernel)

    def at_step(theta: Theta, step: jax.Array) -> UpdateTensor:
        def update_one(
            gradient: jax.Array, parameter: jax.Array, before: Statistics
        ) -> tuple[jax.Array, Statistics]:
            form: Any = plain
            if recipe is not None and pass_fits(parameter, len(decays.momentum), hidden):
                form = in_one_pass
            elif recipe is not None and kernel_fits(parameter, long=not is_narrow(hidden)):
                form = compiled
            before = jax.tree.map(lambda x: x.astype(jnp.float32), before)
            update, statistics = form(theta, step, gradient, parameter, before)
            return update, stored(statistics, state_dtype, step)

        return update_one

    def build(theta: Theta, num_steps: Any = None) -> optax.GradientTransformationExtraArgs:
        del num_steps
        return tensorwise(
            lambda p: init_statistics(p, decays, state_dtype), lambda step: at_step(theta, step)
        )

    shared = {
        "hidden": list(hidden),
        "momentum_decays": list(decays.momentum),
        "second_moment_decays": list(decays.second_moment),
        "factored_decays": list(decays.factored),
        "timescales": list(timescales),
        "state_dtype": state_dtype,
    }
    return LearnedOptimizer(name, {**constants, **shared}, init, build, inputs)
