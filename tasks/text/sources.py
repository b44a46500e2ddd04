"""Where texts come from, and in what a model reads them: bytes or words."""

from collections.abc import Callable, Mapping
from functools import cache, lru_cache, partial
from typing import NamedTuple

import numpy as np

from tasks.base import Arrays
from tasks.data.embedded import load_shakespeare
from tasks.data.text import WORDS, TextSet, encode_bytes, split_text, split_words
from tasks.data.tfds_text import load_tfds_text

SHAKESPEARE_ALPHABET = (
    b"\n !\"&'(),-.12345678:;?ABCDEFGHIJKLMNOPQRSTUVWXYZ[]abcdefghijklmnopqrstuvwxyz{"
)


class TextSource(NamedTuple):
    """Texts; ``read()`` brings them. ``alphabet``: their bytes, None for all 256."""

    name: str
    alphabet: bytes | None
    read: Callable[[], TextSet]


class Unit(NamedTuple):
    """What a token is: ``vocabulary(source)`` says how many there are of the set,
    ``split(source)`` reads the set and returns the tokens of the four splits, [n].
    """

    vocabulary: Callable[[TextSource], int]
    split: Callable[[TextSource], Mapping[str, np.ndarray]]


def _split_bytes(source: TextSource) -> Mapping[str, np.ndarray]:
    splits = split_text(source.read())
    return {split: encode_bytes(text, source.alphabet) for split, text in splits.items()}


UNITS: Mapping[str, Unit] = {
    "bytes": Unit(lambda source: len(source.alphabet or range(256)), _split_bytes),
    "words": Unit(lambda source: WORDS + 1, lambda source: split_words(source.read())),
}

KNOWN: Mapping[str, str] = {
    "imdb_reviews": "imdb_reviews",
    "ag_news_subset": "ag_news_subset",
    "lm1b": "lm1b",
    "wiki40b_en": "wiki40b/en",
    "wiki40b_de": "wiki40b/de",
    "tiny_shakespeare": "tiny_shakespeare",
}
"""TFDS sets whose tasks can be listed where they are not prepared: their names there."""

EMBEDDED: Mapping[str, TextSource] = {
    "shakespeare": TextSource("shakespeare", SHAKESPEARE_ALPHABET, load_shakespeare),
}
"""Sets that come with the package."""


@lru_cache(maxsize=4)
def token_splits(source: TextSource, unit: str) -> Mapping[str, Arrays]:
    """{split: {"tokens": [n]}} of a source, kept for the tasks that read the same."""
    return {split: {"tokens": tokens} for split, tokens in UNITS[unit].split(source).items()}


def text_source(name: str, *, download: bool = False) -> TextSource:
    """The embedded set of this name, or else the TFDS set, read.

    Raises:
      DataUnavailableError: the TFDS set cannot be read here.
    """
    if embedded := EMBEDDED.get(name):
        return embedded
    texts = load_tfds_text(KNOWN.get(name, name), download=download)
    return TextSource(name, None, lambda: texts)


@cache
def listed_source(name: str) -> TextSource:
    """The same without reading a set that is in `KNOWN`."""
    return EMBEDDED.get(name) or TextSource(name, None, partial(load_tfds_text, KNOWN[name]))
