"""The per-parameter network of a rule: `learned_opt.network`, in PyTorch.

The plain form is an MLP with ReLU on the scaled inputs of every parameter, one row each. As there,
a scale of a feature is a scale of a row of the first weight matrix where it is one number for the
tensor, and what is constant along an axis goes through the first layer once for that axis; features
of the time, the same for every parameter, thereby are part of the bias.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any

import torch
from torch import Tensor

from learned_opt.pytorch.statistics import along_first

LARGEST_BLOCK = {"cpu": 1 << 15}
"""Entries that go through the network at once, by the kind of device: what stays in a cache."""

LARGEST_BLOCK_ELSEWHERE = 1 << 20
"""Enough to fill an accelerator, and few enough for the hidden layers to fit beside a model."""


class PerParameterMLP:
    """The MLP of θ = {"mlp/~/linear_0": {"w": [inputs, units], "b": [units]}, …}."""

    def __init__(self, theta: Mapping[str, Mapping[str, Tensor]]):
        names = (f"mlp/~/linear_{i}" for i in count())
        self.layers: list[tuple[Tensor, Tensor]] = []
        while (layer := theta.get(next(names))) is not None:
            self.layers.append((layer["w"], layer["b"]))

    def __call__(self, features: Sequence[Tensor], scales: Sequence[Tensor | None]) -> list[Tensor]:
        """The outputs, [*shape] each, from features [inputs, *extent] in the order of the inputs.

        A scale is None or [inputs, *extent or 1], and multiplies its feature.
        """
        weights, bias = self.layers[0]
        parts: dict[Any, list[tuple[Tensor, Tensor]]] = defaultdict(list)
        first = 0
        for feature, scale in zip(features, scales, strict=True):
            rows = weights[first : first + len(feature)]
            first += len(feature)
            if scale is not None and scale.numel() == len(scale):
                rows = rows * scale.reshape(-1, 1)
            elif scale is not None:
                feature = feature * scale
            parts[feature.shape[1:]].append((rows, feature))
        products = [
            _product(torch.cat([w for w, _ in part]), torch.cat([f for _, f in part]))
            for part in parts.values()
        ]
        units = along_first(bias, features[0].ndim)
        for product in sorted(products, key=Tensor.numel):
            units = units + product
        for weights, bias in self.layers[1:]:
            units = _product(weights, units.relu()) + along_first(bias, units.ndim)
        return list(units)


def _product(weights: Tensor, units: Tensor) -> Tensor:
    """Shapes: [inputs, outputs], [inputs, *extent] → [outputs, *extent]."""
    return torch.tensordot(weights.T, units, dims=1)


def over_blocks(function: Callable[..., Tensor], shape: Sequence[int], *arrays: Any) -> Tensor:
    """``function(*arrays)``, [*shape], for a function that treats every entry alike.

    The arrays are tensors, or tuples of them, whose last axes are those of ``shape``, or 1 where
    they are constant. They are cut along the longest axis, so that what the function makes in
    between is small beside the tensor.
    """
    device = _some_tensor(arrays).device
    block = LARGEST_BLOCK.get(device.type, LARGEST_BLOCK_ELSEWHERE)
    entries = math.prod(shape)
    if entries <= block:
        return function(*arrays)
    axis = max(range(len(shape)), key=lambda i: shape[i]) - len(shape)
    width = max(1, block // (entries // shape[axis]))
    results = [
        function(*_cut(arrays, axis, start, min(width, shape[axis] - start)))
        for start in range(0, shape[axis], width)
    ]
    return torch.cat(results, dim=axis)


def _some_tensor(arrays: Any) -> Tensor:
    return _some_tensor(arrays[0]) if isinstance(arrays, tuple) else arrays


def _cut(arrays: Any, axis: int, start: int, width: int) -> Any:
    if isinstance(arrays, tuple):
        parts = [_cut(x, axis, start, width) for x in arrays]
        return type(arrays)(*parts) if hasattr(arrays, "_fields") else tuple(parts)
    return arrays if arrays.shape[axis] == 1 else arrays.narrow(axis, start, width)
