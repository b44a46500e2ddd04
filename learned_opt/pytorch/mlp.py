"""The 19-input per-parameter MLP in PyTorch: `learned_opt.rules.mlp` (Metz et al. 2020,
https://arxiv.org/abs/2009.11243).

    d, μ = MLP([g, p, m_β, tanh(t/τ − 1)])    g, p and m_β divided by their RMS over the tensor
    p    ← p − s·a·d·exp(b·μ)                 s: the group's ``lr``
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from learned_opt.pytorch.base import Constants, Theta, device_of, numbers
from learned_opt.pytorch.features import inverse_rms, tanh_of_steps
from learned_opt.pytorch.network import PerParameterMLP, over_blocks
from learned_opt.pytorch.statistics import State, update_mean, zeros
from learned_opt.rules.mlp import EPSILON


class MLPRule:
    """`learned_opt.rules.mlp`."""

    def __init__(self, constants: Constants, theta: Theta):
        device = device_of(theta)
        self.network = PerParameterMLP(theta)
        self.decays = numbers(constants["momentum_decays"], device)
        self.timescales = numbers(constants["timescales"], device)
        self.a, self.b = constants["step_multiplier"], constants["exponent_multiplier"]

    def init(self, shape: Sequence[int], device: torch.device) -> State:
        """Momenta of 0."""
        return {"momenta": zeros(len(self.decays), shape, device)}

    def update(
        self, gradient: Tensor, parameter: Tensor, state: State, step: int, weight_decay: float
    ) -> Tensor:
        """−a·d·exp(b·μ)."""
        del weight_decay  # the rule has none
        update_mean(state["momenta"], gradient, self.decays)
        inputs = (gradient[None], parameter[None], state["momenta"])
        scales = [*(inverse_rms(x, EPSILON) for x in inputs), None]
        time = tanh_of_steps(step, self.timescales, gradient.ndim)

        def descend(*inputs: Tensor) -> Tensor:
            d, mu = self.network([*inputs, time], scales)
            return -self.a * d * torch.exp(self.b * mu)

        return over_blocks(descend, gradient.shape, *inputs)
