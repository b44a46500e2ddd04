"""Image sets of TensorFlow Datasets, read without TensorFlow.

A prepared set in the `array_record` format is looked for first; nothing is downloaded
unless asked. `parquet` is refused: TFDS 4.9.10 silently drops rows when it reads it.
"""

import contextlib
import hashlib
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tasks.data.cache import cache_dir, load_or_make, newest
from tasks.data.resize import area_average
from tasks.data.splits import ImageSet

READ_AT_ONCE = 1_000
DOWNLOAD_RETRIES = 2  # TFDS's own 10 keep an offline machine waiting for minutes


class DataUnavailableError(OSError):
    """A data set that cannot be read here, and what to do about it."""


def load_tfds_images(name: str, resolution: int, *, download: bool = False) -> ImageSet:
    """A TFDS image-classification set at ``resolution`` × ``resolution``, area-averaged.

    Args:
      name: as in `tfds.builder`: ``cifar10``, ``imagenet_resized/8x8``, ``mnist:3.0.1``.
      resolution: pixels a side.
      download: prepare the set if it is not there; official sets need the extra ``[tf]``.

    The resized arrays are cached, keyed by the set, its version, the resolution, and where
    its files are, how large and of when. Where the set is not prepared any more, or not on this
    machine, the cached arrays of it that are newest serve: they need neither files nor TFDS.

    Raises:
      DataUnavailableError: the set is not prepared and may not be or cannot be
        downloaded, is in another format, is damaged, or has no image and label.
    """
    base, _, version = name.partition(":")
    readable = re.sub(r"[^\w.-]+", "-", base)
    directory = find_prepared(name)
    if directory is None and (images := newest(_any_key(readable, version, resolution))):
        return images
    if directory is None and download:
        directory = _prepare(name)
    if directory is None:
        raise DataUnavailableError(
            f"the TFDS set {name!r} is not prepared under {str(data_dir())!r}; set TFDS_DATA_DIR "
            "to the folder that holds it, or allow the download (`download=True`; on the command "
            "line --config.download, or --download of the evaluation)"
        )
    key = f"{readable}-{directory.name}-{resolution}-{_fingerprint(directory)}"
    return load_or_make(key, lambda: _read(name, directory, resolution))


def data_dir() -> Path:
    """Where prepared sets are: ``TFDS_DATA_DIR``, or TFDS's own default."""
    return Path(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser()


def find_prepared(name: str) -> Path | None:
    """The folder of the newest prepared version of a set, or of the version named."""
    name, _, version = name.partition(":")
    parents = [data_dir() / name]
    if parents[0].is_dir():  # the first configuration serves where none is named
        parents += sorted(child for child in parents[0].iterdir() if child.is_dir())
    for parent in parents:
        found = [
            child.parent
            for child in parent.glob("*/dataset_info.json")
            if re.fullmatch(r"\d+\.\d+\.\d+", child.parent.name)
            and version in ("", child.parent.name)
        ]
        if found:
            return max(found, key=lambda path: tuple(map(int, path.name.split("."))))
    return None


def _any_key(readable: str, version: str, resolution: int) -> str:
    """The pattern of keys of a set, of any version where none is named, wherever its files were."""
    versions = re.escape(version) or r"\d+\.\d+\.\d+"
    return rf"{re.escape(readable)}-{versions}-{resolution}-[0-9a-f]{{12}}"


def _fingerprint(directory: Path) -> str:
    """Tells a prepared set from another of its name and version, and from itself re-made."""
    files = sorted((path.name, path.stat()) for path in directory.iterdir())
    listing = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in files]
    return hashlib.sha256(repr((str(directory.resolve()), listing)).encode()).hexdigest()[:12]


def _tfds(name: str) -> Any:
    """The module `tensorflow_datasets`.

    Raises:
      DataUnavailableError: it is not installed, or lacks something that it needs.
    """
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise DataUnavailableError(
            f"reading the TFDS set {name!r} needs TensorFlow Datasets ({error}); install it with "
            "`pip install tensorflow-datasets array_record importlib_resources`, bring the cached "
            f"arrays of a machine that has it to {str(cache_dir() / 'data')!r}, or choose a task "
            "whose data come with the package"
        ) from error
    return tfds


def _read(name: str, directory: Path, resolution: int) -> ImageSet:
    tfds = _tfds(name)
    logging.getLogger("absl").addFilter(_is_not_about_opencv)
    try:
        builder = tfds.builder_from_directory(directory)
        file_format = builder.info.file_format.value
        splits = {split: info.num_examples for split, info in builder.info.splits.items()}
    except Exception as error:
        raise _unreadable(name, directory, error) from error
    if file_format != "array_record":
        raise DataUnavailableError(
            f"the TFDS set {name!r} in {str(directory)!r} is in the format {file_format!r}; "
            "prepare it with `file_format='array_record'`"
        )
    features = builder.info.features
    keys = _image_and_label(tfds, features)
    if keys is None or not {"train"} <= set(splits):
        raise DataUnavailableError(
            f"the TFDS set {name!r} has no train split of images with one label each; "
            f"its features are {sorted(features)}, its splits {sorted(splits)}"
        )
    try:
        train = _read_split(builder, "train", keys, resolution)
        test = None
        for split in ("test", "validation"):
            if split in splits and test is None:
                test = _read_split(builder, split, keys, resolution)
                if (test[1] < 0).any():
                    test = None  # hidden labels
    except Exception as error:
        raise _unreadable(name, directory, error) from error
    return ImageSet(name, features[keys[1]].num_classes, train, test)


def _image_and_label(tfds: Any, features: Any) -> tuple[str, str] | None:
    images = [k for k in features if isinstance(features[k], tfds.features.Image)]
    labels = [k for k in features if isinstance(features[k], tfds.features.ClassLabel)]
    if not images or not labels:
        return None
    return (
        "image" if "image" in images else images[0],
        "label" if "label" in labels else labels[0],
    )


def _read_split(
    builder: Any, split: str, keys: tuple[str, str], resolution: int
) -> tuple[np.ndarray, np.ndarray]:
    source = builder.as_data_source(split=split)
    count = builder.info.splits[split].num_examples
    if len(source) != count:
        raise ValueError(f"split {split!r} holds {len(source)} examples, not {count}")
    pixels: list[np.ndarray] = []
    labels: list[int] = []
    for start in range(0, count, READ_AT_ONCE):
        records = source.__getitems__(range(start, min(start + READ_AT_ONCE, count)))
        images = [record[keys[0]] for record in records]
        alike = len({image.shape for image in images}) == 1
        for group in [np.stack(images)] if alike else [image[None] for image in images]:
            pixels.append(area_average(group, resolution))
        labels.extend(int(record[keys[1]]) for record in records)
    return np.concatenate(pixels), np.asarray(labels, np.int32)


def _prepare(name: str) -> Path | None:
    tfds = _tfds(name)
    try:
        with _few_retries():
            builder = tfds.builder(
                name, data_dir=data_dir(), file_format="array_record", try_gcs=False
            )
            builder.download_and_prepare()
    except ImportError as error:
        raise DataUnavailableError(
            f"preparing the TFDS set {name!r} needs TensorFlow ({error}); "
            "install it with `pip install 'learned-opt[tf]'`"
        ) from error
    except Exception as error:
        raise DataUnavailableError(
            f"the TFDS set {name!r} could not be downloaded and prepared: "
            f"{type(error).__name__}: {_first_line(error)}"
        ) from error
    return find_prepared(name)


@contextlib.contextmanager
def _few_retries() -> Iterator[None]:
    from tensorflow_datasets.core.download import downloader

    before = downloader.MAX_RETRIES
    downloader.MAX_RETRIES = DOWNLOAD_RETRIES
    try:
        yield
    finally:
        downloader.MAX_RETRIES = before


def _unreadable(name: str, directory: Path, error: Exception) -> DataUnavailableError:
    not_its_fault = isinstance(error, MemoryError | ImportError | PermissionError)
    way_out = "" if not_its_fault else "; remove the folder and prepare it again"
    return DataUnavailableError(
        f"the prepared TFDS set {name!r} in {str(directory)!r} cannot be read "
        f"({type(error).__name__}: {_first_line(error)}){way_out}"
    )


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")


def _is_not_about_opencv(record: logging.LogRecord) -> bool:
    return "OpenCV" not in record.getMessage()
