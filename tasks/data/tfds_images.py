"""Image sets of TensorFlow Datasets, found, prepared where asked, and read into memory.

A prepared set in the `array_record` format is looked for first; nothing is downloaded
unless asked. It is converted to a resolution part by part, and each part is kept until all are
there, so that what was interrupted goes on where it was.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tasks.data.cache import IMAGE_FORMAT, cached_file, load_or_make
from tasks.data.prepared import cache_key, find_prepared, load_prepared
from tasks.data.prepared_images import Examples, PreparedImages, open_images
from tasks.data.splits import ImageSet

PART = 5_000  # images that an interrupted conversion may have to read again

Report = Callable[[int, int], None]
"""``report(done, total)`` of the images of a set that is converted."""


def load_tfds_images(
    name: str,
    resolution: int,
    *,
    download: bool = False,
    report: Report = lambda done, total: None,
) -> ImageSet:
    """A TFDS image-classification set at ``resolution`` × ``resolution``, area-averaged.

    Args:
      name: as in `tfds.builder`: ``cifar10``, ``imagenet_resized/8x8``, ``mnist:3.0.1``.
      resolution: pixels a side.
      download: prepare the set if it is not there; official sets need the extra ``[tf]``.
      report: is told how many images are converted.

    The resized arrays are cached: see `load_prepared`.

    Raises:
      DataUnavailableError: the set is not prepared and may not be or cannot be
        downloaded, is in another format, is damaged, or has no image and label.
    """

    def convert(directory: Path, key: str) -> ImageSet:
        return _converted(open_images(name, directory), resolution, f"{key}.parts", report)

    images = load_prepared(name, str(resolution), convert, IMAGE_FORMAT, download=download)
    if directory := find_prepared(name):
        arrays = cached_file(cache_key(name, directory, str(resolution)))
        if arrays.exists():
            shutil.rmtree(arrays.with_suffix(".parts"), ignore_errors=True)
    return images


def _converted(prepared: PreparedImages, resolution: int, parts: str, report: Report) -> ImageSet:
    """The set at a resolution, from the parts that are cached and from those read now."""
    done, total = 0, sum(prepared.counts[s] for s in ("train", *prepared.held_out[:1]))

    def converted(split: str) -> Examples:
        nonlocal done, total
        found = []
        count = prepared.counts[split]
        total = max(total, done + count)
        for start in range(0, count, PART):
            rows = range(start, min(start + PART, count))

            def read(rows: range = rows) -> ImageSet:
                examples = prepared.read(split, rows, resolution)
                return ImageSet(prepared.name, prepared.classes, examples, None)

            found.append(
                load_or_make(f"{parts}/{split}-{start // PART:05}", read, IMAGE_FORMAT).train
            )
            done += len(rows)
            report(done, total)
        images, labels = zip(*found, strict=True)
        return np.concatenate(images), np.concatenate(labels)

    train, test = converted("train"), None
    for split in prepared.held_out:
        test = converted(split)
        if (test[1] >= 0).all():
            break
        test = None  # hidden labels
    return ImageSet(prepared.name, prepared.classes, train, test)
