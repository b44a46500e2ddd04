"""Celo (Moudgil et al. 2025, https://arxiv.org/abs/2501.12670): a rule and a scheduler.

    d, μ, · = MLP([30 features of the statistics])     each divided by its RMS over the tensor
    x       = [tanh(10(t/T − c)), loss features]       9 + 9, the same for every tensor
    h, s    ← LSTM(Ax + relu(Bx), s)                   from a learned state
    p       ← p − a·d·exp(b·μ)·√(mean p² + 10⁻⁹) · 0.1·exp(Ch)

The features are those of `common.CELO`; gradients are clipped to ±1000. T is ``num_steps``. With
``scheduled`` false the last factor is left out. The loss features, with half-lives h_k log-spaced
from 10 to T, d_k = exp(−1/h_k), and the loss L bounded by twice the largest of the means so far:

    M_k ← d_k M_k + (1−d_k) L,    m_k = M_k/(1 − d_k^t),    n_k = min over time of m_k
    feature k = clip((m_k − n_k)/max(10⁻⁸, m_{k+1} − n_k) − 1, ±1),    0 in the first two steps
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from checkpoints.numpy_rules import common

EPSILON = 1e-5
ROOT_EPSILON = 1e-6
SCALE_EPSILON = 1e-9
SCHEDULE_SCALE = 0.1
HORIZONS = 10
BEFORE_THE_FIRST = 999999999999.0


class Optimizer:
    """The rule at the top of this file."""

    def __init__(
        self, theta: common.Tensors, constants: Mapping[str, Any], *, num_steps: Any = None
    ):
        """θ by path, the constants of a manifest, and the length of training in updates.

        Raises:
          ValueError: the scheduler has no ``num_steps``; or the state is to be kept in another
            dtype than float32.
        """
        common.check_state_dtype(constants)
        self.theta, self.constants = theta, constants
        self.decays = common.fixed_decays(constants)
        if constants["scheduled"]:
            self.num_steps = common.required_steps(num_steps)
            self.loss_decays = loss_decays(self.num_steps)

    def init(self, params: common.Tensors) -> dict[str, Any]:
        """State: ``step``, t; ``tensors``, the statistics of `common.update_statistics`; and where
        there is a scheduler ``means``, ``minima`` [10], M_k and n_k, and ``hidden``, ``cell``.
        """
        tensors = common.init_each(lambda p: common.init_statistics(p, self.constants), params)
        state: dict[str, Any] = {"step": 0, "tensors": tensors}
        if self.constants["scheduled"]:
            state["means"] = np.zeros(HORIZONS, np.float32)
            state["minima"] = np.full(HORIZONS, BEFORE_THE_FIRST, np.float32)
            state["hidden"] = self.theta["scheduler/scheduler/initial_hidden"]
            state["cell"] = self.theta["scheduler/scheduler/initial_cell"]
        return state

    def update(
        self,
        gradients: common.Tensors,
        state: Mapping[str, Any],
        params: common.Tensors,
        value: Any = None,
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """What to add to the parameters, and the next state.

        Raises:
          ValueError: the scheduler is not given the loss, ``value``.
        """
        multiplier, after = np.float32(1), dict(state)
        if self.constants["scheduled"]:
            multiplier, scheduler = self.schedule(state, common.required_loss(value))
            after |= scheduler
        updates, tensors = common.update_each(
            lambda g, p, s: self.update_one(g, p, s, multiplier),
            gradients, state["tensors"], params,
        )  # fmt: skip
        return updates, after | {"step": state["step"] + 1, "tensors": tensors}

    def schedule(
        self, state: Mapping[str, Any], loss: np.float32
    ) -> tuple[np.float32, dict[str, np.ndarray]]:
        """0.1·exp(Ch), and the scheduler's part of the next state."""
        step = state["step"]
        means, minima = add_loss(state["means"], state["minima"], loss, step, self.loss_decays)
        time = common.tanh_of_fraction(step / self.num_steps)
        features = loss_features(means, minima, step + 1, self.loss_decays)
        name, x = "scheduler/scheduler", np.concatenate([time, features])
        mixed = np.maximum(common.linear(self.theta, f"{name}/mix", x), 0)
        x = common.linear(self.theta, f"{name}/input", x) + mixed
        hidden, cell = common.lstm(self.theta, f"{name}/lstm", x, state["hidden"], state["cell"])
        logarithm = common.linear(self.theta, f"{name}/step_size", hidden)[0]
        after = {"means": means, "minima": minima, "hidden": hidden, "cell": cell}
        return SCHEDULE_SCALE * np.exp(logarithm), after

    def update_one(
        self,
        gradient: np.ndarray,
        parameter: np.ndarray,
        statistics: common.Tensors,
        multiplier: np.float32,
    ) -> tuple[np.ndarray, common.Tensors]:
        """The update of one tensor, [n], and its statistics."""
        a, b = self.constants["step_multiplier"], self.constants["exponent_multiplier"]
        gradient = common.clip_gradient(gradient)
        statistics = common.update_statistics(statistics, gradient, self.decays)
        groups = common.feature_groups(gradient, parameter, statistics, ROOT_EPSILON)
        features = np.concatenate([groups[name] for name in common.CELO], axis=1)
        d, mu, _ = common.mlp(self.theta, "rule/mlp/~", common.over_rms(features, EPSILON)).T
        scale = np.sqrt(np.mean(np.square(parameter)) + np.float32(SCALE_EPSILON))
        return -a * multiplier * scale * d * np.exp(b * mu), statistics


def loss_decays(num_steps: np.float32) -> np.ndarray:
    """d_k, [10]."""
    exponents = np.linspace(1, np.log10(num_steps), HORIZONS, dtype=np.float32)
    return np.exp(-(np.float32(10) ** -exponents))


def add_loss(
    means: np.ndarray, minima: np.ndarray, loss: np.float32, step: int, decays: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """M_k and n_k with one more loss, of which ``step`` came before; [10] each."""
    correction = 1 - decays ** np.float32(step + 1)
    largest = np.max(means / correction) if step else loss
    bounded = np.minimum(2 * np.abs(largest), loss)
    means = decays * means + (1 - decays) * bounded
    return means, np.minimum(minima, means / correction)


def loss_features(
    means: np.ndarray, minima: np.ndarray, losses: int, decays: np.ndarray
) -> np.ndarray:
    """The features at the top of this file after so many ``losses``, [9]."""
    if losses <= 2:
        return np.zeros(HORIZONS - 1, np.float32)
    m = means / (1 - decays ** np.float32(losses))
    n = minima[:-1]
    share = (m[:-1] - n) / np.maximum(np.float32(1e-8), m[1:] - n)
    return np.clip(share - 1, -1, 1)
