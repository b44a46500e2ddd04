"""Where the processes of a run find each other, before JAX, which aborts where one is missing.

Process 0 listens; every other says who it is and what it is about to run. They go on when all
are there and run the same; else all end, with what is missing or differs.
"""

import errno
import os
import platform
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from checkpoints import differences
from meta_train.hosts.place import HostsError, Place
from meta_train.hosts.wire import Connection, Message

GREETING = 10.0  # seconds that a stranger may be silent
RETRY = 0.2
PATIENCE = 5.0  # seconds that process 0 has to say why it gave up
NAME = "learned-opt meeting 1"


def own_name() -> str:
    """What people at another host need to find this process."""
    return f"{platform.node()}, pid {os.getpid()}"


def call(place: Place, facts: Mapping[str, Any]) -> Message:
    """What a process says when it comes."""
    return {
        "meeting": NAME,
        "process": place.process,
        "count": place.processes,
        "name": own_name(),
        "facts": dict(facts),
    }


class Meeting:
    """Process 0's side. It greets whoever comes, also, to refuse them, once all are there."""

    def __init__(self, place: Place, facts: Mapping[str, Any]):
        """Listen.

        Raises:
          HostsError: the address is taken, or is none.
        """
        self._place, self._facts = place, dict(facts)
        self._changed = threading.Condition()
        self._there: dict[int, tuple[Connection, str]] = {}
        self._refused: str | None = None
        self._begun = False
        self._listener, self.bound = _listen(place)
        threading.Thread(target=self._greet_all, daemon=True, name="meeting").start()

    def wait(self, seconds: float) -> dict[int, tuple[Connection, str]]:
        """The connection and name of every other process, once all are there.

        Raises:
          HostsError: one does not come in time, or is about to run something else. Those
            that are there are told so.
        """
        deadline = time.monotonic() + seconds
        with self._changed:
            while self._still_missing() and self._refused is None:
                left = deadline - time.monotonic()
                if left <= 0:
                    self._refused = (
                        f"--coordinator={self._place.address}: {_named(self._missing())} of "
                        f"{self._place.processes} did not come in {seconds:g} s; start them with "
                        "the same --coordinator and --num_processes, or wait longer with "
                        "--join_timeout"
                    )
                    break
                self._changed.wait(left)
            if self._refused is not None:
                self._tell({"refused": self._refused})
                raise HostsError(self._refused)
            self._begun = True
            return dict(self._there)

    def close(self) -> None:
        """Greet nobody any more."""
        self._listener.close()

    def _missing(self) -> list[int]:
        return [p for p in range(1, self._place.processes) if p not in self._there]

    def _still_missing(self) -> list[int]:
        """Those that did not come, or came and left."""
        self._there = {p: c for p, c in self._there.items() if c[0].is_open()}
        return self._missing()

    def _tell(self, message: Message) -> None:
        for connection, _ in self._there.values():
            with suppress(OSError):  # it has left; whoever waits for it finds out
                connection.send(message)

    def _greet_all(self) -> None:
        while True:
            try:
                line, _ = self._listener.accept()
            except OSError:
                return  # closed
            threading.Thread(target=self._greet, args=(Connection(line),), daemon=True).start()

    def _greet(self, connection: Connection) -> None:
        connection.wait_at_most(GREETING)
        try:
            hello = connection.receive()
            if hello.get("meeting") != NAME:
                raise ValueError("a stranger")
            with self._changed:
                reason = self._refuse(hello)
                if reason is None:
                    self._there[hello["process"]] = (connection, hello["name"])
                    self._tell({"missing": self._missing()})
                    self._changed.notify_all()
                    return
            connection.send({"refused": reason})
        except (OSError, ValueError, KeyError, TypeError):
            pass  # a stranger: a scan of ports, say
        connection.close()

    def _refuse(self, hello: Message) -> str | None:
        """Why not, if so; a process that is about to run something else ends the meeting."""
        process, count = hello["process"], hello["count"]
        at = f"--coordinator={self._place.address}"
        if process in self._there or process == 0:
            connection, name = self._there.get(process, (None, own_name()))
            if connection is None or self._begun or connection.is_open():
                return f"{at}: --process_id={process} is taken by {name}; give each its own"
        if count != self._place.processes:
            differing = [
                f"--num_processes is {self._place.processes} in process 0 and {count} in {process}"
            ]
        else:
            differing = [
                text.replace(" there ", " in process 0 ").replace(" here", f" in {process}")
                for text in differences(self._facts, hello["facts"])
            ]
        if not differing:
            return None
        reason = (
            f"{at}: the processes are about to run different things: {'; '.join(differing)}; give "
            "all the same, or --num_processes=1 for runs of their own"
        )
        if not self._begun:
            self._refused = reason
            self._changed.notify_all()
        return reason


def come(
    place: Place, facts: Mapping[str, Any], seconds: float, say: Callable[[str], None]
) -> tuple[Connection, Message]:
    """The line to process 0, and what it says once all are there: of the others' side.

    Raises:
      HostsError: process 0 or others do not come in time, or it refuses.
    """
    deadline = time.monotonic() + seconds
    at = f"--coordinator={place.address}"
    reason, told = "", False
    while (left := deadline - time.monotonic()) > 0:
        try:
            line = socket.create_connection((place.host, place.port), timeout=left)
        except OSError as error:
            reason = error.strerror or str(error)
            if not told:
                say(f"waiting for process 0 at {place.address} ({reason})")
            told = True
            time.sleep(min(RETRY, left))
            continue
        connection = Connection(line)
        answer = _ask(connection, place, facts, deadline)
        if "begin" in answer:
            return connection, answer
        connection.close()
        if "refused" in answer:
            raise HostsError(answer["refused"])
        reason = answer["reason"]
        time.sleep(min(RETRY, left))
    raise HostsError(
        f"{at}: no process 0 and all others there in {seconds:g} s ({reason}); start every "
        "process, --process_id=0 on that host, or wait longer with --join_timeout"
    )


def _ask(
    connection: Connection, place: Place, facts: Mapping[str, Any], deadline: float
) -> Message:
    """Say hello and wait for the answer; a ``reason`` where there is none."""
    missing: list[int] = []
    try:
        connection.wait_at_most(GREETING)
        connection.send(call(place, facts))
        while True:
            connection.wait_at_most(deadline - time.monotonic() + PATIENCE)
            answer = connection.receive()
            if "begin" in answer or "refused" in answer:
                return answer
            missing = answer["missing"]
    except TimeoutError:
        return {"reason": f"{_named(missing)} did not come" if missing else "it does not answer"}
    except OSError as error:
        return {"reason": error.strerror or str(error)}
    except (ValueError, KeyError):
        return {
            "refused": f"--coordinator={place.address}: what listens there is no process of this "
            "kind; choose another port"
        }


def _listen(place: Place) -> tuple[socket.socket, str]:
    """A listener at the place, or at all addresses where its host is another name of this one."""
    at = f"--coordinator={place.address}"
    try:
        family, _, _, _, address = socket.getaddrinfo(
            place.host, place.port, type=socket.SOCK_STREAM
        )[0]
    except OSError as error:
        raise HostsError(f"{at}: there is no such host ({error.strerror})") from None
    for host in (str(address[0]), ""):
        try:
            listener = socket.create_server((host, place.port), family=family)
            return listener, host or ("::" if family == socket.AF_INET6 else "0.0.0.0")
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL and host:
                continue  # an address that is translated on its way here
            reason = os.strerror(error.errno or 0)
            raise HostsError(
                f"{at}: process 0 cannot listen there ({reason}); choose another port, or end what "
                "has it"
            ) from None
    raise AssertionError("one of the addresses is tried")


def _named(processes: list[int]) -> str:
    return f"--process_id {', '.join(map(str, processes))}"
