"""A warning where an optimizer is used on something that it was not meta-trained for."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

FACTOR = 2
"""A model of up to so many times more, or fewer, parameters is still of the same size."""

HOW_TO_SILENCE = "warnings.filterwarnings('ignore', category=learned_opt.OutsideEnvelopeWarning)"


class OutsideEnvelopeWarning(UserWarning):
    """A learned optimizer is used outside of what its manifest says it was meta-trained on."""


def with_warnings(
    tx: optax.GradientTransformationExtraArgs,
    meta_training: Mapping[str, Any],
    name: str,
    num_steps: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """The transformation, which warns of a horizon now and of a model in its ``init``.

    What the manifest does not state is not checked: "tasks" with their "parameters",
    "horizons" in updates, and "dtypes", which are float32 where they are not stated.
    """
    _warn(name, horizon_reasons(meta_training, num_steps))

    def init(params: optax.Params) -> Any:
        _warn(name, model_reasons(meta_training, params))
        return tx.init(params)

    return optax.GradientTransformationExtraArgs(init, tx.update)


def horizon_reasons(meta_training: Mapping[str, Any], num_steps: Any) -> list[str]:
    """What of the length of training is outside, in words."""
    horizons = _numbers(meta_training.get("horizons"))
    if num_steps is None or isinstance(num_steps, jax.Array) or not horizons:
        return []
    low, high = min(horizons), max(horizons)
    if low <= num_steps <= high:
        return []
    return [f"{num_steps:,} updates, where it was trained for {_between(low, high)}"]


def model_reasons(meta_training: Mapping[str, Any], params: optax.Params) -> list[str]:
    """What of a model is outside, in words."""
    leaves = jax.tree.leaves(params)
    tasks = meta_training.get("tasks")
    tasks = tasks if isinstance(tasks, list) else []
    sizes = _numbers([task.get("parameters") for task in tasks if isinstance(task, dict)])
    size, reasons = sum(jnp.size(leaf) for leaf in leaves), []
    if sizes and size and not min(sizes) / FACTOR <= size <= max(sizes) * FACTOR:
        reasons.append(
            f"{size:,} parameters, where it was trained on {_between(min(sizes), max(sizes))}"
        )
    stated = meta_training.get("dtypes", ["float32"])
    known = {str(dtype) for dtype in stated} if isinstance(stated, list) else set()
    others = sorted({str(jnp.result_type(leaf)) for leaf in leaves} - known)
    if tasks and known and others:
        reasons.append(
            f"parameters in {', '.join(others)}, where it was trained on {', '.join(sorted(known))}"
        )
    return reasons


def _warn(name: str, reasons: Sequence[str]) -> None:
    if reasons:
        warnings.warn(
            f"the learned optimizer {name!r} is used outside of its meta-training: "
            f"{'; '.join(reasons)}. It may do worse than a hand-designed one; see "
            f"`learned_opt.guard`; to silence this: {HOW_TO_SILENCE}",
            OutsideEnvelopeWarning,
            stacklevel=3,
        )


def _between(low: float, high: float) -> str:
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _numbers(values: Any) -> list[float]:
    if not isinstance(values, list):
        return []
    return [x for x in values if isinstance(x, int | float) and not isinstance(x, bool)]
