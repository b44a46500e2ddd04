"""Digests of what a result depends on."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np

PACKAGES = Path(__file__).parents[2]
SOURCES = (
    "learned_opt",
    "tasks",
    "meta_train/flat_program.py",
    "meta_train/footprint.py",
    "meta_train/memory.py",
    "meta_train/parallel.py",
    "meta_train/problem.py",
    "meta_train/problems/final_loss.py",
    "meta_train/problems/optimizer_training.py",
    "meta_train/evaluate/baselines.py",
    "meta_train/evaluate/contestant.py",
    "meta_train/evaluate/learned.py",
    "meta_train/evaluate/runs.py",
    "meta_train/evaluate/varied.py",
)
"""What decides the figures of a training run."""


def digest(value: Any) -> str:
    """SHA-256 of JSON values, whatever the order of their keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def digest_of_arrays(tree: Any) -> str:
    """SHA-256 of a pytree of arrays: its structure, types, shapes and bytes."""
    leaves, structure = jax.tree.flatten(tree)
    found = hashlib.sha256(str(structure).encode())
    for leaf in map(np.ascontiguousarray, leaves):
        found.update(f"{leaf.dtype.str}{leaf.shape}".encode())
        found.update(leaf.tobytes())
    return found.hexdigest()


@cache
def digest_of_sources(names: Sequence[str] = SOURCES) -> str:
    """SHA-256 of the code of files and packages."""
    found = hashlib.sha256()
    for path in sorted(_sources(PACKAGES / name for name in names)):
        found.update(str(path.relative_to(PACKAGES)).encode())
        found.update(path.read_bytes())
    return found.hexdigest()


def _sources(paths: Iterable[Path]) -> Iterable[Path]:
    for path in paths:
        yield from (*path.rglob("*.py"), *path.rglob("*.cc")) if path.is_dir() else [path]
