"""µP's step scales in PyTorch: those of `learned_opt.rules.mu_mlp` (Thérien et al. 2024,
https://arxiv.org/abs/2406.00153).

    η = 1/(fan-in ÷ fan-in of the base model) for hidden matrices, else 1

A tensor that is wider than in the base model along two axes is a hidden matrix. Its fan-in is axis
1, as ``torch.nn`` lays out Linear, [out, in], and convolutions, [out, in, *kernel].
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from learned_opt.constants import is_whole, short
from learned_opt.pytorch.errors import LearnedOptimizerError

FAN_IN = 1

BaseShapes = Mapping[str, Sequence[int]]


def base_shapes_of(base: Any) -> dict[str, list[int]] | None:
    """Shapes by name, from a base model or what else stands for one.

    Args:
      base: a ``nn.Module``, its ``named_parameters()``, or a mapping from the names of parameters
        to tensors or to shapes; None is None.

    Raises:
      LearnedOptimizerError: it is something else.
    """
    if base is None:
        return None
    if isinstance(base, nn.Module):
        base = base.named_parameters()
    if isinstance(base, Iterable):
        pairs = list(base.items() if isinstance(base, Mapping) else base)
        if all(isinstance(pair, tuple) and len(pair) == 2 for pair in pairs):
            shapes = {name: getattr(value, "shape", value) for name, value in pairs}
            if all(map(_is_shape, shapes.values())) and all(isinstance(n, str) for n in shapes):
                return {name: list(shape) for name, shape in shapes.items()}
    raise LearnedOptimizerError(
        f"`base_shapes`={short(base)}: must be the base model, its named_parameters(), or a "
        "mapping from the names of the parameters to their shapes"
    )


def step_scale(name: str | None, shape: Sequence[int], base_shapes: BaseShapes | None) -> float:
    """η of the parameter of that name and shape; both shapes are as in ``torch.nn``.

    Raises:
      LearnedOptimizerError: the parameter has no name, or is not the base model's but for its
        widths.
    """
    if base_shapes is None:
        return 1.0
    if name is None:
        raise LearnedOptimizerError(
            "`base_shapes` is by the names of the parameters, which these have not: give "
            "`model.named_parameters()` as `params`, or `base_shapes=None` for η = 1"
        )
    shape, base = tuple(shape), base_shapes.get(name)
    if base is None:
        raise LearnedOptimizerError(
            f"`base_shapes` has no shape for the parameter {name!r}; it has "
            f"{sorted(base_shapes)[:8]}"
        )
    if len(base) != len(shape):
        raise LearnedOptimizerError(
            f"`base_shapes`: {name!r} has shape {shape}, in the base {tuple(base)}"
        )
    wider = [axis for axis in range(len(shape)) if shape[axis] != base[axis]]
    if len(wider) < 2:
        return 1.0
    if len(wider) > 2 or FAN_IN not in wider:
        raise LearnedOptimizerError(
            f"`base_shapes`: {name!r} is {shape}, in the base {tuple(base)}: µP is for tensors "
            f"that grow along one axis, or along two of which axis {FAN_IN} is the fan-in"
        )
    return base[FAN_IN] / shape[FAN_IN]


def _is_shape(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(is_whole(n) and n >= 0 for n in value)
