"""Celo (Moudgil et al. 2025, https://arxiv.org/abs/2501.12670): a rule and a scheduler.

    d, μ, · = MLP([30 features of the statistics])     each divided by its RMS over the tensor
    x       = [tanh(10(t/T − c)), loss features]       9 + 9, the same for every tensor
    h, s    ← LSTM(Ax + relu(Bx), s)                   64 units, from a learned state
    p       ← p − a·d·exp(b·μ)·√(mean p² + 10⁻⁹) · 0.1·exp(Ch)

The features are those of `learned_opt.features.groups.CELO`. The public code runs the LSTM once a
tensor and pools relu(Bx) over the tensors by the maximum; since all tensors have the same x and the
same first state, all of them have the same h: here it runs once. The two are trained apart: the
rule alone first (``scheduled=False``, without the last factor), then the scheduler with the rule
frozen. MLP 30-4-4-3: 159 numbers. T is ``num_steps``.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
import optax

from learned_opt.base import LearnedOptimizer, Theta
from learned_opt.constants import (
    check_flag,
    check_positive,
    check_state_dtype,
    check_whole,
    check_widths,
)
from learned_opt.features.groups import (
    CELO,
    MOMENT_EPSILON,
    Entries,
    check_group_decays,
    entries_of,
    feature_groups,
    group_sizes,
    input_names,
)
from learned_opt.features.loss import (
    HORIZONS,
    LossHistory,
    add_loss,
    loss_decays,
    loss_features,
    no_losses,
)
from learned_opt.features.normalization import mean_square
from learned_opt.features.scales import scales_of_tensor
from learned_opt.features.statistics import (
    Decays,
    Statistics,
    init_statistics,
    stored,
    update_statistics,
)
from learned_opt.features.time import FRACTIONS, tanh_of_fraction
from learned_opt.network import per_parameter_mlp
from learned_opt.rules.adafactor_family import DECAYS, EPSILON, SECOND_MOMENT_DECAYS
from learned_opt.rules.normalized_mlp import LARGEST_GRADIENT, OUTPUTS
from learned_opt.rules.tensorwise import TensorwiseState, tensorwise
from learned_opt.tensors import UpdateTensor, required_loss, required_steps

SCALE_EPSILON = 1e-9
SCHEDULE_SCALE = 0.1
SCHEDULER_INPUTS = len(FRACTIONS) + HORIZONS - 1


class ScheduledState(NamedTuple):
    """``rule``: a `TensorwiseState`; ``history``: of the loss; ``lstm``: of the scheduler."""

    rule: TensorwiseState
    history: LossHistory
    lstm: hk.LSTMState


class Scheduler(hk.Module):
    """The LSTM at the top of this file and its state before the first step, learned too."""

    def __init__(self, units: int):
        super().__init__(name="scheduler")
        self.units = units

    def initial_state(self) -> hk.LSTMState:
        """Shapes: [units] each."""
        return hk.LSTMState(
            hidden=hk.get_parameter("initial_hidden", [self.units], init=jnp.zeros),
            cell=hk.get_parameter("initial_cell", [self.units], init=jnp.zeros),
        )

    def __call__(self, x: jax.Array, state: hk.LSTMState) -> tuple[jax.Array, hk.LSTMState]:
        """The logarithm of the multiplier, but for its 0.1, and the next state."""
        mixed = jax.nn.relu(hk.Linear(self.units, name="mix")(x))
        x = hk.Linear(self.units, name="input")(x) + mixed
        hidden, state = hk.LSTM(self.units, name="lstm")(x, state)
        return hk.Linear(1, name="step_size")(hidden)[0], state


def scheduled_mlp(
    *,
    scheduled: bool = True,
    step_multiplier: float = 0.001,
    exponent_multiplier: float = 0.001,
    hidden: Sequence[int] = (4, 4),
    scheduler_units: int = 64,
    momentum_decays: Sequence[float] = DECAYS,
    second_moment_decays: Sequence[float] = SECOND_MOMENT_DECAYS,
    factored_decays: Sequence[float] = DECAYS,
    state_dtype: str = "float32",
) -> LearnedOptimizer:
    """The update rule at the top of this file.

    Args:
      scheduled: whether the scheduler multiplies the steps; False is the first phase of
        meta-training, which needs neither the loss nor ``num_steps``.
      step_multiplier: a; the published value is 0.001.
      exponent_multiplier: b; the published value is 0.001.
      hidden: widths of the hidden layers of the rule.
      scheduler_units: of the LSTM; 64 in the paper.
      momentum_decays, second_moment_decays, factored_decays: β of each statistic, in [0, 1).
      state_dtype: of the statistics, "float32" or "bfloat16".

    θ is {"rule": …, "scheduler": …}.

    Raises:
      ValueError: a constant is out of its range; or ``num_steps`` or the loss is missing where
        the scheduler reads it.
    """
    check_flag(scheduled=scheduled)
    check_positive(step_multiplier=step_multiplier, exponent_multiplier=exponent_multiplier)
    check_widths(hidden=hidden)
    check_whole(1, 4096, scheduler_units=scheduler_units)
    check_state_dtype(state_dtype)
    decays = Decays(momentum_decays, second_moment_decays, factored_decays)
    check_group_decays(decays)
    inputs = input_names(CELO, group_sizes(decays))
    network = per_parameter_mlp(len(inputs), hidden, OUTPUTS)
    scheduler = hk.multi_transform(lambda: _scheduler_functions(scheduler_units))
    first_state, advance = scheduler.apply

    def init(key: jax.Array) -> Theta:
        key_rule, key_scheduler = jax.random.split(key)
        return {"rule": network.init(key_rule), "scheduler": scheduler.init(key_scheduler)}

    def at_step(theta: Theta, step: jax.Array, multiplier: jax.Array | float) -> UpdateTensor:
        def update_one(
            gradient: jax.Array, parameter: jax.Array, before: Statistics
        ) -> tuple[jax.Array, Statistics]:
            gradient = jnp.clip(gradient, -LARGEST_GRADIENT, LARGEST_GRADIENT)
            statistics = update_statistics(before, gradient, decays)
            entries = entries_of(gradient, parameter, statistics)
            scales = scales_of_tensor(entries, CELO, moment_epsilon=MOMENT_EPSILON, epsilon=EPSILON)
            scale = jnp.sqrt(mean_square(parameter, range(parameter.ndim)) + SCALE_EPSILON)
            factor = -step_multiplier * multiplier * scale

            def descend(entries: Entries) -> jax.Array:
                d, mu, _ = network.apply(theta["rule"], features(entries), scales)
                return factor * d * jnp.exp(exponent_multiplier * mu)

            update = network.evaluate(descend, entries, parameter.shape)
            return update, stored(statistics, state_dtype, step)

        return update_one

    def rule(theta: Theta, multiplier: Any) -> optax.GradientTransformationExtraArgs:
        return tensorwise(
            lambda p: init_statistics(p, decays, state_dtype),
            lambda step: at_step(theta, step, multiplier),
        )

    def build(theta: Theta, num_steps: Any = None) -> optax.GradientTransformationExtraArgs:
        if not scheduled:
            return rule(theta, 1.0)
        horizon = required_steps(num_steps, "scheduled_mlp")
        loss_decay = loss_decays(horizon)

        def init(params: optax.Params) -> ScheduledState:
            return ScheduledState(
                rule(theta, 1.0).init(params), no_losses(), first_state(theta["scheduler"], None)
            )

        def update(
            updates: optax.Updates,
            state: ScheduledState,
            params: optax.Params | None = None,
            *,
            value: Any = None,
            **extra_args: Any,
        ) -> tuple[optax.Updates, ScheduledState]:
            del extra_args
            step = state.rule.step
            loss = required_loss(value, "scheduled_mlp")
            history = add_loss(state.history, loss, step, loss_decay)
            x = jnp.concatenate(
                [tanh_of_fraction(step / horizon), loss_features(history, step + 1, loss_decay)]
            )
            logarithm, lstm = advance(theta["scheduler"], None, x, state.lstm)
            multiplier = SCHEDULE_SCALE * jnp.exp(logarithm)
            steps, after = rule(theta, multiplier).update(updates, state.rule, params)
            return steps, ScheduledState(after, history, lstm)

        return optax.GradientTransformationExtraArgs(init, update)

    constants = {
        "scheduled": scheduled,
        "step_multiplier": step_multiplier,
        "exponent_multiplier": exponent_multiplier,
        "hidden": list(hidden),
        "scheduler_units": scheduler_units,
        "momentum_decays": list(momentum_decays),
        "second_moment_decays": list(second_moment_decays),
        "factored_decays": list(factored_decays),
        "state_dtype": state_dtype,
    }
    return LearnedOptimizer(
        "scheduled_mlp", constants, init, build, inputs,
        reads_loss=scheduled, reads_num_steps=scheduled,
    )  # fmt: skip


def features(entries: Entries) -> list[jax.Array]:
    """The 30 inputs of a tensor, by group."""
    groups = feature_groups(entries, MOMENT_EPSILON)
    return [groups[name] for name in CELO]


def _scheduler_functions(units: int) -> Any:
    """For `hk.multi_transform`: what draws all parameters, and what runs them."""
    module = Scheduler(units)

    def draw() -> None:
        module(jnp.zeros(SCHEDULER_INPUTS), module.initial_state())

    return draw, (module.initial_state, module)
