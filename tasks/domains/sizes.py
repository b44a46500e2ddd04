"""Perceptrons of Fashion-MNIST made larger: along one axis at a time, and along several."""

from functools import partial

from tasks.base import TaskFamily
from tasks.catalogue import AdamTarget, ParametricFamily, Row
from tasks.images.names import listed_image_family

_SET = "fashion_mnist_8x8"


def _make(name: str, model: str, horizon: int, batch_size: int) -> TaskFamily:
    family = listed_image_family(f"{_SET}_{model}", horizon=horizon, batch_size=batch_size)
    return family._replace(name=name)


def _row(model: str, share: float, *, horizon: int = 200, batch: int = 64) -> Row:
    """Named by the model, then by what is not as everywhere."""
    parts = [_SET, model]
    parts += [f"horizon{horizon}"] if horizon != 200 else []
    parts += [f"batch{batch}"] if batch != 64 else []
    name = "_".join(parts)
    return Row(name, partial(_make, name, model, horizon, batch), AdamTarget(1e-2, 40, share))


ROWS = (
    _row("mlp32", 0.5, horizon=500),
    _row("mlp32", 0.5, horizon=1000),
    _row("mlp32x32", 0.6, horizon=2000),
    _row("mlp32", 0.5, batch=128),
    _row("mlp32", 0.5, batch=256),
    _row("mlp32x32", 0.5, batch=512),
    _row("mlp512", 0.5),
    _row("mlp32x32x32x32x32", 0.6),
    _row("mlp32x32x32x32x32x32x32x32", 0.7),
    _row("mlp256x256x256x256x256", 0.5, horizon=1000, batch=256),
    _row("mlp512", 0.5, batch=512),
)

FAMILIES: tuple[ParametricFamily, ...] = ()
