"""A digest of a pytree of arrays that several processes hold together, each its shards.

Of each array the checksum Σ weight(place) · bits (mod 2⁶⁴) over its numbers: sums of parts add up,
so that it is the same whoever holds what. Numbers are taken in words of at most 32 bits and weights
are odd, of 64: no change of one word is lost, nor, but by chance, one of several.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

CHUNK = 1 << 18  # numbers at a time
WORDS = 1 << 64


def digest(state: Any, checksums: Sequence[Sequence[int]]) -> str:
    """SHA-256 of paths, shapes, dtypes and content, from `checksums_of_part` of every process."""
    of_leaves = [sum(parts) % WORDS for parts in zip(*checksums, strict=True)]
    text = "\n".join([*kinds(state), *map(str, of_leaves)])
    return hashlib.sha256(text.encode()).hexdigest()


def kinds(state: Any) -> list[str]:
    """Path, dtype and shape of every leaf."""
    return [
        f"{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape}"
        for path, leaf in jax.tree.leaves_with_path(state)
    ]


def checksums_of_part(state: Any, *, first: bool) -> list[int]:
    """Of every leaf: what this process holds of it and no other does, as in this file's head.

    NumPy arrays, which all hold whole, count in the ``first`` process.
    """
    return [
        sum(_checksum(numbers, start) for start, numbers in _own_parts(leaf, first)) % WORDS
        for leaf in jax.tree.leaves(state)
    ]


def _own_parts(leaf: Any, first: bool) -> list[tuple[int, np.ndarray]]:
    """Pieces of an array, and the place of their first number in the whole."""
    if not hasattr(leaf, "addressable_shards"):
        return [(0, np.asarray(leaf))] if first else []
    row = int(np.prod(leaf.shape[1:]))
    parts = []
    for shard in leaf.addressable_shards:
        if shard.replica_id == 0:
            numbers = np.asarray(shard.data)
            if numbers.shape[1:] != leaf.shape[1:]:
                raise ValueError(f"{leaf.sharding} splits more than the leading axis")
            start = shard.index[0].start or 0 if leaf.ndim else 0
            parts.append((start * row, numbers))
    return parts


def _checksum(numbers: np.ndarray, start: int) -> int:
    flat = np.ascontiguousarray(numbers).reshape(-1)
    bits = flat.view(f"u{min(flat.itemsize, 4)}")
    places = np.arange(CHUNK, dtype=np.uint64)
    total = 0
    for begin in range(0, bits.size, CHUNK):
        words = bits[begin : begin + CHUNK].astype(np.uint64)
        first = np.uint64(start * (bits.size // max(flat.size, 1)) + begin)
        weights = _mixed(places[: words.size] + first) | np.uint64(1)
        total += int((words * weights).sum(dtype=np.uint64))
    return total


def _mixed(x: np.ndarray) -> np.ndarray:
    """Splitmix64 (Steele, Lea & Flood 2014): numbers in a row become unlike each other."""
    x = (x + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
