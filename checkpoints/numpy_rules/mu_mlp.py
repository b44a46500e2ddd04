"""µLO (Thérien et al. 2024, https://arxiv.org/abs/2406.00153): an Adafactor MLP under µP.

    d, μ = MLP([28 features of the statistics, tanh(t/τ − 1)])
    p    ← p − η·a·d·exp(b·μ)       η = fan-in of the base model/fan-in for hidden matrices, else 1

The network is that of `adafactor_mlp`. The *base model* is the same model at the width that steps
are meant for; a tensor that differs from its base along two axes is a hidden matrix, the first of
them its fan-in (Yang et al. 2022, https://arxiv.org/abs/2203.03466, table 8: Adam).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from checkpoints.numpy_rules import common


class Optimizer:
    """The rule at the top of this file."""

    def __init__(
        self, theta: common.Tensors, constants: Mapping[str, Any], *, num_steps: Any = None
    ):
        """θ by path and the constants of a manifest; the rule has no horizon.

        ``constants["base_shapes"]`` maps the paths of the parameters to their shapes in the base
        model, or is None: every model is its own base.

        Raises:
          ValueError: the state is to be kept in another dtype than float32.
        """
        del num_steps
        common.check_state_dtype(constants)
        self.theta, self.constants = theta, constants
        self.decays = common.learned_decays(theta, constants)

    def init(self, params: common.Tensors) -> dict[str, Any]:
        """State: ``step``, t; ``tensors``, the statistics of `common.update_statistics`.

        Raises:
          ValueError: the parameters are not those of the base model but for their widths.
        """
        for name, parameter in params.items():
            step_scale(name, np.shape(parameter), self.constants["base_shapes"])
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
        steps, tensors = common.update_each(
            lambda g, p, s: self.update_one(g, p, s, time), gradients, state["tensors"], params
        )
        base_shapes = self.constants["base_shapes"]
        updates = {
            name: np.asarray(step_scale(name, step.shape, base_shapes) * step)
            for name, step in steps.items()
        }
        return updates, {"step": state["step"] + 1, "tensors": tensors}

    def update_one(
        self,
        gradient: np.ndarray,
        parameter: np.ndarray,
        statistics: common.Tensors,
        time: np.ndarray,
    ) -> tuple[np.ndarray, common.Tensors]:
        """The update of one tensor but for its η, [n], and its statistics."""
        a, b = self.constants["step_multiplier"], self.constants["exponent_multiplier"]
        statistics = common.update_statistics(statistics, gradient, self.decays)
        d, mu = common.adafactor_outputs(self.theta, gradient, parameter, statistics, time)
        return -a * d * np.exp(b * mu), statistics


def step_scale(
    name: str, shape: Sequence[int], base_shapes: Mapping[str, Sequence[int]] | None
) -> float:
    """η of the parameter ``name``; ValueError where the base model has none that fits."""
    if base_shapes is None:
        return 1.0
    base = base_shapes.get(name)
    if base is None or len(base) != len(shape):
        raise ValueError(
            f"`base_shapes` has {base} for the parameter {name!r} of shape {tuple(shape)}: it must "
            "have a shape of the same rank for every parameter"
        )
    wider = [axis for axis in range(len(shape)) if shape[axis] != base[axis]]
    if len(wider) > 2:
        raise ValueError(
            f"`base_shapes` has {tuple(base)} for the parameter {name!r} of shape {tuple(shape)}: "
            "µP is for tensors that grow along one axis or two"
        )
    return base[wider[0]] / shape[wider[0]] if len(wider) == 2 else 1.0
