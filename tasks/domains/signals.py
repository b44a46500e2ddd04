"""Classification of procedural signals in one dimension."""

import math
from collections.abc import Callable, Mapping
from functools import partial

import jax
import jax.numpy as jnp

from tasks.architectures import ModelName
from tasks.base import Batch, Configuration, Metrics, Task, TaskFamily, TaskMetadata
from tasks.catalogue import AdamTarget, ParametricFamily, Row
from tasks.haiku_task import haiku_task
from tasks.images.objectives import classification
from tasks.images.perceptrons import mlp
from tasks.images.variation import log_uniform, nothing
from tasks.readout import readout
from tasks.signals.digits import CLASSES, draw_digits
from tasks.signals.glyphs import draw_glyphs
from tasks.synthetic import drawing, load
from tasks.text.architectures import make_model

BATCH_SIZE, HORIZON = 64, 200
NOISES = (0.05, 1.0)  # of tasks that vary: log-uniform
DRAWS: Mapping[str, Callable[..., Batch]] = {"glyphs": draw_glyphs, "digits": draw_digits}
QUIET = {"glyphs": 0.25, "digits": 0.3}


def signal_family(
    name: str, signals: str, model: str, widths: tuple[int, ...], noisy: bool = False
) -> TaskFamily:
    """A model of signals; with ``noisy`` tasks differ in their noise, which the loss adds."""
    draw = DRAWS[signals]
    parts = ModelName(model, tuple(widths), "")

    def sample(key: jax.Array) -> Configuration:
        return {"noise": log_uniform(key, NOISES)}

    def logits(inputs: jax.Array) -> jax.Array:
        if model == "mlp":
            return mlp(inputs, widths, CLASSES)
        sequence = inputs.reshape(*inputs.shape[:2], -1)
        return readout(make_model(parts).apply(sequence).mean(axis=1), CLASSES)

    def loss(cfg: Configuration, batch: Batch) -> tuple[jax.Array, Metrics]:
        inputs = batch["input"]
        if noisy:
            inputs += cfg["noise"] * batch["noise"]
        return classification(logits(inputs), batch)

    def drawn(key: jax.Array, count: int) -> Batch:
        batch = draw(key, count, 0.0 if noisy else QUIET[signals])
        if not noisy:
            return batch
        noise = jax.random.normal(jax.random.fold_in(key, 1), batch["input"].shape)
        return {**batch, "noise": noise}

    shapes = jax.eval_shape(lambda key: drawn(key, 2), jax.random.key(0))
    example = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

    def build(cfg: Configuration) -> Task:
        return haiku_task(partial(loss, cfg), example)

    metadata = TaskMetadata(
        "signals", model, "relu" if model in ("mlp", "conv") else "tanh", f"synthetic, {signals}",
        tuple(widths), BATCH_SIZE, HORIZON, math.log(CLASSES),
    )  # fmt: skip
    return TaskFamily(
        name, metadata, load, sample if noisy else nothing, build, *drawing(drawn, BATCH_SIZE)
    )


def _row(name: str, signals: str, model: str, share: float, *widths: int) -> Row:
    return Row(
        name, partial(signal_family, name, signals, model, widths), AdamTarget(1e-2, 60, share)
    )


ROWS = (
    _row("glyphs_mlp64", "glyphs", "mlp", 0.6, 64),
    _row("glyphs_conv16x16x16", "glyphs", "conv", 0.8, 16, 16, 16),
    _row("glyphs_gru32", "glyphs", "gru", 0.8, 32),
    _row("spoken_digits_mlp32", "digits", "mlp", 0.3, 32),
    _row("spoken_digits_conv16x16x16", "digits", "conv", 0.5, 16, 16, 16),
    _row("spoken_digits_gru32", "digits", "gru", 0.8, 32),
)

FAMILIES = (
    ParametricFamily(
        "signal_classifiers",
        "classifiers of signals; the noise varies",
        tuple(
            {"signals": signals, "model": model, "widths": [32], "noisy": True}
            for signals in ("digits", "glyphs")
            for model in ("mlp", "conv")
        ),
        signal_family,
        AdamTarget(1e-2, 60, 0.97),
    ),
)
