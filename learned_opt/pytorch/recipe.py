"""From a saved optimizer to a rule of PyTorch: what is read, and what is refused.

Of this package only this module runs JAX, and only where an optimizer is made.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax
import torch

from learned_opt.portable import OptimizerFormatError, PortableOptimizer, read
from learned_opt.portable import theta as thetas
from learned_opt.portable.envelope import with_warnings
from learned_opt.pytorch.base import Rule, Theta
from learned_opt.pytorch.base_shapes import base_shapes_of
from learned_opt.pytorch.errors import LearnedOptimizerError
from learned_opt.pytorch.rules import PYTORCH_RULES
from learned_opt.rules import RULES


class Recipe(NamedTuple):
    """The name of a rule, its constants, and its θ as tensors in main memory."""

    name: str
    constants: Mapping[str, Any]
    theta: Theta

    def on(self, device: torch.device) -> Rule:
        """The rule with its θ on a device."""
        theta = {
            module: {name: tensor.to(device) for name, tensor in tensors.items()}
            for module, tensors in self.theta.items()
        }
        return PYTORCH_RULES[self.name](self.constants, theta)


def make_recipe(
    optimizer: str | os.PathLike[str] | PortableOptimizer, overrides: Mapping[str, Any]
) -> tuple[Recipe, Mapping[str, Any]]:
    """The recipe of a saved optimizer, with constants in place of its own, and its manifest.

    Raises:
      FileNotFoundError: neither a shipped optimizer nor a saved one.
      OptimizerFormatError: a damaged or foreign file, or constants that do not fit.
      LearnedOptimizerError: PyTorch has not that rule, or not with those constants.
    """
    changed = dict(overrides)
    if "base_shapes" in changed:
        changed["base_shapes"] = base_shapes_of(changed["base_shapes"])
    if isinstance(optimizer, PortableOptimizer):
        found = optimizer
    elif isinstance(optimizer, str | os.PathLike):
        found = read(optimizer, **changed)
    else:
        raise LearnedOptimizerError(
            f"`optimizer` is of type {type(optimizer).__name__}: must be the name of a shipped "
            "optimizer, the path of a saved one, or what `learned_opt.read` gives"
        )
    name = found.optimizer.name
    if name not in PYTORCH_RULES:
        raise LearnedOptimizerError(
            f"the rule {name!r} is not one that PyTorch has here; legal ones: "
            f"{sorted(PYTORCH_RULES)}"
        )
    if found is optimizer:
        found = _with_constants(found, changed)
    constants = found.optimizer.constants
    _check_constants(constants)
    theta = {
        module: {key: torch.from_numpy(np.array(leaf, np.float32)) for key, leaf in leaves.items()}
        for module, leaves in found.theta.items()
    }
    return Recipe(name, constants, theta), found.manifest


def warn_outside(
    name: str, manifest: Mapping[str, Any], param_groups: Sequence[Mapping[str, Any]]
) -> None:
    """The warning that `learned_opt.load` has, for the shapes and dtypes of these parameters."""
    nothing = optax.GradientTransformationExtraArgs(
        lambda params: None, lambda u, s, p=None: (u, s)
    )
    model = [
        np.broadcast_to(np.zeros((), jnp.dtype(str(p.dtype).removeprefix("torch."))), p.shape)
        for group in param_groups
        for p in group["params"]
        if p.is_floating_point()
    ]
    with_warnings(nothing, manifest.get("meta_training", {}), name).init(model)


def _with_constants(found: PortableOptimizer, changed: Mapping[str, Any]) -> PortableOptimizer:
    """The same checks as `learned_opt.read` has for a file."""
    name, constants = found.optimizer.name, found.optimizer.constants
    if unknown := sorted(set(changed) - set(constants)):
        raise OptimizerFormatError(
            f"unknown constants {unknown} of the rule {name!r}; known ones: {sorted(constants)}"
        )
    optimizer = found.optimizer
    if changed:
        try:
            optimizer = RULES[name](**{**constants, **changed})
        except (TypeError, ValueError) as error:
            raise OptimizerFormatError(
                f"the constants do not fit the rule {name!r}: {error}"
            ) from None
    shapes, wanted = (
        {name: np.shape(leaf) for name, leaf in thetas.named_leaves(theta).items()}
        for theta in (found.theta, thetas.theta_shapes(optimizer))
    )
    if shapes != wanted:
        raise OptimizerFormatError(
            f"θ is not one of the rule {name!r} with those constants: it has {shapes}, not {wanted}"
        )
    return found._replace(optimizer=optimizer)


def _check_constants(constants: Mapping[str, Any]) -> None:
    if constants["state_dtype"] != "float32":
        raise LearnedOptimizerError(
            f"`state_dtype`={constants['state_dtype']!r}: in PyTorch the state is float32; give "
            '`state_dtype="float32"`'
        )
    if constants.get("weight_decay_mask") is not None:
        raise LearnedOptimizerError(
            "`weight_decay_mask`: in PyTorch, give parameter groups with a `weight_decay` each, "
            "and `weight_decay_mask=None`"
        )
    if callable(constants.get("learning_rate")):
        raise LearnedOptimizerError(
            "`learning_rate` is a schedule of optax: in PyTorch, give a number, and a schedule of "
            "torch.optim.lr_scheduler"
        )
