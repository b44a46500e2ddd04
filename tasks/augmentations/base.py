"""What augmentations share: their arguments, their own draws, and tasks in other coordinates."""

import math
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from tasks.base import (
    Batch,
    Configuration,
    Differentiate,
    Loss,
    ModelState,
    Params,
    Task,
    TaskFamily,
    Value,
)


class AugmentationError(ValueError):
    """An augmentation that cannot be made, or not of this family: which, why, and the way out."""


class Argument(NamedTuple):
    """One argument of an augmentation.

    ``name``: as it is written in its form; ``legal``: what it may be, in words;
    ``read``: from text to its value, ValueError where it is none.
    """

    name: str
    legal: str
    read: Callable[[str], Any]


class Augmentation(NamedTuple):
    """``wrap(family, *values)`` makes another family of one; ``summary`` says which."""

    arguments: tuple[Argument, ...]
    summary: str
    wrap: Callable[..., TaskFamily]

    def form(self, name: str) -> str:
        """How it is written in the name of a task."""
        return ":".join((name, *(argument.name for argument in self.arguments)))


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise ValueError
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise ValueError
    return value


def _count(text: str) -> int:
    value = int(text)
    if not 1 <= value < 2**31:
        raise ValueError
    return value


def _seed(text: str) -> int:
    value = int(text)
    if not 0 <= value < 2**32:
        raise ValueError
    return value


def positive(name: str) -> Argument:
    """A number above 0."""
    return Argument(name, "a positive, finite number", _positive)


def share(name: str) -> Argument:
    """A number in [0, 1]."""
    return Argument(name, "a number from 0 to 1", _share)


def count(name: str) -> Argument:
    """A number of things."""
    return Argument(name, "an integer from 1", _count)


def seed(name: str) -> Argument:
    """A seed."""
    return Argument(name, "an integer from 0, below 2³²", _seed)


def one_of(name: str, *legal: str) -> Argument:
    """A word among those given."""

    def read(text: str) -> str:
        if text not in legal:
            raise ValueError
        return text

    return Argument(name, f"one of {', '.join(legal)}", read)


def own_key(family: TaskFamily, key: jax.Array) -> jax.Array:
    """The key of what an augmentation of ``family`` draws, beside ``family.sample(key)``.

    So an augmented family draws, by one key, the task that the family itself would.
    """
    return jax.random.fold_in(key, zlib.crc32(family.name.encode()))


def initial_shapes(family: TaskFamily, configuration: Configuration, key: jax.Array) -> Params:
    """The shapes and dtypes of the parameters of a task, without making them."""
    return jax.eval_shape(lambda k: family.build(configuration).init(k)[0], key)


def in_coordinates(task: Task, to_params: Callable[[Params], Params]) -> tuple[Loss, Any]:
    """``loss`` and ``gradient`` of a task whose parameters are a function of coordinates.

    By the chain rule from the gradient that the task itself hands out, delayed or not.
    """

    def loss(coordinates: Params, model_state: ModelState, key: jax.Array, batch: Batch) -> Value:
        return task.loss(to_params(coordinates), model_state, key, batch)

    def gradient(
        differentiate: Differentiate,
        coordinates: Params,
        model_state: ModelState,
        key: jax.Array,
        batch: Batch,
    ) -> tuple[Value, Params]:
        params, pull_back = jax.vjp(to_params, coordinates)
        value, of_params = task.value_and_gradient(params, model_state, key, batch, differentiate)
        return value, pull_back(of_params)[0]

    return loss, gradient


def cast_floats(tree: Any, dtype: Any) -> Any:
    """The floating-point leaves of a pytree in another dtype."""

    def cast(leaf: Any) -> Any:
        return leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree.map(cast, tree)


def cast_like(tree: Any, like: Any) -> Any:
    """The leaves of a pytree in the dtypes of those of another."""
    return jax.tree.map(lambda leaf, other: leaf.astype(other.dtype), tree, like)
