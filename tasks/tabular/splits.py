"""From a table to the four splits of a task, and minibatches of them."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from tasks.base import Arrays, Batch
from tasks.data.embedded import load_table

SHARES = {"train": 0.6, "inner_validation": 0.1, "outer_validation": 0.1, "test": 0.2}
SPLIT_SEED = 0


def split_table(name: str) -> Mapping[str, Mapping[str, np.ndarray]]:
    """The rows in a fixed random order, cut by `SHARES`; standardised by the train split.

    Of rows that are there twice one is kept, so that none is in two splits.

    Returns:
      {split: {"input": float32 [n, d], "target": int32 or float32 [n]}}; targets that are values
      are standardised too, and a column that does not change in the train split is 0.
    """
    inputs, targets = distinct_rows(*load_table(name))
    order = np.random.default_rng(SPLIT_SEED).permutation(len(inputs))
    ends = np.round(np.cumsum([0, *SHARES.values()]) * len(order)).astype(int)
    rows = {
        split: order[first:last] for split, first, last in zip(SHARES, ends, ends[1:], strict=False)
    }
    values = standardized(inputs, rows["train"])
    if targets.dtype.kind == "f":
        targets = standardized(targets, rows["train"])
    return {split: {"input": values[own], "target": targets[own]} for split, own in rows.items()}


def distinct_rows(inputs: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows without repetitions, in their order."""
    _, first = np.unique(np.c_[inputs, targets], axis=0, return_index=True)
    kept = np.sort(first)
    return inputs[kept], targets[kept]


def standardized(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Mean 0 and variance 1 over ``rows``, column by column."""
    seen = values[rows].astype(np.float64)
    spread = seen.std(axis=0)
    scaled = (values - seen.mean(axis=0)) / np.where(spread > 0, spread, np.inf)
    return scaled.astype(np.float32)


def draw_rows(key: jax.Array, arrays: Arrays, size: int) -> Batch:
    """``size`` rows drawn with replacement: input [size, d], target [size]."""
    inputs, targets = jnp.asarray(arrays["input"]), jnp.asarray(arrays["target"])
    rows = jax.random.randint(key, (size,), 0, len(targets))
    return {"input": inputs[rows], "target": targets[rows]}


def first_rows(arrays: Arrays, limit: int) -> Batch:
    """The first ``limit`` rows of a split."""
    return {name: jnp.asarray(arrays[name][:limit]) for name in ("input", "target")}
