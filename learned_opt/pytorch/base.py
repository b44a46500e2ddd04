"""The one abstraction of this package: a rule with its θ on one device."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from learned_opt.features.statistics import Decays
from learned_opt.pytorch.statistics import State

Theta = Mapping[str, Mapping[str, Tensor]]
"""Float32 tensors by module and name, as Haiku has them."""

Constants = Mapping[str, Any]
"""The constants of a rule by the names of its arguments in `learned_opt.rules`."""


class Rule(Protocol):
    """A rule with its θ on one device."""

    def init(self, shape: Sequence[int], device: torch.device) -> State:
        """The state of a tensor of that shape before its first step."""
        ...

    def update(
        self, gradient: Tensor, parameter: Tensor, state: State, step: int, weight_decay: float
    ) -> Tensor:
        """What the rule adds to a parameter, times s; the state is updated in place.

        Shapes: float32 [*shape] each, with at least one entry. ``step``: updates so far.
        """
        ...


def decays_of(constants: Constants) -> Decays:
    """The decays among the constants, sequences of numbers."""
    return Decays(
        constants["momentum_decays"],
        constants["second_moment_decays"],
        constants["factored_decays"],
    )


def numbers(values: Sequence[float], device: torch.device) -> Tensor:
    """A list of constants as float32 [n]."""
    return torch.tensor(list(values), dtype=torch.float32, device=device)


def device_of(theta: Theta) -> torch.device:
    """Where θ is."""
    return next(iter(next(iter(theta.values())).values())).device
