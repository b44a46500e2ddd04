"""Hand-designed optimizers with learned hyperparameters: θ is their logarithms.

    sgd        u = g
    momentum   v ← βv + g,  u = v
    adam       m ← β₁m + (1−β₁)g,  v ← β₂v + (1−β₂)g²,  u = m̂/(√v̂ + ε)
    adamw      u = that of adam + λp
    p ← p − s·α_t·u

θ has log α and, where the optimizer has them, log(1−β), log ε and log λ; and of the schedule

    constant   α_t = α
    power      α_t = α/(1 + t/τ)^κ                        log κ
    cosine     α_t = α·(f + (1−f)(1 + cos πx)/2)          log f      x = min(t/T, 1)
    linear     α_t = α·(f + (1−f)(1 − x))                 log f
    piecewise  log α_t = log α + h(x), in straight lines      heights of h at even knots, 0 at first

T is ``num_steps``; "constant" and "power" (Vicol et al. 2021, section 5.2) need none.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax

from learned_opt.base import LearnedOptimizer, Theta
from learned_opt.constants import check_choice, check_positive, check_share, check_whole
from learned_opt.tensors import real_array, required, required_steps

OPTIMIZERS: Mapping[str, Sequence[str]] = {
    "sgd": (),
    "momentum": ("log_one_minus_momentum",),
    "adam": ("log_one_minus_b1", "log_one_minus_b2", "log_epsilon"),
    "adamw": ("log_one_minus_b1", "log_one_minus_b2", "log_epsilon", "log_weight_decay"),
}
"""The hyperparameters of every optimizer beside log α."""

SCHEDULES: Mapping[str, Sequence[str]] = {
    "constant": (),
    "power": ("log_power",),
    "cosine": ("log_final_share",),
    "linear": ("log_final_share",),
    "piecewise": ("log_heights",),
}
WITHOUT_HORIZON = ("constant", "power")


def hyper(
    *,
    optimizer: str = "adam",
    schedule: str = "constant",
    step_multiplier: float = 1.0,
    time_scale: float = 5000.0,
    knots: int = 5,
    initial_learning_rate: float = 0.001,
    initial_momentum: float = 0.9,
    initial_b1: float = 0.9,
    initial_b2: float = 0.999,
    initial_epsilon: float = 1e-8,
    initial_weight_decay: float = 1e-4,
    initial_power: float = 1.0,
    initial_final_share: float = 0.1,
) -> LearnedOptimizer:
    """The update rule at the top of this file.

    Args:
      optimizer: a name of `OPTIMIZERS`.
      schedule: a name of `SCHEDULES`.
      step_multiplier: s, in units of the learned rate.
      time_scale: τ of "power", in updates.
      knots: of "piecewise", evenly spaced over the training, both ends included.
      initial_learning_rate, …: the hyperparameters that meta-training begins with.

    Raises:
      ValueError: a constant is out of its range; or, in ``build``, ``num_steps`` is missing where
        the schedule reads it.
    """
    check_choice(tuple(OPTIMIZERS), optimizer=optimizer)
    check_choice(tuple(SCHEDULES), schedule=schedule)
    check_whole(2, 1024, knots=knots)
    check_positive(
        step_multiplier=step_multiplier,
        time_scale=time_scale,
        initial_learning_rate=initial_learning_rate,
        initial_epsilon=initial_epsilon,
        initial_weight_decay=initial_weight_decay,
        initial_power=initial_power,
        initial_final_share=initial_final_share,
    )
    check_share(initial_momentum=initial_momentum, initial_b1=initial_b1, initial_b2=initial_b2)
    initial = {
        "log_learning_rate": np.log(initial_learning_rate),
        "log_one_minus_momentum": np.log1p(-initial_momentum),
        "log_one_minus_b1": np.log1p(-initial_b1),
        "log_one_minus_b2": np.log1p(-initial_b2),
        "log_epsilon": np.log(initial_epsilon),
        "log_weight_decay": np.log(initial_weight_decay),
        "log_power": np.log(initial_power),
        "log_final_share": np.log(initial_final_share),
        "log_heights": np.zeros(knots),
    }
    names = ("log_learning_rate", *OPTIMIZERS[optimizer], *SCHEDULES[schedule])
    module = hk.transform(lambda: Hyperparameters({name: initial[name] for name in names})())
    horizon = schedule not in WITHOUT_HORIZON

    def build(theta: Theta, num_steps: Any = None) -> optax.GradientTransformationExtraArgs:
        steps = required_steps(num_steps, "hyper") if horizon else None
        values = module.apply(theta, None)
        relative = _relative_rate(schedule, values, time_scale, steps)
        rate = step_multiplier * jnp.exp(values["log_learning_rate"])
        return _in_float32(
            optax.chain(
                _directions(optimizer, values),
                optax.scale_by_learning_rate(lambda count: rate * relative(count)),
            )
        )

    constants = {
        "optimizer": optimizer,
        "schedule": schedule,
        "step_multiplier": step_multiplier,
        "time_scale": time_scale,
        "knots": knots,
        "initial_learning_rate": initial_learning_rate,
        "initial_momentum": initial_momentum,
        "initial_b1": initial_b1,
        "initial_b2": initial_b2,
        "initial_epsilon": initial_epsilon,
        "initial_weight_decay": initial_weight_decay,
        "initial_power": initial_power,
        "initial_final_share": initial_final_share,
    }
    return LearnedOptimizer(
        "hyper", constants, module.init, build, inputs=names, reads_num_steps=horizon
    )


class Hyperparameters(hk.Module):
    """θ: a number, or an array, by name."""

    def __init__(self, initial: Mapping[str, Any]):
        super().__init__(name="hyper")
        self.initial = initial

    def __call__(self) -> dict[str, jax.Array]:
        """All of them, float32."""
        return {
            name: hk.get_parameter(name, np.shape(value), init=hk.initializers.Constant(value))
            for name, value in self.initial.items()
        }


def _directions(optimizer: str, values: Mapping[str, jax.Array]) -> optax.GradientTransformation:
    if optimizer == "sgd":
        return optax.identity()
    if optimizer == "momentum":
        return optax.trace(decay=1 - jnp.exp(values["log_one_minus_momentum"]))
    adam = optax.scale_by_adam(
        b1=1 - jnp.exp(values["log_one_minus_b1"]),
        b2=1 - jnp.exp(values["log_one_minus_b2"]),
        eps=jnp.exp(values["log_epsilon"]),
        mu_dtype=jnp.float32,
    )
    if optimizer == "adam":
        return adam
    return optax.chain(adam, optax.add_decayed_weights(jnp.exp(values["log_weight_decay"])))


def _relative_rate(
    schedule: str, values: Mapping[str, jax.Array], time_scale: float, steps: Any
) -> Callable[[jax.Array], jax.Array]:
    """α_t/α as a function of t."""
    if schedule == "constant":
        return lambda count: jnp.ones(())
    if schedule == "power":
        return lambda count: (1 + count / time_scale) ** -jnp.exp(values["log_power"])
    if schedule == "piecewise":
        heights = values["log_heights"]
        places = jnp.linspace(0.0, 1.0, heights.shape[0])
        return lambda count: jnp.exp(jnp.interp(count / steps, places, heights))
    share = jnp.exp(values["log_final_share"])

    def remaining(count: jax.Array) -> jax.Array:
        x = jnp.minimum(count / steps, 1.0)
        return (1 + jnp.cos(jnp.pi * x)) / 2 if schedule == "cosine" else 1 - x

    return lambda count: share + (1 - share) * remaining(count)


def _in_float32(
    inner: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
    """The transformation on real arrays, in float32 within, in the dtype of the parameters."""
    inner = optax.with_extra_args_support(inner)

    def floats(tree: Any) -> Any:
        return jax.tree.map(lambda x: real_array(x).astype(jnp.float32), tree)

    def init(params: optax.Params) -> Any:
        return inner.init(floats(params))

    def update(
        updates: optax.Updates, state: Any, params: Any = None, **extra_args: Any
    ) -> tuple[optax.Updates, Any]:
        steps, state = inner.update(floats(updates), state, floats(required(params)), **extra_args)
        return jax.tree.map(lambda u, p: u.astype(jnp.result_type(p)), steps, params), state

    return optax.GradientTransformationExtraArgs(init, update)
