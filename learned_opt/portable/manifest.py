"""The manifest: JSON that says what an optimizer is, and that it is whole."""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np

from learned_opt.base import LearnedOptimizer
from learned_opt.portable.errors import OptimizerFormatError

FORMAT = "learned-opt"
VERSION = 2
LARGEST = 1 << 18
"""Bytes of the longest manifest that is read."""

KINDS: Mapping[str, type] = {
    "rule": str,
    "constants": dict,
    "inputs": list,
    "theta": dict,
    "meta_training": dict,
    "licence": str,
    "created": str,
    "sha256": str,
}
"""What a manifest holds beside its format and version, each of its kind."""


def make_manifest(
    optimizer: LearnedOptimizer,
    tensors: Mapping[str, np.ndarray],
    meta_training: Mapping[str, Any],
    licence: str,
) -> dict[str, Any]:
    """The manifest of θ's ``tensors``; ValueError for what is no JSON."""
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "rule": optimizer.name,
        "constants": dict(optimizer.constants),
        "inputs": list(optimizer.inputs),
        "theta": {name: tensor_facts(tensor) for name, tensor in tensors.items()},
        "meta_training": dict(meta_training),
        "licence": licence,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    try:
        plain = json.loads(_canonical(manifest))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"the constants of the rule {optimizer.name!r}, or `meta_training`, hold something "
            f"that JSON does not ({error}): give numbers, words, lists and dictionaries; a "
            "schedule can be given again to `load`"
        ) from None
    return plain | {"sha256": digest(plain)}


def tensor_facts(tensor: np.ndarray) -> dict[str, Any]:
    """What a manifest says of one tensor."""
    data = np.ascontiguousarray(tensor).tobytes()
    return {
        "shape": list(tensor.shape),
        "dtype": str(tensor.dtype),
        "sha256": hashlib.sha256(data).hexdigest(),
    }


def digest(manifest: Mapping[str, Any]) -> str:
    """SHA-256 of all but the digest itself, whatever its spaces and the order of its keys."""
    rest = {key: value for key, value in manifest.items() if key != "sha256"}
    return hashlib.sha256(_canonical(rest).encode()).hexdigest()


def read_manifest(text: bytes, source: str) -> dict[str, Any]:
    """The manifest in a text, checked; ``source`` is what an error calls it.

    Raises:
      OptimizerFormatError: it is no manifest, of another version, or not as it was written.
    """
    manifest = parse_json(text, source)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise OptimizerFormatError(f"{source} is not the manifest of a learned optimizer")
    if type(manifest.get("version")) is not int or manifest["version"] != VERSION:
        raise OptimizerFormatError(
            f"{source} has format version {str(manifest.get('version'))[:40]!r}; this learned-opt "
            f"reads version {VERSION}: save the optimizer again with the one that wrote it"
        )
    for key, kind in KINDS.items():
        if not isinstance(manifest.get(key), kind):
            raise OptimizerFormatError(f"{source} has no {key!r} of type {kind.__name__}")
    try:
        found = digest(manifest)
    except ValueError as error:
        raise OptimizerFormatError(f"{source} cannot be as it was written: {error}") from None
    if found != manifest["sha256"]:
        raise OptimizerFormatError(f"{source} is damaged: its SHA-256 is not the one it states")
    return manifest


def parse_json(text: bytes, source: str, largest: int = LARGEST) -> Any:
    """Strict JSON: no key twice, no NaN or Infinity."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) < len(pairs):
            raise ValueError("a key stands in it twice")
        return result

    def refuse(word: str) -> Any:
        raise ValueError(f"{word} is no number of JSON")

    if len(text) > largest:
        raise OptimizerFormatError(f"{source} is larger than the {largest} bytes it may have")
    try:
        return json.loads(text.decode(), object_pairs_hook=unique, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise OptimizerFormatError(f"{source} is not JSON: {str(error)[:200]}") from None


def to_text(manifest: Mapping[str, Any]) -> str:
    """The manifest as people read it."""
    return json.dumps(manifest, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
