"""A per-tensor LSTM that drives a per-parameter MLP (Metz et al. 2020,
https://arxiv.org/abs/2009.11243).

    g       clipped to ±10·(running mean of the RMS gradient of the model)
    x       = [from all tensors, from the MLP, statistics, shape, losses]           a tensor
    h, s    ← LSTM(x, s)
    d, μ, z = MLP([g, p, log|p|, m, v, m/√v, 1/√v; sin(t/πτ), sizes, Lh])           a parameter
    p       ← p − a·d·exp(b·μ)

Five decays of m and v. Of the inputs of the MLP the first 23 are divided by their RMS over the
tensor, and 31 are the same for all of it. What goes back, to be read at the next step: the mean of
z over a tensor to its LSTM, the mean of Kh over the tensors to all of them. MLP 54-32-32-18; LSTM
of 64 units on 52 inputs.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax

from learned_opt.base import LearnedOptimizer, Theta
from learned_opt.constants import (
    check_decays,
    check_positive,
    check_state_dtype,
    check_timescales,
    check_whole,
    check_widths,
)
from learned_opt.features.groups import MOMENT_EPSILON, input_names
from learned_opt.features.normalization import inverse_rms
from learned_opt.features.running_loss import (
    RunningLoss,
    corrected_mean,
    no_loss,
    standardized,
    with_loss,
)
from learned_opt.features.statistics import running_mean
from learned_opt.features.summaries import is_rank, log_magnitude, mean_and_variance, norm
from learned_opt.features.time import TIMESCALES, sine_of_steps
from learned_opt.network import Network, per_parameter_mlp
from learned_opt.rules.tensorwise import of_tensor
from learned_opt.tensors import flat_pairs, real_array, required_loss, round_to, zeros_beside

DECAYS = (0.5, 0.9, 0.99, 0.999, 0.9999)
EPSILON = 1e-5
TRAIN_DECAY, VALIDATION_DECAY = 0.9, 0.95
CLIP_DECAY, CLIP_MULTIPLE = 0.99, 10.0
TENSOR_FEATURES = 18
SHAPE_AXES = 4


class Moments(NamedTuple):
    """m and v of one tensor, [decays, *shape] each."""

    momenta: jax.Array
    second_moments: jax.Array


class RnnState(NamedTuple):
    """``step``: updates made so far; ``tensors``: like the parameters, `Moments` a tensor;
    ``lstm`` [tensors, units]; ``from_mlp`` [tensors, sizes], ``from_lstm`` [sizes]: what goes
    back; ``train``, ``validation``: the losses; ``scale``: the running mean that clips.
    """

    step: jax.Array
    tensors: Any
    lstm: hk.LSTMState
    from_mlp: jax.Array
    from_lstm: jax.Array
    train: RunningLoss
    validation: RunningLoss
    scale: jax.Array


class Sizes(NamedTuple):
    """Units of the LSTM, and sizes of what goes between the networks."""

    lstm: int
    from_mlp: int
    from_lstm: int
    to_mlp: int


class TensorNetwork(hk.Module):
    """The LSTM of the tensors, its projections, and what everything starts from."""

    def __init__(self, sizes: Sizes):
        super().__init__(name="tensor_network")
        self.sizes = sizes

    def first(self) -> tuple[hk.LSTMState, jax.Array, jax.Array]:
        """The state of an LSTM, and what comes from its MLP and from all LSTMs, at first."""
        scaled = hk.initializers.VarianceScaling()
        zeros, sizes = jnp.zeros, self.sizes
        state = hk.LSTMState(
            hidden=hk.get_parameter("initial_hidden", [sizes.lstm], init=zeros),
            cell=hk.get_parameter("initial_cell", [sizes.lstm], init=zeros),
        )
        from_mlp = hk.get_parameter("initial_from_mlp", [sizes.from_mlp], init=scaled)
        return (
            state,
            from_mlp,
            hk.get_parameter("initial_from_lstm", [sizes.from_lstm], init=scaled),
        )

    def __call__(
        self, inputs: jax.Array, state: hk.LSTMState
    ) -> tuple[jax.Array, jax.Array, hk.LSTMState]:
        """What goes to the MLPs [tensors, to_mlp], to all LSTMs [from_lstm]; the next state."""
        hidden, state = hk.LSTM(self.sizes.lstm, name="lstm")(inputs, state)
        to_mlp = hk.Linear(self.sizes.to_mlp, name="to_mlp")(hidden)
        to_lstm = jnp.mean(hk.Linear(self.sizes.from_lstm, name="to_lstm")(hidden), axis=0)
        return to_mlp, to_lstm, state


def rnn_mlp(
    *,
    step_multiplier: float = 0.001,
    exponent_multiplier: float = 0.001,
    hidden: Sequence[int] = (32, 32),
    lstm_units: int = 64,
    from_mlp: int = 16,
    from_lstm: int = 18,
    to_mlp: int = 17,
    decays: Sequence[float] = DECAYS,
    timescales: Sequence[float] = TIMESCALES,
    state_dtype: str = "float32",
) -> LearnedOptimizer:
    """The update rule at the top of this file.

    Args:
      step_multiplier: a; the published value is 0.001.
      exponent_multiplier: b; the published value is 0.001.
      hidden: widths of the hidden layers of the MLP.
      lstm_units: of the LSTM.
      from_mlp, from_lstm, to_mlp: sizes of what goes from an MLP to its LSTM, from all LSTMs to
        all, and from an LSTM to its MLP.
      decays: β of m and of v, in [0, 1).
      timescales: τ of each time feature, in updates.
      state_dtype: of m and v, "float32" or "bfloat16".

    An update takes ``value``, the training loss, and may take ``validation_value``, a loss on
    other data; without it the validation feature stays what it was.

    Raises:
      ValueError: a constant is out of its range; or, at an update, there is no loss.
    """
    check_positive(step_multiplier=step_multiplier, exponent_multiplier=exponent_multiplier)
    check_widths(hidden=hidden)
    check_whole(
        1, 4096, lstm_units=lstm_units, from_mlp=from_mlp, from_lstm=from_lstm, to_mlp=to_mlp
    )
    check_decays(decays=decays)
    check_timescales(timescales=timescales)
    check_state_dtype(state_dtype)
    n, times = len(decays), len(timescales)
    groups = {
        "g": 1, "p": 1, "log|p|": 1, "m": n, "v": n, "m/√v": n, "1/√v": n,
        "time": times, "log tensors": 1, "log norm": 1, "log entries": 1, "lstm": to_mlp,
    }  # fmt: skip
    inputs = input_names(tuple(groups), groups)
    sizes = Sizes(lstm_units, from_mlp, from_lstm, to_mlp)
    functions = hk.multi_transform(lambda: _tensor_functions(sizes))
    mlp = per_parameter_mlp(len(inputs), hidden, 2 + from_mlp)
    first, run = functions.apply
    rule = _Rule(
        step_multiplier, exponent_multiplier, tuple(decays), tuple(timescales), state_dtype,
        mlp, first, run,
    )  # fmt: skip

    def init(key: jax.Array) -> Theta:
        key_mlp, key_tensors = jax.random.split(key)
        return {"mlp": mlp.init(key_mlp), "tensors": functions.init(key_tensors)}

    def build(theta: Theta, num_steps: Any = None) -> optax.GradientTransformationExtraArgs:
        del num_steps
        return optax.GradientTransformationExtraArgs(
            lambda params: rule.first_state(theta, params),
            lambda updates, state, params=None, **extra: rule.update(
                theta, updates, state, params, **extra
            ),
        )

    constants = {
        "step_multiplier": step_multiplier,
        "exponent_multiplier": exponent_multiplier,
        "hidden": list(hidden),
        "lstm_units": lstm_units,
        "from_mlp": from_mlp,
        "from_lstm": from_lstm,
        "to_mlp": to_mlp,
        "decays": list(decays),
        "timescales": list(timescales),
        "state_dtype": state_dtype,
    }
    return LearnedOptimizer("rnn_mlp", constants, init, build, inputs, reads_loss=True)


class _Rule(NamedTuple):
    """The rule with its constants; ``first``, ``run``: of the `TensorNetwork`."""

    step_multiplier: float
    exponent_multiplier: float
    decays: tuple[float, ...]
    timescales: tuple[float, ...]
    state_dtype: str
    mlp: Network
    first: Any
    run: Any

    def first_state(self, theta: Theta, params: optax.Params) -> RnnState:
        full = [p for p in map(real_array, jax.tree.leaves(params)) if p.size]
        lstm, from_mlp, from_lstm = self.first(theta["tensors"], None)
        each = jax.tree.map(lambda x: jnp.broadcast_to(x, (len(full), *x.shape)), (lstm, from_mlp))

        def moments(parameter: Any) -> Moments:
            p, count = real_array(parameter), len(self.decays)
            return Moments(*(zeros_beside(p, count, self.state_dtype) for _ in Moments._fields))

        return RnnState(
            step=jnp.zeros((), jnp.int32),
            tensors=jax.tree.map(moments, params),
            lstm=each[0],
            from_mlp=each[1],
            from_lstm=from_lstm,
            train=no_loss(),
            validation=no_loss(),
            scale=jnp.float32(1 - CLIP_DECAY),
        )

    def update(
        self,
        theta: Theta,
        updates: optax.Updates,
        state: RnnState,
        params: optax.Params | None,
        *,
        value: Any = None,
        validation_value: Any = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, RnnState]:
        del extra_args
        tree, gradients, parameters = flat_pairs(updates, params)
        loss = required_loss(value, "rnn_mlp")
        moments = tree.flatten_up_to(state.tensors)
        steps = [jnp.zeros_like(p) for p in parameters]
        after = state._replace(
            step=optax.safe_increment(state.step), train=with_loss(state.train, loss, TRAIN_DECAY)
        )
        if full := [i for i, p in enumerate(parameters) if p.size]:
            gs = [gradients[i].astype(jnp.float32) for i in full]
            gs, scale = clipped(gs, state.scale, state.step)
            ps = [parameters[i].astype(jnp.float32) for i in full]
            ms = [self.with_gradient(moments[i], g) for i, g in zip(full, gs, strict=True)]
            found, after = self.update_full(theta, gs, ps, ms, after, loss)
            after = after._replace(scale=scale)
            for i, step, of in zip(full, found, ms, strict=True):
                steps[i] = step.astype(parameters[i].dtype)
                moments[i] = jax.tree.map(lambda x: round_to(x, self.state_dtype, state.step), of)
        if validation_value is not None:
            loss = jnp.asarray(validation_value, jnp.float32)
            after = after._replace(validation=with_loss(state.validation, loss, VALIDATION_DECAY))
        return tree.unflatten(steps), after._replace(tensors=tree.unflatten(moments))

    def with_gradient(self, before: Moments, gradient: jax.Array) -> Moments:
        return Moments(
            running_mean(before.momenta, gradient, self.decays),
            running_mean(before.second_moments, jnp.square(gradient), self.decays),
        )

    def update_full(
        self,
        theta: Theta,
        gradients: Sequence[jax.Array],
        parameters: Sequence[jax.Array],
        moments: Sequence[Moments],
        state: RnnState,
        loss: jax.Array,
    ) -> tuple[list[jax.Array], RnnState]:
        """The updates of the tensors that are not empty, and the state of the networks."""
        validation = corrected_mean(state.validation, VALIDATION_DECAY)
        losses = [standardized(state.train, x, TRAIN_DECAY) for x in (loss, validation)]
        everything = list(zip(gradients, parameters, moments, strict=True))
        rows = [
            jnp.concatenate([state.from_lstm, back, tensor_features(g, p, m, losses)])
            for (g, p, m), back in zip(everything, state.from_mlp, strict=True)
        ]
        to_mlps, from_lstm, lstm = self.run(theta["tensors"], None, jnp.stack(rows), state.lstm)
        time = sine_of_steps(state.step - 1, self.timescales)
        found, back = [], []
        for (g, p, m), to_mlp in zip(everything, to_mlps, strict=True):
            shared = jnp.concatenate([time, tensor_sizes(p, len(rows)), to_mlp])
            step, z = self.update_one(theta["mlp"], g, p, m, shared)
            found.append(step)
            back.append(z)
        return found, state._replace(lstm=lstm, from_mlp=jnp.stack(back), from_lstm=from_lstm)

    def update_one(
        self,
        theta: Theta,
        gradient: jax.Array,
        parameter: jax.Array,
        moments: Moments,
        shared: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        """The update of one tensor, and the mean of its z."""
        scales = [inverse_rms(x, EPSILON) for x in entry_features(gradient, parameter, moments)]

        def descend(arrays: tuple[jax.Array, jax.Array, Moments]) -> jax.Array:
            g, p, m = arrays[0][0], arrays[1][0], arrays[2]
            inputs = [*entry_features(g, p, m), of_tensor(shared, parameter)]
            d, mu, *z = self.mlp.apply(theta, inputs, [*scales, None])
            step = -self.step_multiplier * d * jnp.exp(self.exponent_multiplier * mu)
            return jnp.stack([step, *z])

        arrays = (gradient[None], parameter[None], moments)
        outputs = self.mlp.evaluate(descend, arrays, parameter.shape)
        return outputs[0], outputs[1:].mean(axis=tuple(range(1, outputs.ndim)))


def clipped(
    gradients: Sequence[jax.Array], scale: jax.Array, step: jax.Array
) -> tuple[list[jax.Array], jax.Array]:
    """The gradients of a model, clipped by their running mean, and that mean with this step's."""
    bound = CLIP_MULTIPLE * scale / (1 - CLIP_DECAY ** (step + 1.0))
    within = [jnp.clip(g, -bound, bound) for g in gradients]
    square = jnp.mean(jnp.stack([jnp.mean(jnp.square(g)) for g in within]))
    return within, CLIP_DECAY * scale + (1 - CLIP_DECAY) * jnp.sqrt(1e-8 + square)


def entry_features(gradient: jax.Array, parameter: jax.Array, moments: Moments) -> list[jax.Array]:
    """The inputs of the MLP that differ by parameter, [inputs, *shape] each."""
    root = jax.lax.rsqrt(moments.second_moments + MOMENT_EPSILON)
    logarithm = jnp.log(jnp.abs(parameter) + 1e-8)
    first = [x[None] for x in (gradient, parameter, logarithm)]
    return [*first, *moments, moments.momenta * root, root]


def tensor_features(
    gradient: jax.Array, parameter: jax.Array, moments: Moments, losses: Sequence[jax.Array]
) -> jax.Array:
    """The 18 inputs of the LSTM that come from outside the networks."""
    mean_m, variance_m = mean_and_variance(moments.momenta)
    mean_v, variance_v = mean_and_variance(moments.second_moments)
    mean_p, variance_p = mean_and_variance(parameter)
    extents = [*parameter.shape, *[1] * SHAPE_AXES][:SHAPE_AXES]
    features = [
        log_magnitude(norm(gradient)), is_rank(0, parameter),
        log_magnitude(mean_m), jnp.sign(mean_m),
        log_magnitude(mean_v), jnp.sign(mean_v),
        log_magnitude(mean_p), jnp.sign(mean_p), log_magnitude(norm(parameter)),
        *(jnp.float32(np.log(extent) - 1) for extent in extents), *losses,
        log_magnitude(variance_m), log_magnitude(variance_v), log_magnitude(variance_p),
    ]  # fmt: skip
    return jnp.stack(features)


def tensor_sizes(parameter: jax.Array, tensors: int) -> jax.Array:
    """Of the MLP: log of the number of tensors less 1, of the norm, and of the entries."""
    return jnp.stack(
        [
            jnp.float32(np.log(tensors) - 1),
            jnp.log(norm(parameter) + 1e-8),
            jnp.float32(np.log(parameter.size)),
        ]
    )


def _tensor_functions(sizes: Sizes) -> Any:
    """For `hk.multi_transform`: what draws all parameters, and what runs them."""
    module = TensorNetwork(sizes)

    def draw() -> None:
        state, from_mlp, from_lstm = module.first()
        row = jnp.concatenate([from_lstm, from_mlp, jnp.zeros(TENSOR_FEATURES)])
        module(row[None], jax.tree.map(lambda x: x[None], state))

    return draw, (module.first, module)
