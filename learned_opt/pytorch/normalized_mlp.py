"""Celo2 in PyTorch: `learned_opt.rules.normalized_mlp` (Moudgil et al. 2026,
https://arxiv.org/abs/2602.19142).

    d = MLP([30 features of the statistics])       normalised over the last two axes
    u = d / RMS(d),  or NS(d) / RMS(NS(d))         over the last two axes; NS: Newton–Schulz
    p ← p − α·(u + λp)                             α, λ: the group's ``lr`` and ``weight_decay``

The features are those of `learned_opt.features.groups.CELO`, of which a tensor of rank 0 or 1 has
the first nine groups; or AdamW updates it, at a multiple of the rate.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from learned_opt.features.groups import CELO, WITHOUT_ROWS
from learned_opt.features.statistics import Decays
from learned_opt.newton_schulz import COEFFICIENTS
from learned_opt.newton_schulz import EPSILON as NORM_EPSILON
from learned_opt.pytorch.base import Constants, Theta, decays_of, device_of, numbers
from learned_opt.pytorch.features import FEATURES, Entries, entries_of, inverse_rms_of_matrices
from learned_opt.pytorch.network import PerParameterMLP, over_blocks
from learned_opt.pytorch.statistics import (
    State,
    init_statistics,
    update_mean,
    update_statistics,
    zeros,
)
from learned_opt.rules.normalized_mlp import EPSILON, LARGEST_GRADIENT, ROOT_EPSILON

ADAM_EPSILON = 1e-8


class NormalizedMLPRule:
    """`learned_opt.rules.normalized_mlp`."""

    def __init__(self, constants: Constants, theta: Theta):
        device = device_of(theta)
        self.network = PerParameterMLP(theta)
        self.decays = Decays(*(numbers(values, device) for values in decays_of(constants)))
        self.newton_schulz_steps = constants["newton_schulz_steps"]
        self.adamw = constants["vectors"] == "adamw"
        self.vector_rate = constants["vector_rate"]
        self.vector_decays = [numbers([beta], device) for beta in constants["vector_decays"]]

    def init(self, shape: Sequence[int], device: torch.device) -> State:
        """Statistics of 0, or the moments of AdamW where it updates vectors."""
        if self.adamw and len(shape) < 2:
            return {"momenta": zeros(1, shape, device), "second_moments": zeros(1, shape, device)}
        return init_statistics(shape, device, self.decays)

    def update(
        self, gradient: Tensor, parameter: Tensor, state: State, step: int, weight_decay: float
    ) -> Tensor:
        """−(u + λp)."""
        by_adam = self.adamw and gradient.ndim < 2
        u = (self._adam if by_adam else self._direction)(gradient, parameter, state, step)
        return -(u + weight_decay * parameter)

    def _direction(self, gradient: Tensor, parameter: Tensor, state: State, step: int) -> Tensor:
        del step  # no feature reads it
        gradient = gradient.clamp(-LARGEST_GRADIENT, LARGEST_GRADIENT)
        update_statistics(state, gradient, self.decays)
        entries = entries_of(gradient, parameter, state)
        names = CELO if gradient.ndim >= 2 else WITHOUT_ROWS
        scales = tuple(
            inverse_rms_of_matrices(FEATURES[name](entries, ROOT_EPSILON), EPSILON)
            for name in names
        )

        def descend(entries: Entries, scales: tuple[Tensor, ...]) -> Tensor:
            inputs = [FEATURES[name](entries, ROOT_EPSILON) for name in names]
            return self.network(inputs, scales)[0]

        d = over_blocks(descend, gradient.shape, entries, scales)
        if d.ndim >= 2 and self.newton_schulz_steps:
            d = orthogonalized(d, self.newton_schulz_steps)
        return d * inverse_rms_of_matrices(d[None], EPSILON)[0]

    def _adam(self, gradient: Tensor, parameter: Tensor, state: State, step: int) -> Tensor:
        del parameter  # its decay is added outside
        beta1, beta2 = self.vector_decays
        update_mean(state["momenta"], gradient, beta1)
        update_mean(state["second_moments"], gradient.square(), beta2)
        m = state["momenta"][0] / (1 - beta1[0] ** (step + 1))
        v = state["second_moments"][0] / (1 - beta2[0] ** (step + 1))
        return self.vector_rate * m / (v.sqrt() + ADAM_EPSILON)


def orthogonalized(matrix: Tensor, steps: int) -> Tensor:
    """X ← aX + (bA + cA²)X with A = XXᵀ, ``steps`` times, from X/(‖X‖_F + 10⁻⁸).

    The last two axes are the matrix, the others a batch; one with more rows than columns is
    transposed in between (https://kellerjordan.github.io/posts/muon).
    """
    a, b, c = COEFFICIENTS
    rows, columns = matrix.shape[-2:]
    x = matrix.mT if rows > columns else matrix
    x = x / (x.square().sum(dim=(-2, -1), keepdim=True).sqrt() + NORM_EPSILON)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if rows > columns else x
