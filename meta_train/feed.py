"""The data of a run as it goes on: streamed ones change every so many updates.

    refresh r of update k:  r = ⌊k / stream_every⌋

The update that a checkpoint holds is the position in the data too. The next pool is read and put
on the devices by a thread, while updates are made with the one before. Shapes stay, so that no
program is compiled again. Every process of several reads the same by itself.
"""

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

from meta_train.assemble import Run, streamed
from meta_train.parallel import placed, replicated

TRAIN = "train"


class Feed(AbstractContextManager):
    """Hands out the data of a run for its updates, in their order."""

    def __init__(self, run: Run):
        self._run, self._data = run, run.data
        self._every = run.config.stream_every if streamed(run) else 0
        self._refresh = 0  # of the data at hand
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="feed")
        self._ahead: tuple[int, Future] | None = None

    def __exit__(self, *error: object) -> None:
        """Wait for what is being read, and read no more."""
        self._reader.shutdown(cancel_futures=True)

    def updates(self, step: int, most: int) -> int:
        """How many of ``most`` updates after ``step`` have the same data."""
        return min(most, self._every - step % self._every) if self._every else most

    def at(self, step: int) -> Any:
        """The data of the update after ``step``, as ``run.data``.

        Raises:
          DataUnavailableError: they cannot be read any more.
        """
        if not self._every:
            return self._data
        refresh = step // self._every
        if refresh != self._refresh:
            if self._ahead is None or self._ahead[0] != refresh:
                self._read_ahead(refresh)
            assert self._ahead is not None
            self._data, self._refresh = self._ahead[1].result(), refresh
        if self._ahead is None or self._ahead[0] <= refresh:
            self._read_ahead(refresh + 1)
        return self._data

    def _read_ahead(self, refresh: int) -> None:
        """Begin to read, unless no update is left that would see it."""
        if refresh * self._every < self._run.config.updates:
            self._ahead = refresh, self._reader.submit(self._read, refresh)

    def _read(self, refresh: int) -> Any:
        whole = replicated(self._run.mesh)
        pools = {
            family.name: placed(dict(family.pool(refresh)), whole)
            for family in streamed(self._run)
            if family.pool is not None
        }
        if len(self._run.families) == 1:
            return {**self._run.data, TRAIN: pools[self._run.family.name]}
        return {
            name: {**data, TRAIN: pools[name]} if name in pools else data
            for name, data in self._run.data.items()
        }
