"""The two abstractions of this package: a task, and a family of tasks.

Shapes: B is the batch size. Keys are JAX random keys, of the old or the new kind.
"""

import zlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

Params = Any
ModelState = Any
Configuration = Any
Batch = Any
Arrays = Any
Metrics = Mapping[str, jax.Array]

SPLITS = ("train", "inner_validation", "outer_validation", "test")
"""Gradients come from ``train``; a validation meta-loss from ``inner_validation``;
choices between optimizers from ``outer_validation``; scores from ``test`` alone."""


Value = tuple[jax.Array, tuple[ModelState, Metrics]]
Loss = Callable[[Params, ModelState, jax.Array, Batch], Value]
ValueAndGradient = Callable[[Params, ModelState, jax.Array, Batch], tuple[Value, Params]]
Differentiate = Callable[[Loss], ValueAndGradient]


def differentiate_whole(loss: Loss) -> ValueAndGradient:
    """The value and the gradient of a loss, on all of the batch at once."""
    return jax.value_and_grad(loss, has_aux=True)


class Task(NamedTuple):
    """One inner problem.

    ``init(key) -> (params, model_state)``;
    ``loss(params, model_state, key, batch) -> (scalar, (model_state, metrics))``.

    A task whose training does not see ∇ loss (but a delayed one, say) has ``gradient`` too:
    ``gradient(differentiate, params, model_state, key, batch)`` returns what
    ``differentiate(loss)(params, model_state, key, batch)`` would, with that gradient in place
    of ∇ loss. The loss itself stays what it is, to be measured and differentiated by others.
    """

    init: Callable[[jax.Array], tuple[Params, ModelState]]
    loss: Loss
    gradient: (
        Callable[[Differentiate, Params, ModelState, jax.Array, Batch], tuple[Value, Params]] | None
    ) = None

    def value_and_gradient(
        self,
        params: Params,
        model_state: ModelState,
        key: jax.Array,
        batch: Batch,
        differentiate: Differentiate = differentiate_whole,
    ) -> tuple[Value, Params]:
        """((loss, (model_state, metrics)), gradient): what a step of training sees.

        ``differentiate`` is how a loss is differentiated: whole, or in parts.
        """
        if self.gradient is None:
            return differentiate(self.loss)(params, model_state, key, batch)
        return self.gradient(differentiate, params, model_state, key, batch)


class TaskMetadata(NamedTuple):
    """What a report says of a family.

    ``activation``: of the hidden layers, "varied" where tasks differ in it, or "none";
    ``data``: the data set and its resolution, or "synthetic"; ``widths``: hidden widths;
    ``horizon``: the inner steps that suit it; ``initial_loss``: loss of a model that
    knows nothing (log of the number of classes, say), the unit of loss bounds.
    """

    domain: str
    architecture: str
    activation: str
    data: str
    widths: tuple[int, ...]
    batch_size: int
    horizon: int
    initial_loss: float


class TaskFamily(NamedTuple):
    """A distribution over tasks of one shape.

    ``load()`` reads the data: {split: arrays}, NumPy, for every name in `SPLITS`;
    ``sample(key) -> cfg`` draws a configuration, a pytree of arrays that can be traced;
    ``build(cfg) -> Task``;
    ``batch(key, arrays) -> batch`` draws B examples of one split, inside a compiled step;
    ``examples(arrays, limit) -> batch`` is the same set of at most ``limit`` examples
    every time, to score with;
    ``distort(key, batch) -> batch``, where there is one, changes the minibatches of training
    alone: mirrored or noisy images, say;
    ``pool(r) -> arrays``, where the train split is larger than memory, stands in for it from
    refresh r on, always of one shape; ``load()`` has that of r = 0.
    """

    name: str
    metadata: TaskMetadata
    load: Callable[[], Mapping[str, Arrays]]
    sample: Callable[[jax.Array], Configuration]
    build: Callable[[Configuration], Task]
    batch: Callable[[jax.Array, Arrays], Batch]
    examples: Callable[[Arrays, int], Batch]
    distort: Callable[[jax.Array, Batch], Batch] | None = None
    pool: Callable[[int], Arrays] | None = None

    def training_batch(self, key: jax.Array, arrays: Arrays) -> Batch:
        """A minibatch to train on: the one that ``batch`` draws, distorted."""
        drawn = self.batch(key, arrays)
        if self.distort is None:
            return drawn
        return self.distort(jax.random.fold_in(key, DISTORTION), drawn)


DISTORTION = zlib.crc32(b"distortion")
"""What distortions draw by: apart from what the minibatch is drawn by."""


def family_facts(family: TaskFamily) -> dict[str, Any]:
    """What tells a family from another, as JSON values: its metadata and its size."""
    metadata = family.metadata
    return {
        "domain": metadata.domain,
        "architecture": metadata.architecture,
        "activation": metadata.activation,
        "data": metadata.data,
        "widths": list(metadata.widths),
        "parameters": parameter_count(family),
        "batch_size": metadata.batch_size,
    }


def parameter_count(family: TaskFamily) -> int:
    """Number of trainable parameters of one task of the family, without making them."""

    def init(key: jax.Array) -> Params:
        return family.build(family.sample(key)).init(key)[0]

    return sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(init, jax.random.key(0))))
