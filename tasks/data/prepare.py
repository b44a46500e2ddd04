"""Prepare the data of a task ahead: download, convert to array_record, average, cache."""

from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from tasks.augmentations import split_name
from tasks.data.cache import cached_file
from tasks.data.prepared import DataUnavailableError, cache_key, prepared_folder
from tasks.data.tfds_images import load_tfds_images
from tasks.data.tfds_text import load_tfds_text
from tasks.images.names import set_and_resolution
from tasks.images.sources import EMBEDDED
from tasks.text.names import set_of_texts
from tasks.text.sources import EMBEDDED as EMBEDDED_TEXTS


class Prepared(NamedTuple):
    """What there is now: ``directory`` of the prepared set, None where its data come with the
    package; ``arrays``, the cached file, and the examples of each part, where a resolution was
    asked for.
    """

    name: str
    directory: Path | None
    resolution: int | None
    arrays: Path | None
    train: int | None
    held_out: int | None

    def in_words(self) -> str:
        """A sentence for a person."""
        if self.directory is None:
            size = f" at {self.resolution} pixels" if self.resolution else ""
            return f"{self.name}{size} comes with the package"
        if self.arrays is None:
            return f"{self.name} is prepared in {str(self.directory)!r}"
        return (
            f"{self.name} at {self.resolution} pixels: {self.train:,} + {self.held_out:,} images "
            f"in {str(self.arrays)!r}"
        )


def prepare(name: str, resolution: int | None = None, progress: bool = True) -> Prepared:
    """Prepare a TFDS set, and its arrays at a resolution.

    Args:
      name: of a set, as in `tfds.builder`, or of a task: DATASET_RxR_MODEL, whose resolution it is
        where none is given; DATASET_bytesL_MODEL or DATASET_wordsL_MODEL, whose texts are cached.
      resolution: pixels a side of the arrays to cache; None for none.
      progress: show a bar on standard error.

    A set that is prepared already is not downloaded, and needs no TensorFlow. What is interrupted
    while it converts goes on with the next call, with the same arrays in the end.

    Raises:
      DataUnavailableError: the set cannot be downloaded or read here, or its arrays cannot be
        written, and why.
      ValueError: the resolution is below 1.
    """
    if resolution is not None and resolution < 1:
        raise ValueError(f"`resolution`={resolution}: must be at least 1")
    base, _ = split_name(name)
    if texts := set_of_texts(base):
        return _prepare_texts(texts)
    if task := set_and_resolution(base):
        base, resolution = task[0], resolution or task[1]
    if resolution is not None and (base, resolution) in EMBEDDED:
        return Prepared(base, None, resolution, None, None, None)
    directory = prepared_folder(base, download=True)
    if resolution is None:
        return Prepared(base, directory, None, None, None, None)
    with tqdm(desc=f"{base} at {resolution}", unit=" images", disable=not progress) as bar:

        def report(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        images = load_tfds_images(base, resolution, report=report)
    held_out = 0 if images.test is None else len(images.test[1])
    arrays = cached_file(cache_key(base, directory, str(resolution)))
    if not arrays.exists():
        raise DataUnavailableError(
            f"the arrays of {base!r} could not be written to {str(arrays)!r}; make room there, or "
            "set LEARNED_OPT_CACHE to another folder"
        )
    return Prepared(base, directory, resolution, arrays, len(images.train[1]), held_out)


def _prepare_texts(name: str) -> Prepared:
    if name in EMBEDDED_TEXTS:
        return Prepared(name, None, None, None, None, None)
    directory = prepared_folder(name, download=True)
    load_tfds_text(name)
    return Prepared(name, directory, None, None, None, None)
