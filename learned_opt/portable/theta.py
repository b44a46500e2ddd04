"""θ as a safetensors file: named tensors, and a header that is read before anything is trusted."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy

from learned_opt.base import LearnedOptimizer, Theta
from learned_opt.portable import manifest as manifests
from learned_opt.portable.errors import OptimizerFormatError

PREFIX = 8
"""Bytes of the length of the header, with which a safetensors file begins."""

LARGEST_HEADER = 4 * manifests.LARGEST
"""Bytes; a manifest among the metadata is a string, with its quotation marks escaped."""

METADATA_KEY = "learned_opt_manifest"


def theta_shapes(optimizer: LearnedOptimizer) -> Any:
    """θ of a rule as `jax.ShapeDtypeStruct`."""
    return jax.eval_shape(optimizer.init, jax.random.key(0))


def named_leaves(theta: Theta) -> dict[str, Any]:
    """Leaves by their path, ``mlp/~/linear_0/w`` say, in the order of the pytree."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree.leaves_with_path(theta)
    }


def kinds(tensors: Mapping[str, Any]) -> dict[str, str]:
    """``float32[19,32]`` and so on, by name."""
    return {name: f"{tensor.dtype}{list(tensor.shape)}" for name, tensor in sorted(tensors.items())}


def to_bytes(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> bytes:
    """A safetensors file."""
    whole = {name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}
    return safetensors.numpy.save(whole, metadata=dict(metadata) if metadata else None)


def header_length(start: bytes, size: int, source: str) -> int:
    """Bytes of the header of a file of ``size`` bytes that begins with ``start``."""
    length = int.from_bytes(start[:PREFIX], "little")
    if len(start) < PREFIX or length > min(size - PREFIX, LARGEST_HEADER):
        raise OptimizerFormatError(
            f"{source} is not a safetensors file, or its header is longer than it or than "
            f"{LARGEST_HEADER} bytes"
        )
    return length


def read_theta(
    data: bytes, manifest: Mapping[str, Any], optimizer: LearnedOptimizer, source: str
) -> Theta:
    """θ of the rule from a safetensors file, checked against the manifest.

    Raises:
      OptimizerFormatError: the file is damaged, or does not hold that θ.
    """
    header_length(data, len(data), source)
    try:
        tensors = safetensors.numpy.load(data)
        found = kinds(tensors)
    except Exception as error:  # the library raises many kinds for what is no such file
        raise OptimizerFormatError(f"{source} is not a safetensors file: {error}") from None
    shapes = theta_shapes(optimizer)
    wanted = kinds(named_leaves(shapes))
    if found != wanted:
        raise OptimizerFormatError(
            f"{source} does not hold the θ of its manifest's rule and constants: "
            f"{_difference(found, wanted)}"
        )
    for name, tensor in tensors.items():
        if manifests.tensor_facts(tensor) != manifest["theta"].get(name):
            raise OptimizerFormatError(
                f"{source} is damaged: its tensor {name!r} is not the one of the manifest"
            )
        if not np.isfinite(tensor).all():
            raise OptimizerFormatError(f"{source}: {name!r} has entries that are not finite")
    if extra := sorted(set(manifest["theta"]) - set(tensors)):
        raise OptimizerFormatError(f"{source} lacks the tensors {extra} of its manifest")
    in_order = [tensors[name] for name in named_leaves(shapes)]
    return jax.tree.unflatten(jax.tree.structure(shapes), in_order)


def _difference(found: Mapping[str, str], wanted: Mapping[str, str]) -> str:
    """In which tensors a file is not what it should be, in at most a line."""
    parts = [
        f"{name} is {found.get(name, 'missing')}, not {wanted.get(name, 'there')}"
        for name in sorted({*found, *wanted})
        if found.get(name) != wanted.get(name)
    ]
    return "; ".join(parts)[:400]
