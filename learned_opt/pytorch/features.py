"""The features of an entry, by name, and their scales: those of `learned_opt.features`.

With r(x) = max(x, 10⁻⁹)^{−1/2}, and the factors of a tensor from its row and column statistics

    factor = r(row / (mean of row over d1 + 10⁻⁹)) · r(column)

a factored g is g·factor and a factored m is m·factor. Below rank 2, with the full statistic V, a
factored g is g·r(V + 10⁻⁹) and a factored m is m·(V + 10⁻⁶)^{−1/2}; V stands for row and column
(Metz et al. 2022, https://arxiv.org/abs/2203.11860, and Moudgil et al. 2025,
https://arxiv.org/abs/2501.12670).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from learned_opt.features.groups import (
    CLIP,
    FACTORED_EPSILON,
    MOMENT_EPSILON,
    STATISTIC_EPSILON,
)
from learned_opt.features.statistics import factored_axes
from learned_opt.pytorch.statistics import State, along_first


class Entries(NamedTuple):
    """All that the features of an entry are made of, [decays, *extent] or [1, *extent] each.

    ``gradient_factors``, ``momentum_factors``: what a factored g and a factored m are products
    with. The extent is that of the tensor, or 1 along axes that something is constant on.
    """

    gradient: Tensor
    parameter: Tensor
    momenta: Tensor
    second_moments: Tensor
    row: Tensor
    column: Tensor
    gradient_factors: tuple[Tensor, ...]
    momentum_factors: tuple[Tensor, ...]


def entries_of(gradient: Tensor, parameter: Tensor, state: State) -> Entries:
    """From one tensor, [*shape] each, and its statistics with the gradient in them."""
    axes = factored_axes(gradient.shape)
    if axes is None:
        row = column = state["full"]
        of_gradient: tuple[Tensor, ...] = (_bounded_rsqrt(row + FACTORED_EPSILON),)
        of_momenta: tuple[Tensor, ...] = (torch.rsqrt(row + MOMENT_EPSILON),)
    else:
        row, column = state["row"], state["column"]
        mean = row.mean(dim=1 + axes[0], keepdim=True)
        of_gradient = (_bounded_rsqrt(row / (mean + FACTORED_EPSILON)), _bounded_rsqrt(column))
        of_momenta = of_gradient
    momenta, second = state["momenta"], state["second_moments"]
    return Entries(
        gradient[None], parameter[None], momenta, second, row, column, of_gradient, of_momenta
    )


def _bounded_rsqrt(x: Tensor) -> Tensor:
    return torch.rsqrt(x.clamp(min=FACTORED_EPSILON))


def _root(e: Entries, epsilon: float) -> Tensor:
    return torch.rsqrt(e.second_moments + epsilon)


def _product(x: Tensor, factors: tuple[Tensor, ...]) -> Tensor:
    for factor in factors:
        x = x * factor
    return x


FEATURES: Mapping[str, Callable[[Entries, float], Tensor]] = {
    "g": lambda e, epsilon: e.gradient,
    "clipped g": lambda e, epsilon: e.gradient.clamp(-CLIP, CLIP),
    "p": lambda e, epsilon: e.parameter,
    "m": lambda e, epsilon: e.momenta,
    "v": lambda e, epsilon: e.second_moments,
    "m/√v": lambda e, epsilon: e.momenta * _root(e, epsilon),
    "1/√v": _root,
    "g/√v": lambda e, epsilon: e.gradient * _root(e, epsilon),
    "factored g": lambda e, epsilon: _product(e.gradient, e.gradient_factors),
    "factored m": lambda e, epsilon: _product(e.momenta, e.momentum_factors),
    "row": lambda e, epsilon: e.row,
    "column": lambda e, epsilon: e.column,
    "1/√row": lambda e, epsilon: torch.rsqrt(e.row + STATISTIC_EPSILON),
    "1/√column": lambda e, epsilon: torch.rsqrt(e.column + STATISTIC_EPSILON),
}
"""Every group, [inputs, *extent] from the entries and what is added to v under its root. They are
functions so that of a large tensor one group is in memory at a time."""


def inverse_rms(feature: Tensor, epsilon: float) -> Tensor:
    """(mean of f² over the tensor + ε)^{−1/2} of every input.

    Shapes: [inputs, *extent] → [inputs, 1, …], of the same rank.
    """
    return _inverse_rms(feature, range(1, feature.ndim), epsilon)


def inverse_rms_of_matrices(feature: Tensor, epsilon: float) -> Tensor:
    """The same over the last two axes alone (or the last, or none, where there are fewer)."""
    return _inverse_rms(feature, range(1, feature.ndim)[-2:], epsilon)


def _inverse_rms(feature: Tensor, axes: Sequence[int], epsilon: float) -> Tensor:
    square = feature.square()
    mean = square.mean(dim=tuple(axes), keepdim=True) if axes else square
    return torch.rsqrt(mean + epsilon)


def tanh_of_steps(step: int, timescales: Tensor, rank: int) -> Tensor:
    """tanh(t/τ − 1) for every timescale τ, for a tensor of that rank: [timescales, 1, …]."""
    return along_first(torch.tanh(step / timescales - 1), 1 + rank)
