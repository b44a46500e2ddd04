"""Hand-designed optimizers with learned hyperparameters: θ is their logarithms.

    sgd        u = g
    momentum   v ← βv + g,  u = v
    adam       m ← β₁m + (1−β₁)g,  v ← β₂v + (1−β₂)g²,  u = m̂/(√v̂ + ε)
    adamw      u = that of adam + λp
    p ← p − s·α_t·u

θ has log α and, where the optimizer has them, log(1−β), log ε and log λ; and of the schedule

    constant   α_t = α
    power      α_t = α/(1 + t/τ)^κ                        log κ
    cosine     α_t = α·(f + (1−f)(1 + cos πx)/2)          log f      x = min(t/T, 1)
    linear     α_t = α·(f + (1−f)(1 − x))                 log f
    piecewise  log α_t = log α + h(x), in straight lines      heights of h at even knots, 0 at first

T is ``num_steps``; "constant" and "power" (Vicol et al. 2021, https://arxiv.org/abs/2112.13835,
section 5.2) need none.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from checkpoints.numpy_rules import common

WITHOUT_HORIZON = ("constant", "power")
MOMENTS = {"sgd": (), "momentum": ("v",), "adam": ("m", "v"), "adamw": ("m", "v")}


class Optimizer:
    """The rule at the top of this file."""

    def __init__(
        self, theta: common.Tensors, constants: Mapping[str, Any], *, num_steps: Any = None
    ):
        """θ by path, the constants of a manifest, and the length of training in updates.

        Raises:
          ValueError: the schedule has no ``num_steps``.
        """
        self.constants = constants
        self.logarithms = {
            name.removeprefix("hyper/log_"): np.asarray(value) for name, value in theta.items()
        }
        if constants["schedule"] not in WITHOUT_HORIZON:
            self.num_steps = common.required_steps(num_steps)

    def init(self, params: common.Tensors) -> dict[str, Any]:
        """State: ``step``, t; ``tensors``, those of m and v [*shape] that there are, by path."""
        names = MOMENTS[self.constants["optimizer"]]

        def init_one(parameter: np.ndarray) -> dict[str, np.ndarray]:
            return {name: np.zeros(parameter.shape, np.float32) for name in names}

        return {"step": 0, "tensors": common.init_each(init_one, params)}

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
        rate = self.constants["step_multiplier"] * self.learned("learning_rate")
        rate = np.float32(rate * self.relative_rate(step))

        def update_one(
            gradient: np.ndarray, parameter: np.ndarray, moments: common.Tensors
        ) -> tuple[np.ndarray, common.Tensors]:
            u, moments = self.direction(gradient, parameter, moments, step)
            return -rate * u, moments

        updates, tensors = common.update_each(update_one, gradients, state["tensors"], params)
        return updates, {"step": step + 1, "tensors": tensors}

    def learned(self, name: str) -> Any:
        """A hyperparameter from its logarithm in θ."""
        return np.exp(self.logarithms[name])

    def direction(
        self, gradient: np.ndarray, parameter: np.ndarray, moments: common.Tensors, step: int
    ) -> tuple[np.ndarray, common.Tensors]:
        """The u of one tensor, [*shape], and its moments."""
        optimizer = self.constants["optimizer"]
        if optimizer == "sgd":
            return gradient, moments
        if optimizer == "momentum":
            v = (1 - self.learned("one_minus_momentum")) * moments["v"] + gradient
            return v, {"v": v}
        betas = [1 - self.learned(name) for name in ("one_minus_b1", "one_minus_b2")]
        epsilon = self.learned("epsilon")
        u, moments = common.adam_direction(gradient, moments, betas, epsilon, step)
        if optimizer == "adamw":
            u = u + self.learned("weight_decay") * parameter
        return u, moments

    def relative_rate(self, step: int) -> Any:
        """α_t/α."""
        schedule = self.constants["schedule"]
        if schedule == "constant":
            return 1.0
        if schedule == "power":
            return (1 + step / self.constants["time_scale"]) ** -self.learned("power")
        share_done = step / self.num_steps
        if schedule == "piecewise":
            heights = self.logarithms["heights"]
            return np.exp(np.interp(share_done, np.linspace(0, 1, len(heights)), heights))
        x, share = np.minimum(share_done, 1), self.learned("final_share")
        remaining = (1 + np.cos(np.pi * x)) / 2 if schedule == "cosine" else 1 - x
        return share + (1 - share) * remaining
