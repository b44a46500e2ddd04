"""Texts, their four splits, and what a model reads of them: bytes or words.

A text is bytes; each document of a set ends with a byte of zero. Splits are contiguous: the first
part of the training text trains, the next two parts validate; the test text is the set's own, or
else the last part. A cut is at the end of a document, or of a line where all is one document.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from tasks.data.splits import TEST_SHARE, VALIDATION_SHARE

END = 0  # the byte behind a document
WORDS = 1_000
UNKNOWN = 0  # the number of all words that are not in a vocabulary

_WORD = re.compile(r"\w+(?:'\w+)*|[^\w\s]")


class TextSet(NamedTuple):
    """A set of documents in memory: uint8 [n] each; ``test`` is None where the set has none."""

    name: str
    train: np.ndarray
    test: np.ndarray | None


def split_text(texts: TextSet) -> Mapping[str, np.ndarray]:
    """The four splits of `tasks.base.SPLITS`, uint8 [n]: together all bytes of the set.

    The test text is that of the set, or else the last 10 %; of what is before, the last 10 % are
    the outer validation, and the 10 % before them the inner one.
    """
    rest, test = texts.train, texts.test
    if test is None:
        rest, test = _cut(rest, [1 - TEST_SHARE])
    train, inner, outer = _cut(rest, [1 - 2 * VALIDATION_SHARE, 1 - VALIDATION_SHARE])
    return {"train": train, "inner_validation": inner, "outer_validation": outer, "test": test}


def _cut(text: np.ndarray, shares: Sequence[float]) -> list[np.ndarray]:
    """Parts of a text, each up to the first end at or behind a share of the whole."""
    ends = np.flatnonzero(text == END) + 1
    if len(ends) <= 1:
        ends = np.flatnonzero(text == ord("\n")) + 1
    places = np.searchsorted(ends, [round(share * len(text)) for share in shares])
    return np.split(text, np.append(ends, len(text))[places])


def encode_bytes(text: np.ndarray, alphabet: bytes | None = None) -> np.ndarray:
    """uint8 [n]: the bytes themselves, or their places in ``alphabet``.

    Raises:
      ValueError: a byte is not in the alphabet.
    """
    if alphabet is None:
        return text
    places = np.full(256, -1)
    places[list(alphabet)] = np.arange(len(alphabet))
    encoded = places[text]
    if (encoded < 0).any():
        strange = bytes(sorted(set(text[encoded < 0].tolist())))
        raise ValueError(f"`alphabet`={alphabet!r} lacks the bytes {strange!r} of the text")
    return encoded.astype(np.uint8)


def words(text: np.ndarray) -> list[str]:
    """Lower-cased words, with the apostrophes inside them, and marks, one by one; no spaces."""
    return _WORD.findall(text.tobytes().decode("utf-8", errors="replace").lower())


def vocabulary(train: Sequence[str], size: int = WORDS) -> Mapping[str, int]:
    """Numbers from 1 of the ``size`` most frequent words, the most frequent first.

    Of words of one frequency the first in the order of strings comes first.
    """
    ranked = sorted(Counter(train).items(), key=lambda entry: (-entry[1], entry[0]))
    return {word: rank for rank, (word, _) in enumerate(ranked[:size], start=1)}


def encode_words(read: Sequence[str], numbers: Mapping[str, int]) -> np.ndarray:
    """int16 [n]: the numbers of the words, `UNKNOWN` where they have none."""
    return np.asarray([numbers.get(word, UNKNOWN) for word in read], np.int16)


def split_words(texts: TextSet, size: int = WORDS) -> Mapping[str, np.ndarray]:
    """The four splits as words, int16 [n], by the vocabulary of the train split."""
    read = {split: words(text) for split, text in split_text(texts).items()}
    numbers = vocabulary(read["train"], size)
    return {split: encode_words(each, numbers) for split, each in read.items()}
