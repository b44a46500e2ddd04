"""The 19-input per-parameter MLP: "LOLv2" (Metz et al. 2020, https://arxiv.org/abs/2009.11243).

For every parameter p of a tensor, with gradient g and momenta m_β ← βm_β + (1−β)g,

    d, μ = MLP([g, p, m_β, tanh(t/τ − 1)])    g, p and m_β divided by their RMS over the tensor
    p    ← p − a·d·exp(b·μ)                   a, b: the step and exponent multipliers
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from checkpoints.numpy_rules import common

EPSILON = 1e-5


class Optimizer:
    """The rule at the top of this file."""

    def __init__(
        self, theta: common.Tensors, constants: Mapping[str, Any], *, num_steps: Any = None
    ):
        """θ by path and the constants of a manifest; the rule has no horizon.

        Raises:
          ValueError: the state is to be kept in another dtype than float32.
        """
        del num_steps
        common.check_state_dtype(constants)
        self.theta, self.constants = theta, constants
        self.decays = np.asarray(constants["momentum_decays"], np.float32)

    def init(self, params: common.Tensors) -> dict[str, Any]:
        """State: ``step``, t; ``tensors``, the momenta [decays, *shape] by path."""

        def no_momenta(parameter: np.ndarray) -> np.ndarray:
            return np.zeros((len(self.decays), *parameter.shape), np.float32)

        return {"step": 0, "tensors": common.init_each(no_momenta, params)}

    def update(
        self,
        gradients: common.Tensors,
        state: Mapping[str, Any],
        params: common.Tensors,
        value: Any = None,
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """What to add to the parameters, and the next state; the loss is not read."""
        del value
        time = common.tanh_of_steps(state["step"], self.constants["timescales"])
        updates, tensors = common.update_each(
            lambda g, p, m: self.update_one(g, p, m, time), gradients, state["tensors"], params
        )
        return updates, {"step": state["step"] + 1, "tensors": tensors}

    def update_one(
        self, gradient: np.ndarray, parameter: np.ndarray, momenta: np.ndarray, time: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The update of one tensor, [n], and its momenta."""
        a, b = self.constants["step_multiplier"], self.constants["exponent_multiplier"]
        momenta = common.running_mean(momenta, gradient, self.decays)
        features = np.concatenate([gradient[None], parameter[None], momenta])
        features = common.over_rms(common.columns(features, parameter.shape), EPSILON)
        d, mu = common.mlp(self.theta, "mlp/~", common.beside(features, time)).T
        return -a * d * np.exp(b * mu), momenta
