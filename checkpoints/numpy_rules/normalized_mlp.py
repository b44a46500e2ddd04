"""Celo2 (Moudgil et al. 2026, https://arxiv.org/abs/2602.19142): a normalised direction.

    d = MLP([30 features of the statistics])       each divided by its RMS over the last two axes
    u = d / RMS(d),  or NS(d) / RMS(NS(d))         over the last two axes; NS: Newton–Schulz
    p ← p − α_t·(u + λp)                           α_t, λ: the user's rate or schedule, and decay

The features are those of `common.CELO`; a tensor of rank 0 or 1 has the first nine groups only, and
zeros for the others. Gradients are clipped to ±1000. Of the outputs the first is used. With
``vectors="adamw"`` Adam's direction takes the place of u for tensors of rank 0 and 1.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from checkpoints.numpy_rules import common

EPSILON = 1e-9
ROOT_EPSILON = 1e-8
ADAM_EPSILON = 1e-8


class Optimizer:
    """The rule at the top of this file."""

    def __init__(
        self,
        theta: common.Tensors,
        constants: Mapping[str, Any],
        *,
        learning_rate: Any = None,
        num_steps: Any = None,
    ):
        """θ by path and the constants of a manifest; the rule has no horizon.

        ``learning_rate`` is α, or a function of t, in place of ``constants["learning_rate"]``.

        Raises:
          ValueError: there is no rate; or the state is to be kept in another dtype than float32.
        """
        del num_steps
        common.check_state_dtype(constants)
        rate = constants["learning_rate"] if learning_rate is None else learning_rate
        if rate is None:
            raise ValueError(
                "`learning_rate`=None: the output of this rule is a direction; give a rate, or a "
                "function of the step, as in `Optimizer(theta, constants, learning_rate=1e-3)`"
            )
        self.theta, self.constants, self.learning_rate = theta, constants, rate
        self.decays = common.fixed_decays(constants)

    def init(self, params: common.Tensors) -> dict[str, Any]:
        """State: ``step``, t; ``tensors``, the statistics of `common.update_statistics`, or m and
        v where Adam takes the place of the rule.
        """
        tensors = common.init_each(self.init_one, params)
        return {"step": 0, "tensors": tensors}

    def init_one(self, parameter: np.ndarray) -> dict[str, np.ndarray]:
        """The state of one tensor."""
        if self.by_adam(parameter):
            return {name: np.zeros(parameter.shape, np.float32) for name in ("m", "v")}
        return common.init_statistics(parameter, self.constants)

    def by_adam(self, parameter: np.ndarray) -> bool:
        """Whether Adam updates the tensor."""
        return self.constants["vectors"] == "adamw" and parameter.ndim < 2

    def update(
        self,
        gradients: common.Tensors,
        state: Mapping[str, Any],
        params: common.Tensors,
        value: Any = None,
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """What to add to the parameters, and the next state; the loss is not read."""
        del value
        step, rate = state["step"], self.learning_rate
        alpha = np.float32(rate(step) if callable(rate) else rate)
        directions, tensors = common.update_each(
            lambda g, p, s: self.direction(g, p, s, step), gradients, state["tensors"], params
        )
        mask, updates = self.constants["weight_decay_mask"], {}
        for name, u in directions.items():
            decay = self.constants["weight_decay"] if is_decayed(name, mask) else 0.0
            updates[name] = np.asarray(-alpha * (u + decay * np.asarray(params[name])))
        return updates, {"step": step + 1, "tensors": tensors}

    def direction(
        self, gradient: np.ndarray, parameter: np.ndarray, state: common.Tensors, step: int
    ) -> tuple[np.ndarray, common.Tensors]:
        """The u of one tensor, [*shape], and the tensor's next state."""
        if self.by_adam(parameter):
            betas = self.constants["vector_decays"]
            u, state = common.adam_direction(gradient, state, betas, ADAM_EPSILON, step)
            return self.constants["vector_rate"] * u, state
        gradient = common.clip_gradient(gradient)
        state = common.update_statistics(state, gradient, self.decays)
        groups = common.feature_groups(gradient, parameter, state, ROOT_EPSILON)
        features = np.concatenate([groups[name] for name in common.CELO], axis=1)
        if parameter.ndim < 2:
            read = sum(groups[name].shape[1] for name in common.CELO[:9])
            features = np.where(np.arange(features.shape[1]) < read, features, np.float32(0))
        d = common.mlp(self.theta, "mlp/~", normalized_features(features, parameter))[:, 0]
        d = d.reshape(parameter.shape)
        if parameter.ndim >= 2 and self.constants["newton_schulz_steps"]:
            d = orthogonalized(d, self.constants["newton_schulz_steps"])
        axes = tuple(range(d.ndim))[-2:]
        return d / np.sqrt(np.mean(np.square(d), axis=axes, keepdims=True) + EPSILON), state


def is_decayed(name: str, mask: Any) -> bool:
    """Whether the parameter ``name`` decays: ``mask`` is None, a flag, or a nest of flags."""
    if not isinstance(mask, Mapping | list):
        return mask is None or bool(mask)
    items = mask.items() if isinstance(mask, Mapping) else enumerate(mask)
    for key, part in items:
        if name == str(key):
            return is_decayed("", part)
        if name.startswith(f"{key}/"):
            return is_decayed(name.removeprefix(f"{key}/"), part)
    raise ValueError(f"`weight_decay_mask` has no flag for the parameter {name!r}")


def normalized_features(features: np.ndarray, parameter: np.ndarray) -> np.ndarray:
    """Features over their RMS, one for every matrix that the last two axes are: [n, inputs]."""
    inputs, matrix = features.shape[1], int(np.prod(parameter.shape[-2:]))
    by_matrix = features.reshape(-1, matrix, inputs)
    return common.over_rms(by_matrix, EPSILON).reshape(-1, inputs)


def orthogonalized(matrix: np.ndarray, steps: int) -> np.ndarray:
    """Newton–Schulz, as Muon has it (https://kellerjordan.github.io/posts/muon).

    Shapes: [..., rows, columns], as is the result. From X/(‖X‖_F + 10⁻⁸), ``steps`` times
    X ← aX + (bA + cA²)X with A = XXᵀ; where there are more rows than columns, of the transpose.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    rows, columns = matrix.shape[-2:]
    x = np.swapaxes(matrix, -2, -1) if rows > columns else matrix
    norm = np.sqrt(np.sum(np.square(x), axis=(-2, -1), keepdims=True))
    x = x / (norm + np.float32(1e-8))
    for _ in range(steps):
        gram = x @ np.swapaxes(x, -2, -1)
        x = a * x + (b * gram + c * gram @ gram) @ x
    return np.swapaxes(x, -2, -1) if rows > columns else x
