"""Tasks on text by name: ``DATASET_bytesL_MODEL`` and ``DATASET_wordsL_MODEL``.

L tokens are predicted of each sequence; MODEL is one of `tasks.text.architectures`.
"""

import re
from collections.abc import Callable
from functools import partial

from tasks.architectures import ModelName, forms
from tasks.base import TaskFamily
from tasks.catalogue import Grammar
from tasks.text.architectures import architectures, parse_model
from tasks.text.families import BATCH_SIZE, text_family
from tasks.text.sources import KNOWN, UNITS, TextSource, listed_source, text_source

_NAME = re.compile(
    rf"(?P<dataset>.+)_(?P<unit>{'|'.join(UNITS)})(?P<length>[1-9]\d*)_(?P<model>[a-z]\w*)"
)
LONGEST = 1024


def listed_text_family(name: str) -> TaskFamily:
    """The family of a set that is embedded or known: no data are read before its ``load``."""
    family = _named(name, listed_source, BATCH_SIZE)
    if family is None:
        raise ValueError(f"{name!r} is no DATASET_bytesL_MODEL or DATASET_wordsL_MODEL")
    return family


def set_of_texts(name: str) -> str | None:
    """The set in the name of a task, embedded or of TFDS; None where it is no such name."""
    parts = _parts(name)
    return parts and KNOWN.get(parts[0], parts[0])


def _family(name: str, download: bool, batch_size: int | None) -> TaskFamily | None:
    source = partial(text_source, download=download)
    return _named(name, source, BATCH_SIZE if batch_size is None else batch_size)


def _named(name: str, source: Callable[[str], TextSource], batch_size: int) -> TaskFamily | None:
    parts = _parts(name)
    if parts is None:
        return None
    dataset, unit, length, model = parts
    return text_family(name, source(dataset), unit, length, model, batch_size=batch_size)


def _parts(name: str) -> tuple[str, str, int, ModelName] | None:
    match = _NAME.fullmatch(name)
    model = match and parse_model(match["model"])
    if not match or not model or int(match["length"]) > LONGEST:
        return None
    return match["dataset"], match["unit"], int(match["length"]), model


def _form() -> str:
    return (
        "any TFDS set of texts goes by DATASET_bytesL_MODEL or DATASET_wordsL_MODEL, L the length "
        f"of a sequence, a MODEL like {forms(architectures())}"
    )


GRAMMAR = Grammar(_form, _family)
