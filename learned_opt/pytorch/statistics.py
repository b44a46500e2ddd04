"""Running statistics of the gradient of one tensor, those of `learned_opt.features.statistics`:

    m ← βm + (1−β)g        v ← βv + (1−β)g²        V ← βV + (1−β)(g² + 10⁻³⁰)

Of a tensor of rank 2 and more, V is kept as its means over the largest axis (row) and over the
second largest (column), as in Adafactor (Shazeer and Stern 2018, https://arxiv.org/abs/1804.04235).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from learned_opt.features.statistics import SMALLEST_SQUARE, Decays, factored_axes

State = dict[str, Tensor]
"""Float32 by name, [decays, *shape] each: "momenta", "second_moments", and "full" or, with an
extent of 1 on the axis that they are means over, "row" and "column"."""


def zeros(decays: int, shape: Sequence[int], device: torch.device) -> Tensor:
    """A statistic before the first step. Shape [decays, *shape]."""
    return torch.zeros((decays, *shape), dtype=torch.float32, device=device)


def init_statistics(shape: Sequence[int], device: torch.device, decays: Decays) -> State:
    """All statistics of a tensor before the first step; of ``decays`` only the lengths count."""
    momentum, second, factored = map(len, decays)
    state = {
        "momenta": zeros(momentum, shape, device),
        "second_moments": zeros(second, shape, device),
    }
    axes = factored_axes(shape)
    if axes is None:
        return {**state, "full": zeros(factored, shape, device)}
    over_d1, over_d0 = ([1 if i == axis else n for i, n in enumerate(shape)] for axis in axes)
    return {
        **state,
        "row": zeros(factored, over_d0, device),
        "column": zeros(factored, over_d1, device),
    }


def update_statistics(state: State, gradient: Tensor, decays: Decays) -> None:
    """Take one more gradient into the statistics, in place; decays are float32 tensors."""
    square = gradient.square()
    update_mean(state["momenta"], gradient, decays.momentum)
    update_mean(state["second_moments"], square, decays.second_moment)
    square = square + SMALLEST_SQUARE
    axes = factored_axes(gradient.shape)
    if axes is None:
        update_mean(state["full"], square, decays.factored)
    else:
        d1, d0 = axes
        update_mean(state["row"], square.mean(dim=d0, keepdim=True), decays.factored)
        update_mean(state["column"], square.mean(dim=d1, keepdim=True), decays.factored)


def update_mean(mean: Tensor, value: Tensor, decays: Tensor) -> None:
    """βx + (1−β)·value for every β, in place. Shapes: [decays, *extent], [*extent], [decays]."""
    beta = along_first(decays, mean.ndim)
    mean.mul_(beta).add_((1 - beta) * value)


def along_first(values: Tensor, rank: int) -> Tensor:
    """The same numbers along the first of so many axes: [n] → [n, 1, …]."""
    return values.reshape(-1, *[1] * (rank - 1))
