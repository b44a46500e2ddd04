"""A nominal step plus a learned correction in PyTorch: `learned_opt.rules.nominal_mlp` (Harrison
et al. 2022, https://arxiv.org/abs/2209.11208).

    n = m̂/(√v̂ + ε)                                    Adam's direction, its start corrected
    d, μ, ν = MLP([28 features of the statistics, tanh(t/τ − 1)])
    p ← p − s·(α·(exp(b·ν)·n + λp) + a·d·exp(b·μ)·c)  c: 1, or 1/(√v̂ + ε);  s: the group's ``lr``

Inputs and learned decays are those of `adafactor_mlp`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from learned_opt.features.decays import MODULE
from learned_opt.pytorch.adafactor_mlp import features, learned_decays, scales_of
from learned_opt.pytorch.base import Constants, Theta, device_of, numbers
from learned_opt.pytorch.features import Entries, entries_of, tanh_of_steps
from learned_opt.pytorch.network import PerParameterMLP, over_blocks
from learned_opt.pytorch.statistics import State, init_statistics, update_statistics


class NominalMLPRule:
    """`learned_opt.rules.nominal_mlp`."""

    def __init__(self, constants: Constants, theta: Theta):
        self.network = PerParameterMLP(theta)
        self.decays = learned_decays(theta[MODULE], constants)
        self.timescales = numbers(constants["timescales"], device_of(theta))
        self.a, self.b = constants["step_multiplier"], constants["exponent_multiplier"]
        self.alpha, self.epsilon = constants["nominal_rate"], constants["nominal_epsilon"]
        self.preconditioned = constants["preconditioned"]

    def init(self, shape: Sequence[int], device: torch.device) -> State:
        """Statistics of 0."""
        return init_statistics(shape, device, self.decays)

    def update(
        self, gradient: Tensor, parameter: Tensor, state: State, step: int, weight_decay: float
    ) -> Tensor:
        """−α·(exp(b·ν)·n + λp) − a·d·exp(b·μ)·c."""
        update_statistics(state, gradient, self.decays)
        entries = entries_of(gradient, parameter, state)
        scales = scales_of(entries)
        time = tanh_of_steps(step, self.timescales, gradient.ndim)
        start1 = 1 - self.decays.momentum[0] ** (step + 1)
        start2 = 1 - self.decays.second_moment[0] ** (step + 1)

        def descend(entries: Entries) -> Tensor:
            d, mu, nu = self.network([*features(entries), time], [*scales, None])
            root = torch.sqrt(entries.second_moments[0] / start2) + self.epsilon
            nominal = torch.exp(self.b * nu) * (entries.momenta[0] / start1) / root
            correction = self.a * d * torch.exp(self.b * mu)
            correction = correction / root if self.preconditioned else correction
            decayed = nominal + weight_decay * entries.parameter[0]
            return -self.alpha * decayed - correction

        return over_blocks(descend, gradient.shape, entries)
