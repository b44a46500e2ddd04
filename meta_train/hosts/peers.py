"""The company that the processes of a run keep: what each says to all, and who is gone.

All lines lead to process 0. A process that dies ends its line, and one that hangs is silent for
too long: then the others end at once, for they may be waiting for it inside of a collective.
"""

import os
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple, Protocol

from checkpoints.command_line import say
from meta_train.hosts.place import HostsError
from meta_train.hosts.wire import Connection, Message

END = "end"
"""The topic of the last gathering: from then on processes may leave."""

LOST = 75
"""Status of a process that ends because another did: try again, in the terms of sysexits.h."""

BEATS = 6  # signs of life in the time after which a process is given up


class Peers(NamedTuple):
    """``gather(topic, value)``: what each of ``processes`` has to say, in their order.

    All must gather the same topics, in the same order. Values are JSON.
    """

    process: int
    processes: int
    gather: Callable[[str, Any], list[Any]]

    @property
    def first(self) -> bool:
        """Whether this is the process that writes logs and speaks to people."""
        return self.process == 0

    def say(self, message: str) -> None:
        """Tell people, once."""
        if self.first:
            say(message)

    def check_alike(self, what: str, value: Any, way_out: str) -> None:
        """Raise HostsError unless all processes have the same value."""
        values = self.gather(what, value)
        for process, theirs in enumerate(values):
            if theirs != values[0]:
                raise HostsError(
                    f"{what} is {values[0]!r} in process 0 and {theirs!r} in process {process}; "
                    f"{way_out}"
                )


ALONE = Peers(0, 1, lambda topic, value: [value])
"""The company of a run in one process."""


class Company(Protocol):
    """What a process holds to keep company; see `Peers.gather`."""

    def gather(self, topic: str, value: Any) -> list[Any]:
        """See `Peers`."""

    def fail(self, reason: str) -> None:
        """Tell the others that this process ends, and why."""


def end_process(message: str) -> None:
    """End this process here and now: its main thread may wait in a collective for ever."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.write(2, f"\nerror: {message}\n".encode())
    os._exit(LOST)


class _Gatherings:
    """Values by the number of the gathering; one thread waits for what others bring."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._results: dict[int, list[Any]] = {}

    def bring(self, number: int, values: list[Any]) -> None:
        with self._changed:
            self._results[number] = values
            self._changed.notify_all()

    def wait(self, number: int) -> list[Any]:
        with self._changed:
            while number not in self._results:
                self._changed.wait()
            return self._results.pop(number)


def _watch(
    connection: Connection,
    patience: float,
    take: Callable[[Message], None],
    lost: Callable[[str], None],
) -> None:
    """Receive in a thread for good; say so when the other end is gone or silent."""

    def receive() -> None:
        try:
            while True:
                message = connection.receive()
                if "beat" not in message:
                    take(message)
        except TimeoutError:
            lost(f"it was silent for {patience:g} s")
        except ConnectionError as error:
            lost(error.strerror or str(error))
        except (OSError, ValueError, KeyError) as error:
            lost(f"its line failed: {error}")

    connection.wait_at_most(patience)
    threading.Thread(target=receive, daemon=True, name="peer").start()


def _beat(connections: list[Connection], patience: float) -> None:
    """Give signs of life in a thread, for good."""

    def beat() -> None:
        pause = threading.Event()
        while not pause.wait(patience / BEATS):
            for connection in connections:
                with suppress(OSError):  # who receives from it finds out
                    connection.send({"beat": 1})

    threading.Thread(target=beat, daemon=True, name="beat").start()


class Host:
    """Of process 0: it collects what all say, and tells all what came together."""

    def __init__(
        self,
        others: Mapping[int, tuple[Connection, str]],
        patience: float,
        end: Callable[[str], None] = end_process,
    ):
        self._others, self._end = dict(others), end
        self._lock = threading.RLock()
        self._said: dict[int, dict[int, tuple[str, Any]]] = {}
        self._gatherings = _Gatherings()
        self._number = 0
        self._over = False
        for process, (connection, _) in self._others.items():
            _watch(connection, patience, self._taker(process), self._loser(process))
        _beat([connection for connection, _ in self._others.values()], patience)

    def gather(self, topic: str, value: Any) -> list[Any]:
        """See `Peers`."""
        self._number += 1
        self._add(0, self._number, topic, value)
        return self._gatherings.wait(self._number)

    def fail(self, reason: str) -> None:
        """See `Company`."""
        self._finish(f"process 0 ended: {reason}")

    def _finish(self, message: str) -> bool:
        with self._lock:
            if self._over:
                return False
            self._over = True
            self._tell({"end": message})
            return True

    def _tell(self, message: Message) -> None:
        for connection, _ in self._others.values():
            with suppress(OSError):  # gone already
                connection.send(message)

    def _taker(self, process: int) -> Callable[[Message], None]:
        def take(message: Message) -> None:
            if "failed" in message:
                self._end_all(f"process {process} ended: {message['failed']}")
            else:
                self._add(process, message["gather"], message["topic"], message["value"])

        return take

    def _loser(self, process: int) -> Callable[[str], None]:
        def lost(how: str) -> None:
            name = self._others[process][1]
            self._end_all(
                f"process {process} ({name}) is gone: {how}; all processes end, and the same "
                "commands go on from the last checkpoint"
            )

        return lost

    def _end_all(self, message: str) -> None:
        if self._finish(message):
            self._end(message)

    def _add(self, process: int, number: int, topic: str, value: Any) -> None:
        with self._lock:
            said = self._said.setdefault(number, {})
            said[process] = (topic, value)
            if len(said) <= len(self._others):
                return
            del self._said[number]
            for other, (theirs, _) in said.items():
                if theirs != said[0][0]:
                    self._end_all(
                        f"process 0 is at {said[0][0]!r} and process {other} at {theirs!r}; they "
                        "do not run the same program"
                    )
            values = [said[p][1] for p in sorted(said)]
            self._over = self._over or topic == END
            self._tell({"gathered": number, "values": values, "last": topic == END})
            self._gatherings.bring(number, values)


class Guest:
    """Of the other processes: all that they hear comes from process 0."""

    def __init__(
        self,
        process: int,
        connection: Connection,
        name: str,
        patience: float,
        end: Callable[[str], None] = end_process,
    ):
        self._process, self._connection, self._name, self._end = process, connection, name, end
        self._gatherings = _Gatherings()
        self._number = 0
        self._over = False
        _watch(connection, patience, self._take, self._lost)
        _beat([connection], patience)

    def gather(self, topic: str, value: Any) -> list[Any]:
        """See `Peers`."""
        self._number += 1
        with suppress(OSError):  # who receives from it finds out
            self._connection.send({"gather": self._number, "topic": topic, "value": value})
        return self._gatherings.wait(self._number)

    def fail(self, reason: str) -> None:
        """See `Company`."""
        self._over = True
        with suppress(OSError):  # nobody is left to be told
            self._connection.send({"failed": reason})

    def _take(self, message: Message) -> None:
        if "end" in message:
            if not self._over:
                self._over = True
                self._end(message["end"])
        else:
            self._over = self._over or message["last"]  # before process 0 ends its line
            self._gatherings.bring(message["gathered"], message["values"])

    def _lost(self, how: str) -> None:
        if not self._over:
            self._over = True
            self._end(
                f"process 0 ({self._name}) is gone: {how}; all processes end, and the same "
                "commands go on from the last checkpoint"
            )
