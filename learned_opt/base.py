"""The one abstraction of this package: a learned optimizer."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import optax

Theta = Any
"""The meta-parameters of an update rule: a pytree of float32 arrays."""


class LearnedOptimizer(NamedTuple):
    """An update rule with meta-parameters θ.

    ``init(key)`` draws θ; ``build(theta, num_steps=None)`` gives the optax transformation that
    θ stands for, whose updates have the sign that `optax.apply_updates` expects. ``num_steps``
    is the length of training, a number or a traced scalar; rules without a horizon ignore it.

    ``RULES[name](**constants)`` makes an equal rule again: that is what a saved optimizer
    stores, beside θ. ``inputs`` names what the rule's network reads, in order; ``reads_loss``
    and ``reads_num_steps`` say what `update` and `build` must be given.
    """

    name: str
    constants: Mapping[str, Any]
    init: Callable[[jax.Array], Theta]
    build: Callable[..., optax.GradientTransformationExtraArgs]
    inputs: tuple[str, ...] = ()
    reads_loss: bool = False
    reads_num_steps: bool = False
