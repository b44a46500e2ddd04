"""A per-tensor LSTM that sets Adam's hyperparameters (google/learned_optimization's NNAdam; after
Metz et al. 2020, https://arxiv.org/abs/2009.11243).

    m ← β₁m + (1−β₁)g,   v ← β₂v + (1−β₂)g²
    p ← p − α(1+ε)·m/(ε + √(v + 10⁻¹⁰))
    h, s ← LSTM([19 statistics of the tensor], s)
    (α, β₁, β₂, ε) ← (α, β₁, β₂, ε) + c·Kh       in log α/10, log(1−β₁)/10, log(1−β₂)/10, log ε/10

Every tensor has its own α, β₁, β₂, ε and its own LSTM state; the first values are part of θ. With a
large ε, (1+ε)/(ε + √v) is about 1: momentum, without a large α. Gradients are clipped to ±1000. K
is 0 before meta-training, which makes the rule Adam without the correction of its start.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax

from learned_opt.base import LearnedOptimizer, Theta
from learned_opt.constants import check_positive, check_share, check_state_dtype, check_whole
from learned_opt.features.summaries import is_rank, log_magnitude, mean_and_variance
from learned_opt.rules.normalized_mlp import LARGEST_GRADIENT
from learned_opt.tensors import flat_pairs, real_array, round_to, zeros_beside

SPEED = 10.0
FEATURES = 19
ROOT_EPSILON = 1e-10
RATES, EPSILONS = (1e-8, 1e3), (1e-11, 1e4)


class Controls(NamedTuple):
    """log α/10, log(1−β₁)/10, log(1−β₂)/10 and log ε/10 of every tensor, [tensors] each."""

    rate: jax.Array
    beta1: jax.Array
    beta2: jax.Array
    epsilon: jax.Array


class NnAdamState(NamedTuple):
    """``momenta``, ``second_moments``: like the parameters; ``controls``, ``lstm``: by tensor."""

    step: jax.Array
    momenta: Any
    second_moments: Any
    controls: Controls
    lstm: hk.LSTMState


class ControlNetwork(hk.Module):
    """The LSTM at the top of this file, its K, and the first values of all that it keeps."""

    def __init__(self, units: int, initial: Sequence[float]):
        super().__init__(name="control_network")
        self.units, self.initial = units, initial

    def first(self) -> tuple[Controls, hk.LSTMState]:
        """Controls, scalars, and the state of an LSTM [units]."""
        controls = [
            hk.get_parameter(f"initial_{name}", [], init=hk.initializers.Constant(value))
            for name, value in zip(Controls._fields, self.initial, strict=True)
        ]
        state = hk.LSTMState(
            hidden=hk.get_parameter("initial_hidden", [self.units], init=jnp.zeros),
            cell=hk.get_parameter("initial_cell", [self.units], init=jnp.zeros),
        )
        return Controls(*controls), state

    def __call__(self, inputs: jax.Array, state: hk.LSTMState) -> tuple[jax.Array, hk.LSTMState]:
        """Kh [tensors, 4], and the next state."""
        hidden, state = hk.LSTM(self.units, name="lstm")(inputs, state)
        zeros = hk.initializers.Constant(0.0)
        return hk.Linear(len(Controls._fields), w_init=zeros, name="to_controls")(hidden), state


def nn_adam(
    *,
    output_scale: float = 0.01,
    initial_learning_rate: float = 1e-4,
    initial_beta1: float = 0.9,
    initial_beta2: float = 0.999,
    initial_epsilon: float = 1e-8,
    lstm_units: int = 32,
    state_dtype: str = "float32",
) -> LearnedOptimizer:
    """The update rule at the top of this file.

    Args:
      output_scale: c, the speed of the hyperparameters.
      initial_learning_rate, initial_beta1, initial_beta2, initial_epsilon: where meta-training
        begins.
      lstm_units: of the LSTM.
      state_dtype: of m and v, "float32" or "bfloat16".

    Raises:
      ValueError: a constant is out of its range.
    """
    check_positive(
        output_scale=output_scale,
        initial_learning_rate=initial_learning_rate,
        initial_epsilon=initial_epsilon,
    )
    check_share(initial_beta1=initial_beta1, initial_beta2=initial_beta2)
    check_whole(1, 4096, lstm_units=lstm_units)
    check_state_dtype(state_dtype)
    initial = (
        np.log(initial_learning_rate) / SPEED,
        np.log1p(-initial_beta1) / SPEED,
        np.log1p(-initial_beta2) / SPEED,
        np.log(initial_epsilon) / SPEED,
    )
    functions = hk.multi_transform(lambda: _functions(lstm_units, initial))
    first, run = functions.apply

    def build(theta: Theta, num_steps: Any = None) -> optax.GradientTransformationExtraArgs:
        del num_steps

        def init(params: optax.Params) -> NnAdamState:
            def zeros(leaf: Any) -> jax.Array:
                return zeros_beside(real_array(leaf), 1, state_dtype)[0]

            tensors = sum(jnp.size(leaf) > 0 for leaf in jax.tree.leaves(params))
            controls, lstm = jax.tree.map(
                lambda x: jnp.broadcast_to(x, (tensors, *x.shape)), first(theta, None)
            )
            moments = [jax.tree.map(zeros, params) for _ in range(2)]
            return NnAdamState(jnp.zeros((), jnp.int32), moments[0], moments[1], controls, lstm)

        def update(
            updates: optax.Updates,
            state: NnAdamState,
            params: optax.Params | None = None,
            **extra_args: Any,
        ) -> tuple[optax.Updates, NnAdamState]:
            del extra_args
            tree, gradients, parameters = flat_pairs(updates, params)
            ms, vs = (tree.flatten_up_to(x) for x in (state.momenta, state.second_moments))
            steps, rows = [jnp.zeros_like(p) for p in parameters], []
            for row, i in enumerate(i for i, p in enumerate(parameters) if p.size):
                own = Controls(*(x[row] for x in state.controls))
                g = jnp.clip(gradients[i].astype(jnp.float32), -LARGEST_GRADIENT, LARGEST_GRADIENT)
                step, m, v = adam_step(g, ms[i], vs[i], own)
                steps[i] = step.astype(parameters[i].dtype)
                ms[i], vs[i] = (round_to(x, state_dtype, state.step) for x in (m, v))
                rows.append(tensor_features(g, parameters[i].astype(jnp.float32), m, v, own))
            controls, lstm = state.controls, state.lstm
            if rows:
                deltas, lstm = run(theta, None, jnp.stack(rows), lstm)
                controls = moved(controls, output_scale * deltas)
            return tree.unflatten(steps), NnAdamState(
                step=optax.safe_increment(state.step),
                momenta=tree.unflatten(ms),
                second_moments=tree.unflatten(vs),
                controls=controls,
                lstm=lstm,
            )

        return optax.GradientTransformationExtraArgs(init, update)

    constants = {
        "output_scale": output_scale,
        "initial_learning_rate": initial_learning_rate,
        "initial_beta1": initial_beta1,
        "initial_beta2": initial_beta2,
        "initial_epsilon": initial_epsilon,
        "lstm_units": lstm_units,
        "state_dtype": state_dtype,
    }
    return LearnedOptimizer("nn_adam", constants, functions.init, build, INPUTS)


INPUTS = (
    "β₁", "β₂", "ε", "is vector", "is scalar", "α",
    "log|mean g|", "sign mean g", "log mean|g|", "log|mean m|", "sign mean m",
    "log|mean p|", "sign mean p", "log|mean v|", "sign mean v",
    "log var g", "log var m", "log var p", "log var v",
)  # fmt: skip


def hyperparameters(controls: Controls) -> tuple[jax.Array, ...]:
    """α, β₁, β₂, ε, of one tensor or of all."""
    return (
        jnp.clip(jnp.exp(SPEED * controls.rate), *RATES),
        1 - jnp.exp(jnp.clip(SPEED * controls.beta1, -10, 0)),
        1 - jnp.exp(jnp.clip(SPEED * controls.beta2, -10, 0)),
        jnp.clip(jnp.exp(SPEED * controls.epsilon), *EPSILONS),
    )


def adam_step(
    gradient: jax.Array, m: jax.Array, v: jax.Array, own: Controls
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The update of one tensor, and its m and v with the gradient, in float32."""
    alpha, beta1, beta2, epsilon = hyperparameters(own)
    m = beta1 * m.astype(jnp.float32) + (1 - beta1) * gradient
    v = beta2 * v.astype(jnp.float32) + (1 - beta2) * jnp.square(gradient)
    return -alpha * (1 + epsilon) / (epsilon + jnp.sqrt(v + ROOT_EPSILON)) * m, m, v


def moved(controls: Controls, deltas: jax.Array) -> Controls:
    """The controls after a step of the LSTM, in their legal ranges; ``deltas`` [tensors, 4]."""
    wanted = Controls(*(x + delta for x, delta in zip(controls, deltas.T, strict=True)))
    low = Controls(*(np.log(x) / SPEED for x in (RATES[0], np.exp(-10), np.exp(-10), EPSILONS[0])))
    high = Controls(*(np.log(x) / SPEED for x in (RATES[1], 1.0, 1.0, EPSILONS[1])))
    return jax.tree.map(jnp.clip, wanted, low, high)


def tensor_features(
    gradient: jax.Array, parameter: jax.Array, m: jax.Array, v: jax.Array, own: Controls
) -> jax.Array:
    """The inputs of the LSTM for one tensor, in the order of `INPUTS`; logarithms are halved."""
    (mean_g, var_g), (mean_p, var_p) = mean_and_variance(gradient), mean_and_variance(parameter)
    (mean_m, var_m), (mean_v, var_v) = mean_and_variance(m), mean_and_variance(v)
    rate, beta1, beta2, epsilon = (jnp.clip(x, -5, 5) * 0.2 for x in own)

    def half(value: jax.Array) -> jax.Array:
        return 0.5 * log_magnitude(value)

    return jnp.stack([
        beta1, beta2, epsilon, is_rank(1, parameter), is_rank(0, parameter), rate,
        half(mean_g), jnp.sign(mean_g), half(jnp.mean(jnp.abs(gradient))),
        half(mean_m), jnp.sign(mean_m), half(mean_p), jnp.sign(mean_p),
        half(mean_v), jnp.sign(mean_v), half(var_g), half(var_m), half(var_p), half(var_v),
    ])  # fmt: skip


def _functions(units: int, initial: Sequence[float]) -> Any:
    """For `hk.multi_transform`: what draws all parameters, and what runs them."""
    module = ControlNetwork(units, initial)

    def draw() -> None:
        _, state = module.first()
        module(jnp.zeros((1, FEATURES)), jax.tree.map(lambda x: x[None], state))

    return draw, (module.first, module)
