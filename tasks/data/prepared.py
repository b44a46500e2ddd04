"""Sets of TensorFlow Datasets: found where they are prepared, opened without TensorFlow, cached.

A prepared set in the `array_record` format is looked for first; nothing is downloaded
unless asked. `parquet` is refused: TFDS 4.9.10 silently drops rows when it reads it.
"""

import contextlib
import hashlib
import logging
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from tasks.data.cache import FileFormat, cache_dir, load_or_make, newest

INFO = "dataset_info.json"
DOWNLOAD_RETRIES = 2  # TFDS's own 10 keep an offline machine waiting for minutes

Read = TypeVar("Read")


class DataUnavailableError(OSError):
    """A data set that cannot be read here, and what to do about it."""


def load_prepared(
    name: str,
    content: str,
    read: Callable[[Path, str], Read],
    file_format: FileFormat[Read],
    *,
    download: bool = False,
) -> Read:
    """What ``read(directory, key)`` makes of a TFDS set, read once and cached under the key.

    Args:
      name: as in `tfds.builder`: ``cifar10``, ``imagenet_resized/8x8``, ``mnist:3.0.1``.
      content: what is read of the set, in letters, digits and dots: tells cached arrays apart.
      read: reads the set from the folder that it is prepared in.
      file_format: of the cached arrays.
      download: prepare the set if it is not there; official sets need the extra ``[tf]``.

    The arrays are cached, keyed by the set, its version, the content, and where its files are, how
    large and of when. Where the set is not prepared any more, or not on this machine, the cached
    arrays of it that are newest serve: they need neither files nor TFDS.

    Raises:
      DataUnavailableError: the set is not prepared and may not be or cannot be downloaded, or
        ``read`` refuses it.
    """
    base, _, version = name.partition(":")
    directory = find_prepared(name)
    if (
        directory is None
        and (cached := newest(_any_key(base, version, content), file_format)) is not None
    ):
        return cached
    folder = directory or prepared_folder(name, download=download)
    key = cache_key(name, folder, content)
    return load_or_make(key, lambda: read(folder, key), file_format)


def prepared_folder(name: str, *, download: bool) -> Path:
    """The folder of a prepared set, prepared now where it is not and may be.

    Raises:
      DataUnavailableError: it is not there, and may not be or cannot be downloaded.
    """
    directory = find_prepared(name)
    if directory is None and (unfinished := _unfinished(name)):
        raise DataUnavailableError(
            f"the TFDS set {name!r} in {str(unfinished)!r} has no {INFO}, and cannot be read: it "
            "was not prepared to its end, or has lost a file; remove the folder and prepare it "
            "again"
        )
    if directory is None and download:
        directory = _prepare(name)
    if directory is None:
        raise DataUnavailableError(
            f"the TFDS set {name!r} is not prepared under {str(data_dir())!r}; set TFDS_DATA_DIR "
            f"to the folder that holds it, prepare it by `python -m tasks prepare {name}`, or "
            "allow the download (`download=True`; on the command line --config.download, or "
            "--download of the evaluation)"
        )
    return directory


def data_dir() -> Path:
    """Where prepared sets are: ``TFDS_DATA_DIR``, or TFDS's own default."""
    return Path(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser()


def find_prepared(name: str) -> Path | None:
    """The folder of the newest prepared version of a set, or of the version named."""
    for found in _versions(name):
        if complete := [folder for folder in found if (folder / INFO).exists()]:
            return complete[-1]
    return None


def _unfinished(name: str) -> Path | None:
    """The folder of a version that has records, and is not prepared all the same."""
    for found in _versions(name):
        if started := [folder for folder in found if any(folder.glob("*.array_record*"))]:
            return started[-1]
    return None


def _versions(name: str) -> Iterator[list[Path]]:
    """The folders of versions of a set, the newest last: of each of its configurations."""
    name, _, version = name.partition(":")
    parents = [data_dir() / name]
    if parents[0].is_dir():  # the first configuration serves where none is named
        parents += sorted(child for child in parents[0].iterdir() if child.is_dir())
    for parent in parents:
        found = [
            child
            for child in parent.glob("*")
            if re.fullmatch(r"\d+\.\d+\.\d+", child.name) and version in ("", child.name)
        ]
        yield sorted(found, key=lambda path: tuple(map(int, path.name.split("."))))


def cache_key(name: str, directory: Path, content: str) -> str:
    """The key of what is cached of a prepared set."""
    readable = _readable(name.partition(":")[0])
    return f"{readable}-{directory.name}-{content}-{_fingerprint(directory)}"


def _any_key(base: str, version: str, content: str) -> str:
    """The pattern of keys of a set, of any version where none is named, wherever its files were."""
    versions = re.escape(version) or r"\d+\.\d+\.\d+"
    return rf"{re.escape(_readable(base))}-{versions}-{re.escape(content)}-[0-9a-f]{{12}}"


def _readable(base: str) -> str:
    return re.sub(r"[^\w.-]+", "-", base)


def _fingerprint(directory: Path) -> str:
    """Tells a prepared set from another of its name and version, and from itself re-made."""
    files = sorted((path.name, path.stat()) for path in directory.iterdir())
    listing = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in files]
    return hashlib.sha256(repr((str(directory.resolve()), listing)).encode()).hexdigest()[:12]


def tensorflow_datasets(name: str) -> Any:
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


def open_prepared(name: str, directory: Path) -> Any:
    """The `tfds` builder of a prepared set.

    Raises:
      DataUnavailableError: TFDS is not installed, the set is damaged, or in another format.
    """
    tfds = tensorflow_datasets(name)
    logging.getLogger("absl").addFilter(_is_not_about_opencv)
    with told_if_unreadable(name, directory):
        builder = tfds.builder_from_directory(directory)
        file_format = builder.info.file_format.value
    if file_format != "array_record":
        raise DataUnavailableError(
            f"the TFDS set {name!r} in {str(directory)!r} is in the format {file_format!r}; "
            "prepare it with `file_format='array_record'`"
        )
    return builder


def open_split(builder: Any, split: str) -> tuple[Any, int]:
    """The records of a split by number, and how many there are.

    Raises:
      ValueError: it holds another number of examples than it says.
    """
    source = builder.as_data_source(split=split)
    count = builder.info.splits[split].num_examples
    if len(source) != count:
        raise ValueError(f"split {split!r} holds {len(source)} examples, not {count}")
    return source, count


@contextlib.contextmanager
def told_if_unreadable(name: str, directory: Path) -> Iterator[None]:
    """Whatever fails inside is a `DataUnavailableError` of this set."""
    try:
        yield
    except Exception as error:
        raise _unreadable(name, directory, error) from error


def _prepare(name: str) -> Path | None:
    tfds = tensorflow_datasets(name)
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
