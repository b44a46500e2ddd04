"""µLO (Thérien et al. 2024, https://arxiv.org/abs/2406.00153): an Adafactor MLP under µP.

    p ← p − η·a·d·exp(b·μ),    η = 1/(fan-in ÷ fan-in of the base model) for hidden matrices, else 1

d and μ are those of `adafactor_mlp` with hidden layers of 32 and 32. A *base model* is the same
model at the width that steps are meant for; a tensor that is wider than there along two axes is a
hidden matrix (Yang et al. 2022, https://arxiv.org/abs/2203.03466, table 8: Adam). The model itself
has to be initialised, and its output scaled, as µP wants it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import optax

from learned_opt.base import LearnedOptimizer, Theta
from learned_opt.constants import is_whole, short
from learned_opt.features.time import TIMESCALES
from learned_opt.rules.adafactor_family import DECAYS, SECOND_MOMENT_DECAYS
from learned_opt.rules.adafactor_mlp import adafactor_mlp
from learned_opt.tensors import required

BaseShapes = Mapping[str, Sequence[int]]


def mu_mlp(
    *,
    base_shapes: Any = None,
    step_multiplier: float = 0.01,
    exponent_multiplier: float = 0.001,
    hidden: Sequence[int] = (32, 32),
    momentum_decays: Sequence[float] = DECAYS,
    second_moment_decays: Sequence[float] = SECOND_MOMENT_DECAYS,
    factored_decays: Sequence[float] = DECAYS,
    timescales: Sequence[float] = TIMESCALES,
    state_dtype: str = "float32",
) -> LearnedOptimizer:
    """The update rule at the top of this file.

    Args:
      base_shapes: the parameters of the base model, or their shapes: a pytree of arrays or of
        `jax.ShapeDtypeStruct` like the parameters, or a mapping from the paths of the tensors
        ("mlp/~/linear_1/w") to their shapes. None: every model is its own base, η = 1.
      step_multiplier: a; the published value is 0.01.

    The other arguments, and θ, are those of `adafactor_mlp`.

    Raises:
      ValueError: a constant is out of its range; or, at an update, the parameters are not those
        of the base model but for their widths.
    """
    shapes = None if base_shapes is None else _as_shapes(base_shapes)
    inner = adafactor_mlp(
        step_multiplier=step_multiplier,
        exponent_multiplier=exponent_multiplier,
        hidden=hidden,
        momentum_decays=momentum_decays,
        second_moment_decays=second_moment_decays,
        factored_decays=factored_decays,
        timescales=timescales,
        state_dtype=state_dtype,
    )

    def build(theta: Theta, num_steps: Any = None) -> optax.GradientTransformationExtraArgs:
        unscaled = inner.build(theta, num_steps)

        def init(params: optax.Params) -> Any:
            step_scales(params, shapes)  # what does not fit is said before the training
            return unscaled.init(params)

        def update(
            updates: optax.Updates, state: Any, params: Any = None, **extra_args: Any
        ) -> tuple[optax.Updates, Any]:
            scales = step_scales(required(params), shapes)
            updates, state = unscaled.update(updates, state, params, **extra_args)
            return jax.tree.map(lambda u, scale: u * scale, updates, scales), state

        return optax.GradientTransformationExtraArgs(init, update)

    constants = {"base_shapes": shapes, **inner.constants}
    return inner._replace(name="mu_mlp", constants=constants, build=build)


def step_scales(params: optax.Params, base_shapes: BaseShapes | None) -> Any:
    """η of every tensor, a Python number at its place in the parameters."""

    def scale(path: Any, parameter: Any) -> float:
        if base_shapes is None:
            return 1.0
        name, shape = path_name(path), jax.numpy.shape(parameter)
        base = base_shapes.get(name)
        if base is None:
            raise ValueError(f"`base_shapes` has no shape for the parameter {name!r}")
        if len(base) != len(shape):
            raise ValueError(
                f"`base_shapes`: {name!r} has shape {shape}, in the base {tuple(base)}"
            )
        wider = [axis for axis in range(len(shape)) if shape[axis] != base[axis]]
        if len(wider) > 2:
            raise ValueError(
                f"`base_shapes`: {name!r} is {shape}, in the base {tuple(base)}: µP is for tensors "
                "that grow along one axis or two"
            )
        return base[wider[0]] / shape[wider[0]] if len(wider) == 2 else 1.0

    return jax.tree.map_with_path(scale, params)


def path_name(path: Any) -> str:
    """The path of a leaf as it stands in a manifest, "mlp/~/linear_0/w" say."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _as_shapes(base_shapes: Any) -> dict[str, list[int]]:
    def is_shape(value: Any) -> bool:
        return isinstance(value, list | tuple) and all(is_whole(n) and n >= 0 for n in value)

    if isinstance(base_shapes, Mapping) and all(map(is_shape, base_shapes.values())):
        return {str(name): list(shape) for name, shape in base_shapes.items()}
    leaves = jax.tree.leaves_with_path(base_shapes)
    if not all(hasattr(leaf, "shape") for _, leaf in leaves):
        raise ValueError(
            f"`base_shapes`={short(base_shapes)}: must be the parameters of the base model, or a "
            "mapping from their paths to their shapes"
        )
    return {path_name(path): list(leaf.shape) for path, leaf in leaves}
