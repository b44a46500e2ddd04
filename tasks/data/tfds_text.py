"""Texts of TensorFlow Datasets, read without TensorFlow: see `tasks.data.prepared`."""

from pathlib import Path
from typing import Any

import numpy as np

from tasks.data.cache import FileFormat, write_arrays
from tasks.data.prepared import (
    DataUnavailableError,
    load_prepared,
    open_prepared,
    open_split,
    tensorflow_datasets,
    told_if_unreadable,
)
from tasks.data.text import END, TextSet

READ_AT_ONCE = 1_000
LARGEST = 2**24  # bytes of a split
PREFERRED = ("text", "description")


def load_tfds_text(name: str, *, download: bool = False) -> TextSet:
    """The documents of a TFDS set: the first `LARGEST` bytes of its train and its test split.

    Args:
      name: as in `tfds.builder`: ``imdb_reviews``, ``wiki40b/en``, ``lm1b:1.1.0``.
      download: prepare the set if it is not there; official sets need the extra ``[tf]``.

    The feature of text that is read is ``text`` or ``description`` where there is one, or else the
    first. The texts are cached: see `load_prepared`.

    Raises:
      DataUnavailableError: the set is not prepared and may not be or cannot be downloaded, is in
        another format, is damaged, or has no text.
    """

    def read(directory: Path, key: str) -> TextSet:
        del key
        return _read(name, directory)

    return load_prepared(name, "text", read, TEXT_FORMAT, download=download)


def _read(name: str, directory: Path) -> TextSet:
    builder = open_prepared(name, directory)
    features = builder.info.features
    with told_if_unreadable(name, directory):
        splits = set(builder.info.splits)
    key = _text(tensorflow_datasets(name), features)
    if key is None or "train" not in splits:
        raise DataUnavailableError(
            f"the TFDS set {name!r} has no train split of texts; "
            f"its features are {sorted(features)}, its splits {sorted(splits)}"
        )
    with told_if_unreadable(name, directory):
        held_out = [split for split in ("test", "validation") if split in splits]
        test = _read_split(builder, held_out[0], key) if held_out else None
        return TextSet(name, _read_split(builder, "train", key), test)


def _text(tfds: Any, features: Any) -> str | None:
    found = [key for key in features if isinstance(features[key], tfds.features.Text)]
    return next((key for key in (*PREFERRED, *found) if key in found), None)


def _read_split(builder: Any, split: str, key: str) -> np.ndarray:
    source, count = open_split(builder, split)
    documents: list[bytes] = []
    size = 0
    for start in range(0, count, READ_AT_ONCE):
        records = source.__getitems__(range(start, min(start + READ_AT_ONCE, count)))
        documents += [bytes(record[key]) + bytes([END]) for record in records]
        size += sum(map(len, documents[start:]))
        if size >= LARGEST:
            break
    return np.frombuffer(b"".join(documents)[:LARGEST], np.uint8)


def read_text_set(path: Path) -> TextSet:
    """Read what `write_text_set` wrote."""
    with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
        test = file.get("test_text")
        return TextSet(str(file["name"]), file["train_text"], test)


def write_text_set(path: Path, texts: TextSet) -> None:
    """Write a set to ``path``: whole, or not at all."""
    arrays = {"name": np.asarray(texts.name), "train_text": texts.train}
    if texts.test is not None:
        arrays["test_text"] = texts.test
    write_arrays(path, arrays)


TEXT_FORMAT = FileFormat(read_text_set, write_text_set)
