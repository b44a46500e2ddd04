"""The Adafactor MLP in PyTorch: `learned_opt.rules.adafactor_mlp` (Metz et al. 2022,
https://arxiv.org/abs/2203.11860).

    d, μ = MLP([28 features of the statistics, tanh(t/τ − 1)])
    p    ← p − s·η·a·d·exp(b·μ)    s: the group's ``lr``;  η: of `base_shapes`, 1 but for `mu_mlp`

The features are those of `learned_opt.features.groups.ADAFACTOR`, each divided by its RMS over the
tensor; the decays of the statistics are part of θ.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from learned_opt.features.decays import MODULE, SPEED
from learned_opt.features.groups import ADAFACTOR, MOMENT_EPSILON
from learned_opt.features.statistics import Decays
from learned_opt.pytorch.base import Constants, Theta, decays_of, device_of, numbers
from learned_opt.pytorch.features import FEATURES, Entries, entries_of, inverse_rms, tanh_of_steps
from learned_opt.pytorch.network import PerParameterMLP, over_blocks
from learned_opt.pytorch.statistics import State, init_statistics, update_statistics
from learned_opt.rules.adafactor_family import EPSILON


class AdafactorMLPRule:
    """`learned_opt.rules.adafactor_mlp`, and `learned_opt.rules.mu_mlp` but for η."""

    def __init__(self, constants: Constants, theta: Theta):
        self.network = PerParameterMLP(theta)
        self.decays = learned_decays(theta[MODULE], constants)
        self.timescales = numbers(constants["timescales"], device_of(theta))
        self.a, self.b = constants["step_multiplier"], constants["exponent_multiplier"]

    def init(self, shape: Sequence[int], device: torch.device) -> State:
        """Statistics of 0."""
        return init_statistics(shape, device, self.decays)

    def update(
        self, gradient: Tensor, parameter: Tensor, state: State, step: int, weight_decay: float
    ) -> Tensor:
        """−a·d·exp(b·μ)."""
        del weight_decay  # the rule has none
        update_statistics(state, gradient, self.decays)
        entries = entries_of(gradient, parameter, state)
        scales = scales_of(entries)
        time = tanh_of_steps(step, self.timescales, gradient.ndim)

        def descend(entries: Entries) -> Tensor:
            d, mu = self.network([*features(entries), time], [*scales, None])
            return -self.a * d * torch.exp(self.b * mu)

        return over_blocks(descend, gradient.shape, entries)


def learned_decays(offsets: Mapping[str, Tensor], constants: Constants) -> Decays:
    """β = 1 − (1 − β₀)·exp(10·offset) in [0, 1], tensors [decays]; see `features.decays`."""

    def decay(offset: Tensor, initial: Sequence[float]) -> Tensor:
        share = 1 - numbers(initial, offset.device)
        return (1 - share * torch.exp(SPEED * offset)).clamp(0.0, 1.0)

    initial = decays_of(constants)
    return Decays(*(decay(offsets[name], initial._asdict()[name]) for name in Decays._fields))


def features(entries: Entries) -> list[Tensor]:
    """The 28 inputs that are scaled, by group."""
    return [FEATURES[name](entries, MOMENT_EPSILON) for name in ADAFACTOR]


def scales_of(entries: Entries) -> list[Tensor]:
    """The scale of each of them, one number for the tensor."""
    return [inverse_rms(FEATURES[name](entries, MOMENT_EPSILON), EPSILON) for name in ADAFACTOR]
