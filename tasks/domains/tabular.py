"""Classification and regression of small tables."""

import math
from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from tasks.base import Batch, Configuration, Metrics, Task, TaskFamily, TaskMetadata
from tasks.catalogue import AdamTarget, ParametricFamily, Row
from tasks.haiku_task import haiku_task
from tasks.images.objectives import classification
from tasks.images.variation import VARIED, nothing, sample_variation
from tasks.tabular.models import MODELS
from tasks.tabular.splits import draw_rows, first_rows, split_table

BATCH_SIZE, HORIZON = 32, 200


class Table(NamedTuple):
    """Columns, and classes or None where a value is to be told."""

    columns: int
    classes: int | None


TABLES: Mapping[str, Table] = {
    "iris": Table(4, 3),
    "wine": Table(13, 3),
    "breast_cancer": Table(30, 2),
    "digits": Table(64, 10),
    "diabetes": Table(10, None),
}


def table_family(
    name: str, table: str, model: str, widths: tuple[int, ...] = (), activation: str = "relu"
) -> TaskFamily:
    """A model of `tasks.tabular.models` on a table; "varied" is an activation too."""
    columns, classes = TABLES[table]

    def loss(cfg: Configuration, batch: Batch) -> tuple[jax.Array, Metrics]:
        told = MODELS[model](batch["input"], tuple(widths), classes or 1, activation, cfg)
        if classes is None:
            return jnp.mean(jnp.square(told[:, 0] - batch["target"])), {}
        return classification(told, {"label": batch["target"]})

    example = {
        "input": jnp.zeros((2, columns)),
        "target": jnp.zeros(2, jnp.int32 if classes else jnp.float32),
    }

    def build(cfg: Configuration) -> Task:
        return haiku_task(partial(loss, cfg), example)

    metadata = TaskMetadata(
        domain="tabular",
        architecture=model,
        activation=activation if widths else "none",
        data=table,
        widths=tuple(widths),
        batch_size=BATCH_SIZE,
        horizon=HORIZON,
        initial_loss=math.log(classes) if classes else 1.0,
    )
    return TaskFamily(
        name, metadata, partial(split_table, table),
        sample_variation if activation == VARIED else nothing,
        build, partial(draw_rows, size=BATCH_SIZE), first_rows,
    )  # fmt: skip


def _row(name: str, table: str, model: str, share: float, *widths: int) -> Row:
    make = partial(table_family, name, table, model, widths)
    return Row(name, make, AdamTarget(1e-2, 60, share))


ROWS = (
    _row("iris_mlp16", "iris", "mlp", 0.6, 16),
    _row("iris_linear", "iris", "linear", 0.8),
    _row("wine_linear", "wine", "linear", 0.5),
    _row("wine_mlp16", "wine", "mlp", 0.7, 16),
    _row("breast_cancer_linear", "breast_cancer", "linear", 0.4),
    _row("breast_cancer_mlp32", "breast_cancer", "mlp", 0.4, 32),
    _row("breast_cancer_gatedresidual16x16", "breast_cancer", "gatedresidual", 0.5, 16, 16),
    _row("digits_linear", "digits", "linear", 0.3),
    _row("digits_mlp32x32", "digits", "mlp", 0.3, 32, 32),
    _row("diabetes_linear", "diabetes", "linear", 0.9),
    _row("diabetes_mlp16", "diabetes", "mlp", 0.9, 16),
    _row("iris_featuretransformer8", "iris", "featuretransformer", 0.5, 8),
)

FAMILIES = (
    ParametricFamily(
        "tabular_mlps",
        "perceptrons of tables; activation and initial scale vary",
        tuple(
            {"table": table, "model": "mlp", "widths": list(widths), "activation": VARIED}
            for table in ("iris", "breast_cancer", "digits", "diabetes")
            for widths in ((16,), (32, 32))
        ),
        table_family,
        AdamTarget(1e-2, 100, 0.9),
    ),
)
