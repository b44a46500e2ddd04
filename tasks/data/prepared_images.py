"""A prepared image set of TensorFlow Datasets: opened, and read row by row."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tasks.data.prepared import (
    DataUnavailableError,
    open_prepared,
    open_split,
    tensorflow_datasets,
    told_if_unreadable,
)
from tasks.data.resize import area_average

READ_AT_ONCE = 1_000

Examples = tuple[np.ndarray, np.ndarray]
"""Images, uint8 [n, height, width, channels], and labels, int32 [n]."""


class PreparedImages(NamedTuple):
    """A set that was opened: ``counts`` examples of each split, of ``classes``; images have so
    many ``channels``; ``sources`` and ``fields`` are TFDS's, of the splits, image and label.
    """

    name: str
    directory: Path
    channels: int
    classes: int
    counts: Mapping[str, int]
    sources: Mapping[str, Any]
    fields: tuple[str, str]

    @property
    def held_out(self) -> tuple[str, ...]:
        """Splits that may be for testing: the first one whose labels are not hidden."""
        return tuple(split for split in ("test", "validation") if split in self.counts)

    def read(self, split: str, rows: Sequence[int] | np.ndarray, resolution: int) -> Examples:
        """These rows, in their order, averaged to ``resolution`` × ``resolution``.

        Raises:
          DataUnavailableError: they cannot be read.
        """
        image, label = self.fields
        pixels: list[np.ndarray] = [np.zeros((0, resolution, resolution, self.channels), np.uint8)]
        labels: list[int] = []
        with told_if_unreadable(self.name, self.directory):
            for start in range(0, len(rows), READ_AT_ONCE):
                chosen = [int(row) for row in rows[start : start + READ_AT_ONCE]]
                records = self.sources[split].__getitems__(chosen)
                images = [record[image] for record in records]
                alike = len({one.shape for one in images}) == 1
                for group in [np.stack(images)] if alike else [one[None] for one in images]:
                    pixels.append(area_average(group, resolution))
                labels.extend(int(record[label]) for record in records)
            return np.concatenate(pixels), np.asarray(labels, np.int32)


def open_images(name: str, directory: Path) -> PreparedImages:
    """Open a set that lies in a folder; no image is read yet.

    Raises:
      DataUnavailableError: TFDS is not there, or the set is damaged, in another format, or has no
        image and label.
    """
    builder = open_prepared(name, directory)
    with told_if_unreadable(name, directory):
        splits = set(builder.info.splits)
    features = builder.info.features
    fields = _image_and_label(tensorflow_datasets(name), features)
    if fields is None or "train" not in splits:
        raise DataUnavailableError(
            f"the TFDS set {name!r} has no train split of images with one label each; "
            f"its features are {sorted(features)}, its splits {sorted(splits)}"
        )
    image, label = (features[field] for field in fields)
    wanted = [split for split in ("train", "test", "validation") if split in splits]
    with told_if_unreadable(name, directory):
        opened = {split: open_split(builder, split) for split in wanted}
    sources = {split: source for split, (source, _) in opened.items()}
    counts = {split: count for split, (_, count) in opened.items()}
    return PreparedImages(
        name, directory, image.shape[-1], label.num_classes, counts, sources, fields
    )


def _image_and_label(tfds: Any, features: Any) -> tuple[str, str] | None:
    images = [k for k in features if isinstance(features[k], tfds.features.Image)]
    labels = [k for k in features if isinstance(features[k], tfds.features.ClassLabel)]
    if not images or not labels:
        return None
    return (
        "image" if "image" in images else images[0],
        "label" if "label" in labels else labels[0],
    )
