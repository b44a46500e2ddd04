"""The one abstraction of this package: a learned optimizer."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import optax

Theta = Any
"""The meta-parameters of an update rule: a pytree of float32 arrays."""


class LearnedOptimizer(NamedTuple):
    """An update rule with meta-parameters θ.

    ``init(key)`` draws θ; ``build(theta)`` gives the optax transformation that θ
    stands for, whose updates have the sign that `optax.apply_updates` expects.
    ``RULES[name](**constants)`` makes an equal rule again: that is what a saved
    optimizer stores, beside θ.
    """

    name: str
    constants: Mapping[str, Any]
    init: Callable[[jax.Array], Theta]
    build: Callable[[Theta], optax.GradientTransformationExtraArgs]
