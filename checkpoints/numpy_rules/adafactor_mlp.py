"""The Adafactor MLP, "small_fc_lopt" (Metz et al. 2022, https://arxiv.org/abs/2203.11860).

    d, μ = MLP([28 features of the statistics, tanh(t/τ − 1)])
    p    ← p − a·d·exp(b·μ)

The features are those of `common.ADAFACTOR`: g, p, momenta m, second moment v, Adam's m/√v,
Adafactor's rows, columns and factors; each divided by its RMS over the tensor. The features of
time are not. Decays are learned: β = 1 − (1 − β₀)·exp(10·offset), the offsets in θ.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from checkpoints.numpy_rules import common


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
        self.decays = common.learned_decays(theta, constants)

    def init(self, params: common.Tensors) -> dict[str, Any]:
        """State: ``step``, t; ``tensors``, the statistics of `common.update_statistics`."""
        tensors = common.init_each(lambda p: common.init_statistics(p, self.constants), params)
        return {"step": 0, "tensors": tensors}

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
            lambda g, p, s: self.update_one(g, p, s, time), gradients, state["tensors"], params
        )
        return updates, {"step": state["step"] + 1, "tensors": tensors}

    def update_one(
        self,
        gradient: np.ndarray,
        parameter: np.ndarray,
        statistics: common.Tensors,
        time: np.ndarray,
    ) -> tuple[np.ndarray, common.Tensors]:
        """The update of one tensor, [n], and its statistics."""
        a, b = self.constants["step_multiplier"], self.constants["exponent_multiplier"]
        statistics = common.update_statistics(statistics, gradient, self.decays)
        d, mu = common.adafactor_outputs(self.theta, gradient, parameter, statistics, time)
        return -a * d * np.exp(b * mu), statistics
