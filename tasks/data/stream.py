"""Sets larger than memory: a pool of training images at a time, in an order of its own every epoch.

    pool r = places r n … (r + 1) n − 1 of  π₀, π₁, π₂, …,    π_e a permutation by (seed, e)

of the rows of the train split, epoch after epoch. It is a function of (set, seed, n, r), so that
a run that knows its update knows its pool, and nothing else has to be saved. The splits are those
of the set in memory; what is held out is cut to `SAMPLE` rows, and mean and standard deviation are
those of so many rows of the train split.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np

from tasks.data.prepared import prepared_folder
from tasks.data.prepared_images import Examples, PreparedImages, open_images
from tasks.data.splits import moments_of, split_rows

SAMPLE = 5_000
READERS = 4  # threads; decoding an image leaves the interpreter to the others
READ_BY_ONE = 250


class StreamError(ValueError):
    """A task that cannot be streamed so: why, and the way out."""


class StreamedImages:
    """A prepared set at a resolution, ``rows`` training images at a time, shuffled by ``seed``."""

    def __init__(self, prepared: PreparedImages, resolution: int, rows: int, seed: int):
        """Raises:
        StreamError: there are not so many rows.
        DataUnavailableError: the set cannot be read.
        """
        self.prepared, self._resolution = prepared, resolution
        self._rows, self._seed = rows, seed
        self._tested = self._test_split()
        tests = None if self._tested is None else prepared.counts[self._tested]
        self._split = split_rows(prepared.counts["train"], tests)
        self._train = self._split["train"][1]
        if not 1 <= rows <= len(self._train):
            raise StreamError(
                f"a pool of {rows} images: there are {len(self._train)} to train on in the set "
                f"{prepared.name!r}; ask for fewer, or stream not, as they fit"
            )
        self._moments = moments_of(self._examples("train", self._train[:SAMPLE])[0])

    def pool(self, refresh: int) -> Mapping[str, np.ndarray]:
        """The train split of this refresh: as `split_images` gives it, with ``rows`` images."""
        places = np.arange(refresh * self._rows, (refresh + 1) * self._rows)
        epochs, within = np.divmod(places, len(self._train))
        chosen = []
        for epoch in np.unique(epochs):
            order = self._train[_shuffled(self._seed, int(epoch), len(self._train))]
            chosen.append(order[within[epochs == epoch]])
        return self._arrays("train", np.concatenate(chosen))

    def splits(self) -> Mapping[str, Mapping[str, np.ndarray]]:
        """The four splits: the first pool, and what is held out."""
        held_out = {
            name: self._arrays(part, rows[:SAMPLE])
            for name, (part, rows) in self._split.items()
            if name != "train"
        }
        return {"train": self.pool(0), **held_out}

    def _test_split(self) -> str | None:
        """The first held-out split with labels that are not hidden, of a sample."""
        for split in self.prepared.held_out:
            first = range(min(READ_BY_ONE, self.prepared.counts[split]))
            if (self.prepared.read(split, first, self._resolution)[1] >= 0).all():
                return split
        return None

    def _arrays(self, part: str, rows: np.ndarray) -> Mapping[str, np.ndarray]:
        split = "train" if part == "train" else self._tested
        assert split is not None
        image, label = self._examples(split, rows)
        return {"image": image, "label": label, **self._moments}

    def _examples(self, split: str, rows: np.ndarray) -> Examples:
        def read(start: int) -> Examples:
            return self.prepared.read(split, rows[start : start + READ_BY_ONE], self._resolution)

        with ThreadPoolExecutor(READERS) as threads:
            parts = list(threads.map(read, range(0, len(rows), READ_BY_ONE)))
        images, labels = zip(*parts, strict=True)
        return np.concatenate(images), np.concatenate(labels)


def open_stream(
    name: str, resolution: int, *, rows: int, seed: int, download: bool = False
) -> StreamedImages:
    """A prepared set, opened to be streamed.

    Raises:
      StreamError: there are not so many rows.
      DataUnavailableError: the set is not prepared here, and is not downloaded or cannot be, or
        it cannot be read.
    """
    prepared = open_images(name, prepared_folder(name, download=download))
    return StreamedImages(prepared, resolution, rows, seed)


@lru_cache(maxsize=4)
def _shuffled(seed: int, epoch: int, size: int) -> np.ndarray:
    """A permutation: from the bits of the generator, which NumPy promises to keep."""
    bits = np.random.PCG64(np.random.SeedSequence((seed, epoch))).random_raw(size)
    return np.argsort(bits, kind="stable")
