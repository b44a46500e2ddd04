"""A per-tensor LSTM that sets Adam's hyperparameters (google/learned_optimization's NNAdam; after
Metz et al. 2020, https://arxiv.org/abs/2009.11243).

    m ← β₁m + (1−β₁)g,   v ← β₂v + (1−β₂)g²
    p ← p − α(1+ε)·m/(ε + √(v + 10⁻¹⁰))
    h, s ← LSTM([19 statistics of the tensor], s)
    (α, β₁, β₂, ε) ← (α, β₁, β₂, ε) + c·Kh       in log α/10, log(1−β₁)/10, log(1−β₂)/10, log ε/10

Every tensor has its own α, β₁, β₂, ε and its own LSTM state; the first values are in θ. Gradients
are clipped to ±1000.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from checkpoints.numpy_rules import common

SPEED = 10.0
NAMES = ("rate", "beta1", "beta2", "epsilon")
LOGARITHMS = np.array(
    [[np.log(1e-8), np.log(1e3)], [-10.0, 0.0], [-10.0, 0.0], [np.log(1e-11), np.log(1e4)]],
    np.float32,
)
"""The least and the largest log α, log(1−β₁), log(1−β₂) and log ε."""


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

    def init(self, params: common.Tensors) -> dict[str, Any]:
        """State by path: ``m``, ``v`` [*shape]; ``controls`` [4], the logarithms over 10;
        ``hidden`` and ``cell`` of the LSTM.
        """
        first = [self.theta[f"control_network/initial_{name}"] for name in NAMES]

        def init_one(parameter: np.ndarray) -> dict[str, np.ndarray]:
            return {
                "m": np.zeros(parameter.shape, np.float32),
                "v": np.zeros(parameter.shape, np.float32),
                "controls": np.stack(first),
                "hidden": self.theta["control_network/initial_hidden"],
                "cell": self.theta["control_network/initial_cell"],
            }

        return common.init_each(init_one, params)

    def update(
        self,
        gradients: common.Tensors,
        state: Mapping[str, Any],
        params: common.Tensors,
        value: Any = None,
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """What to add to the parameters, and the next state; the loss is not read."""
        del value
        return common.update_each(self.update_one, gradients, state, params)

    def update_one(
        self, gradient: np.ndarray, parameter: np.ndarray, state: common.Tensors
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The update of one tensor, [*shape], and its next state."""
        gradient = common.clip_gradient(gradient)
        alpha, beta1, beta2, epsilon = hyperparameters(state["controls"])
        m = beta1 * state["m"] + (1 - beta1) * gradient
        v = beta2 * state["v"] + (1 - beta2) * np.square(gradient)
        update = -alpha * (1 + epsilon) * m / (epsilon + np.sqrt(v + np.float32(1e-10)))
        inputs = tensor_features(gradient, parameter, m, v, state["controls"])
        hidden, cell = common.lstm(
            self.theta, "control_network/lstm", inputs, state["hidden"], state["cell"]
        )
        delta = common.linear(self.theta, "control_network/to_controls", hidden)
        controls = state["controls"] + self.constants["output_scale"] * delta
        controls = np.clip(controls, LOGARITHMS[:, 0] / SPEED, LOGARITHMS[:, 1] / SPEED)
        after = {"m": m, "v": v, "controls": controls, "hidden": hidden, "cell": cell}
        return update, after


def hyperparameters(controls: np.ndarray) -> tuple[np.float32, ...]:
    """α, β₁, β₂ and ε from the logarithms over 10, [4], each in its range."""
    rate, beta1, beta2, epsilon = np.exp(np.clip(SPEED * controls, *LOGARITHMS.T))
    return rate, 1 - beta1, 1 - beta2, epsilon


def tensor_features(
    gradient: np.ndarray,
    parameter: np.ndarray,
    m: np.ndarray,
    v: np.ndarray,
    controls: np.ndarray,
) -> np.ndarray:
    """The inputs of the LSTM for one tensor, [19], in the order of a manifest's "inputs"."""
    (mean_g, var_g), (mean_p, var_p) = map(common.mean_and_variance, (gradient, parameter))
    (mean_m, var_m), (mean_v, var_v) = map(common.mean_and_variance, (m, v))
    rate, beta1, beta2, epsilon = np.clip(controls, -5, 5) * np.float32(0.2)
    is_vector, is_scalar = (1 if parameter.ndim == rank else -1 for rank in (1, 0))

    def half(value: Any) -> Any:
        return common.log_magnitude(value) / 2

    return np.array([
        beta1, beta2, epsilon, is_vector, is_scalar, rate,
        half(mean_g), np.sign(mean_g), half(np.mean(np.abs(gradient))),
        half(mean_m), np.sign(mean_m), half(mean_p), np.sign(mean_p),
        half(mean_v), np.sign(mean_v), half(var_g), half(var_m), half(var_p), half(var_v),
    ], np.float32)  # fmt: skip
