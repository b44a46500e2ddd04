"""The next value of a series from a window of those before.

A split is a block of time; windows lie within their block.
"""

from collections.abc import Callable, Mapping
from functools import partial

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from tasks.architectures import ModelName
from tasks.base import (
    Arrays,
    Batch,
    Configuration,
    Metrics,
    Task,
    TaskFamily,
    TaskMetadata,
)
from tasks.catalogue import AdamTarget, ParametricFamily, Row
from tasks.data.embedded import load_series
from tasks.haiku_task import haiku_task
from tasks.images.perceptrons import mlp
from tasks.images.variation import log_uniform, nothing
from tasks.readout import SCALE, readout
from tasks.tabular.splits import standardized
from tasks.text.architectures import make_model

BATCH_SIZE, HORIZON = 32, 200
WINDOW = 12
BLOCKS = {"train": 0.6, "inner_validation": 0.13, "outer_validation": 0.13, "test": 0.14}
TRANSFORMS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "co2": np.diff,  # it grows
    "sunspots": np.sqrt,  # counts, whose spread grows with their mean
}
TEST_VARIANCE = {"sunspots": 1.85}  # of the test block, in units of the train block's; 1 of others
INPUT_NOISES = (0.01, 0.3)  # of tasks that vary: log-uniform


def split_series(name: str) -> Mapping[str, Arrays]:
    """{split: {"values": float32 [n]}}, standardised by the train split."""
    values = TRANSFORMS.get(name, np.asarray)(load_series(name))
    ends = np.round(np.cumsum([0, *BLOCKS.values()]) * len(values)).astype(int)
    values = standardized(values, np.arange(ends[1]))
    blocks = zip(BLOCKS, ends, ends[1:], strict=False)
    return {split: {"values": values[first:last]} for split, first, last in blocks}


def _windows(arrays: Arrays, starts: jax.Array) -> Batch:
    values = jnp.asarray(arrays["values"])
    return {
        "input": values[starts[:, None] + jnp.arange(WINDOW)[None]],
        "target": values[starts + WINDOW],
    }


def draw_windows(key: jax.Array, arrays: Arrays) -> Batch:
    """Windows at random places: input [B, WINDOW], target [B]."""
    return _windows(
        arrays, jax.random.randint(key, (BATCH_SIZE,), 0, len(arrays["values"]) - WINDOW)
    )


def spread_windows(arrays: Arrays, limit: int) -> Batch:
    """At most ``limit`` windows, spread over the block."""
    there = len(arrays["values"]) - WINDOW
    count = min(limit, there)
    return _windows(arrays, jnp.arange(count) * there // count)


def forecast(windows: jax.Array, model: ModelName) -> jax.Array:
    """[B, WINDOW] → [B], by autoregression, a perceptron or a model of sequences."""
    if model.architecture == "autoregression":
        return readout(windows, 1)[:, 0]
    if model.architecture == "mlp":
        init = hk.initializers.TruncatedNormal(SCALE * model.widths[-1] ** -0.5)
        return mlp(windows, model.widths, 1, jnp.tanh, last_init=init)[:, 0]
    return readout(make_model(model).apply(windows[:, :, None])[:, -1], 1)[:, 0]


def series_family(
    name: str, series: str, model: str, widths: tuple[int, ...] = (), noisy: bool = False
) -> TaskFamily:
    """Forecasts of a series; with ``noisy`` tasks differ in the noise on what they see."""
    parts = ModelName(model, tuple(widths), "")

    def sample(key: jax.Array) -> Configuration:
        return {"noise": log_uniform(key, INPUT_NOISES)}

    def loss(cfg: Configuration, batch: Batch) -> tuple[jax.Array, Metrics]:
        windows = batch["input"]
        if noisy:
            windows += cfg["noise"] * jax.random.normal(hk.next_rng_key(), windows.shape)
        return jnp.mean(jnp.square(forecast(windows, parts) - batch["target"])), {}

    example = {"input": jnp.zeros((2, WINDOW)), "target": jnp.zeros(2)}

    def build(cfg: Configuration) -> Task:
        return haiku_task(partial(loss, cfg), example)

    metadata = TaskMetadata(
        "time series", model, "tanh" if widths else "none", series, tuple(widths), BATCH_SIZE,
        HORIZON, TEST_VARIANCE.get(series, 1.0),
    )  # fmt: skip
    return TaskFamily(
        name, metadata, partial(split_series, series), sample if noisy else nothing, build,
        draw_windows, spread_windows,
    )  # fmt: skip


def _row(name: str, series: str, model: str, share: float, *widths: int) -> Row:
    make = partial(series_family, name, series, model, widths)
    return Row(name, make, AdamTarget(1e-2, 60, share))


ROWS = (
    _row("sunspots_autoregression", "sunspots", "autoregression", 0.4),
    _row("sunspots_mlp16", "sunspots", "mlp", 0.4, 16),
    _row("sunspots_gru16", "sunspots", "gru", 0.4, 16),
    _row("co2_autoregression", "co2", "autoregression", 0.95),
    _row("co2_conv16x16x16", "co2", "conv", 0.95, 16, 16, 16),
    _row("elnino_autoregression", "elnino", "autoregression", 0.4),
    _row("elnino_mlp16x16", "elnino", "mlp", 0.3, 16, 16),
    _row("elnino_lstm16", "elnino", "lstm", 0.3, 16),
)

FAMILIES = (
    ParametricFamily(
        "series_forecasters",
        "forecasts of series; the noise on what is seen varies",
        tuple(
            {"series": series, "model": model, "widths": [16], "noisy": True}
            for series in ("sunspots", "elnino")
            for model in ("mlp", "gru")
        ),
        series_family,
        AdamTarget(1e-2, 60, 0.9),
    ),
)
