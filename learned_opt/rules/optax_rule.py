"""Any optax transformation as a rule with θ = ().

    p ← p + update        what `optax.NAME(**arguments)` makes of the gradient

`from_optax(tx)` takes any transformation; the rule "optax" names one of optax's optimizers and can
be saved.
"""

from collections.abc import Mapping
from typing import Any

import jax
import optax

from learned_opt.base import LearnedOptimizer, Theta
from learned_opt.constants import check_choice, short

OPTIMIZERS = (
    "adabelief", "adadelta", "adafactor", "adagrad", "adam", "adamax", "adamaxw", "adamw", "adan",
    "amsgrad", "fromage", "lamb", "lars", "lion", "nadam", "nadamw", "noisy_sgd", "novograd",
    "optimistic_gradient_descent", "radam", "rmsprop", "rprop", "sgd", "sign_sgd", "sm3", "yogi",
)  # fmt: skip
"""Those of optax's optimizers that numbers alone describe."""


def optax_rule(
    *, transformation: str = "adam", arguments: Mapping[str, Any] | None = None
) -> LearnedOptimizer:
    """The optimizer `optax.TRANSFORMATION(**arguments)` as an update rule.

    Args:
      transformation: a name of `OPTIMIZERS`.
      arguments: its keyword arguments; by default ``learning_rate=0.001``.

    Raises:
      ValueError: the name is unknown, or the arguments do not fit.
    """
    check_choice(OPTIMIZERS, transformation=transformation)
    given = {"learning_rate": 0.001} if arguments is None else arguments
    plain = int | float | bool | str | None
    if not isinstance(given, Mapping) or not all(
        isinstance(name, str) and (isinstance(value, plain | jax.Array) or callable(value))
        for name, value in given.items()
    ):
        raise ValueError(f"`arguments`={short(given)}: must map names to numbers")
    try:
        tx = getattr(optax, transformation)(**given)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`arguments`={short(dict(given))} do not fit `optax.{transformation}`: {error}"
        ) from None
    constants = {"transformation": transformation, "arguments": dict(given)}
    return from_optax(tx)._replace(name="optax", constants=constants)


def from_optax(tx: optax.GradientTransformation) -> LearnedOptimizer:
    """A transformation as an update rule without meta-parameters.

    It has no name in the registry: such a rule can be meta-evaluated, not saved.
    """

    def init(key: jax.Array) -> Theta:
        del key
        return ()

    def build(theta: Theta, num_steps: Any = None) -> optax.GradientTransformationExtraArgs:
        del theta, num_steps
        return optax.with_extra_args_support(tx)

    return LearnedOptimizer("", {}, init, build)
