"""Configurations of parametric families: drawn, written as JSON, and rebuilt.

    configuration = sample("fashion_mlps", seed=0, max_parameters=10_000)
    family = rebuild(from_json(to_json(configuration)))

A configuration is a shape of the family and the values that were drawn for what can be traced. The
rebuilt family has this one task. A bound on time is one on operations, which do not depend on the
machine, nor on what else it does: so a seed draws the same configuration everywhere.
"""

import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from tasks.base import TaskFamily, parameter_count
from tasks.catalogue import ParametricFamily, parametric_families
from tasks.registry import UnknownTaskError


class NoSuchConfigurationError(ValueError):
    """No shape of the family is within the bounds, or a written configuration is none."""


class SampledConfiguration(NamedTuple):
    """``shape``: of the family's shapes; ``values``: of its ``sample``, NumPy arrays."""

    family: str
    shape: Mapping[str, Any]
    values: Any


def sample(
    name: str,
    seed: int,
    *,
    max_parameters: float = math.inf,
    max_operations: float = math.inf,
) -> SampledConfiguration:
    """A configuration of the parametric family ``name``: uniform among the shapes within bounds.

    Args:
      name: of the family.
      seed: the same one draws the same configuration.
      max_parameters: the most trainable parameters.
      max_operations: the most floating-point operations of a loss and its gradient, as XLA
        counts them.

    Raises:
      UnknownTaskError: there is no such family.
      NoSuchConfigurationError: no shape is within the bounds.
    """
    parametric = _family(name)
    random = np.random.default_rng(seed)
    for index in random.permutation(len(parametric.shapes)):
        family = parametric.member(int(index))
        if parameter_count(family) > max_parameters:
            continue
        if max_operations < math.inf and operations(family) > max_operations:
            continue
        values = family.sample(jax.random.key(int(random.integers(2**31))))
        shape = parametric.shapes[index]
        return SampledConfiguration(name, shape, jax.tree.map(np.asarray, values))
    raise NoSuchConfigurationError(
        f"no shape of the family {name!r} has at most {max_parameters:g} parameters and "
        f"{max_operations:g} operations a step; allow more, or choose another family"
    )


def rebuild(configuration: SampledConfiguration) -> TaskFamily:
    """The family of this one task: ``sample`` returns its values whatever the key.

    Raises:
      UnknownTaskError: there is no such family.
      NoSuchConfigurationError: the family has no such shape, or its values are others.
    """
    parametric = _family(configuration.family)
    shapes = [dict(shape) for shape in parametric.shapes]
    if dict(configuration.shape) not in shapes:
        raise NoSuchConfigurationError(
            f"the family {configuration.family!r} has no shape {dict(configuration.shape)!r}; "
            f"it has {shapes!r}"
        )
    family = parametric.member(shapes.index(dict(configuration.shape)))
    drawn = jax.eval_shape(family.sample, jax.random.key(0))
    if _types(drawn) != _types(configuration.values):
        raise NoSuchConfigurationError(
            f"the values of a configuration of {configuration.family!r} are "
            f"{_types(configuration.values)}, where {_types(drawn)} are drawn; it was written by "
            "another version: sample it again"
        )
    return family._replace(sample=lambda key: configuration.values)


def to_json(configuration: SampledConfiguration) -> str:
    """The configuration as one line of JSON; values are exact."""
    return json.dumps(
        {
            "family": configuration.family,
            "shape": dict(configuration.shape),
            "values": _written(configuration.values),
        }
    )


def from_json(text: str) -> SampledConfiguration:
    """What `to_json` wrote.

    Raises:
      NoSuchConfigurationError: the text is no configuration.
    """
    try:
        fields = json.loads(text)
        return SampledConfiguration(
            str(fields["family"]), dict(fields["shape"]), _read(fields["values"])
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise NoSuchConfigurationError(
            f"this is no configuration of a family ({type(error).__name__}: {error}); write it "
            "by `tasks.parametric.to_json`"
        ) from error


def operations(family: TaskFamily) -> float:
    """Floating-point operations of a loss and its gradient, as XLA counts them uncompiled."""
    arrays = jax.eval_shape(lambda: family.load()["train"])

    def step(key: jax.Array, arrays: Any) -> Any:
        task = family.build(family.sample(key))
        params, model_state = task.init(key)
        batch = family.batch(key, arrays)
        return task.value_and_gradient(params, model_state, key, batch)

    cost = jax.jit(step).lower(jax.random.key(0), arrays).cost_analysis()
    return float((cost or {}).get("flops", 0.0))


def _family(name: str) -> ParametricFamily:
    if name not in parametric_families():
        raise UnknownTaskError(name)
    return parametric_families()[name]


def _types(values: Any) -> dict[str, tuple[tuple[int, ...], str]]:
    leaves = jax.tree_util.tree_flatten_with_path(values)[0]
    return {jax.tree_util.keystr(path): (leaf.shape, leaf.dtype.name) for path, leaf in leaves}


def _written(values: Any) -> Any:
    if isinstance(values, Mapping):
        return {key: _written(value) for key, value in values.items()}
    array = np.asarray(values)
    return {"dtype": array.dtype.name, "array": array.tolist()}


def _read(written: Any) -> Any:
    if set(written) == {"dtype", "array"}:
        if not np.issubdtype(np.dtype(written["dtype"]), np.number):
            raise ValueError(f"dtype {written['dtype']!r} is not numeric")
        return np.asarray(written["array"], np.dtype(written["dtype"]))
    return {key: _read(value) for key, value in written.items()}
