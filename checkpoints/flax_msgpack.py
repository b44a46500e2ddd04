"""Reading the msgpack files of flax's `serialization.to_bytes`, without flax and within bounds.

Nested dictionaries of arrays; an array is the extension 1 (or 3, for a scalar) around
(shape, dtype, bytes). Nothing else is taken, and nothing in a file is executed.
"""

import math
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

LARGEST = 1 << 26
"""Bytes of the longest file that is read."""

ARRAY, SCALAR = 1, 3
DTYPES = ("float16", "float32", "float64", "int32", "int64")
DEEPEST = 16


class ForeignFileError(ValueError):
    """A file that does not hold what it should, and why."""


def read_flax_msgpack(path: Path) -> dict[str, Any]:
    """The dictionary in a file: nested dictionaries of arrays, numbers and strings.

    Raises:
      ForeignFileError: it is another kind of file, or damaged.
      OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise ForeignFileError(f"{str(path)!r} is larger than {LARGEST} bytes")
    try:
        tree = msgpack.unpackb(data, ext_hook=_array, raw=False, strict_map_key=False)
    except Exception as error:  # the library raises many kinds for what is no msgpack
        reason = str(error) or type(error).__name__
        raise ForeignFileError(
            f"{str(path)!r} is not a msgpack file of flax: {reason[:200]}"
        ) from None
    if not isinstance(tree, dict):
        raise ForeignFileError(f"{str(path)!r} holds {type(tree).__name__}, not a dictionary")
    return tree


def flatten(tree: Any, prefix: str = "", depth: int = 0) -> dict[str, np.ndarray]:
    """Arrays by their path, "nn/~/w0" say; numbers and strings are left out."""
    if isinstance(tree, np.ndarray):
        return {prefix: tree}
    if not isinstance(tree, dict):
        return {}
    if depth > DEEPEST:
        raise ForeignFileError(f"the file is nested more than {DEEPEST} deep")
    result: dict[str, np.ndarray] = {}
    for key, value in tree.items():
        result |= flatten(value, f"{prefix}/{key}" if prefix else str(key), depth + 1)
    return result


def _array(code: int, data: bytes) -> np.ndarray:
    if code not in (ARRAY, SCALAR):
        raise ForeignFileError(f"it has an extension {code}, which is no array")
    shape, dtype, content = msgpack.unpackb(data, raw=False)
    name = dtype.decode() if isinstance(dtype, bytes) else dtype
    if name not in DTYPES:
        raise ForeignFileError(f"it has an array of {str(name)[:40]!r}; numbers are {DTYPES}")
    if not all(type(extent) is int and extent >= 0 for extent in shape) or (
        math.prod(shape) * np.dtype(name).itemsize != len(content)
    ):
        raise ForeignFileError("it has an array whose bytes do not fill its shape")
    return np.frombuffer(content, name).reshape(shape)
