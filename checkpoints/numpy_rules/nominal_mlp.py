"""A nominal step plus a learned correction (Harrison et al. 2022, https://arxiv.org/abs/2209.11208).

    n = m̂/(√v̂ + ε)                                    Adam's direction, its start corrected
    d, μ, ν = MLP([28 features of the statistics, tanh(t/τ − 1)])
    p ← p − α·(exp(b·ν)·n + λp) − a·d·exp(b·μ)·c      c: 1, or 1/(√v̂ + ε)

The features are those of `common.ADAFACTOR`, each divided by its RMS over the tensor; n is of the
first momentum and second moment. Decays are learned: β = 1 − (1 − β₀)·exp(10·offset).
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
        step = state["step"]
        updates, tensors = common.update_each(
            lambda g, p, s: self.update_one(g, p, s, step), gradients, state["tensors"], params
        )
        return updates, {"step": step + 1, "tensors": tensors}

    def update_one(
        self, gradient: np.ndarray, parameter: np.ndarray, statistics: common.Tensors, step: int
    ) -> tuple[np.ndarray, common.Tensors]:
        """The update of one tensor, [n], and its statistics."""
        statistics = common.update_statistics(statistics, gradient, self.decays)
        time = common.tanh_of_steps(step, self.constants["timescales"])
        d, mu, nu = common.adafactor_outputs(self.theta, gradient, parameter, statistics, time)
        return self.combined(d, mu, nu, parameter.ravel(), statistics, step), statistics

    def combined(
        self,
        d: np.ndarray,
        mu: np.ndarray,
        nu: np.ndarray,
        p: np.ndarray,
        statistics: common.Tensors,
        step: int,
    ) -> np.ndarray:
        """The last line at the top of this file, the change of p alone: [n] each → [n]."""
        c = self.constants
        a, b = c["step_multiplier"], c["exponent_multiplier"]
        beta1, beta2 = self.decays["momentum"][0], self.decays["second_moment"][0]
        m_hat = statistics["m"][0].ravel() / (1 - beta1 ** (step + 1))
        v_hat = statistics["v"][0].ravel() / (1 - beta2 ** (step + 1))
        root = np.sqrt(v_hat) + c["nominal_epsilon"]
        nominal = np.exp(b * nu) * m_hat / root + c["weight_decay"] * p
        correction = a * d * np.exp(b * mu)
        if c["preconditioned"]:
            correction = correction / root
        return -c["nominal_rate"] * nominal - correction
