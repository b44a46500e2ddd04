"""Messages between processes: JSON objects, one a line, over TCP."""

import json
import select
import socket
import threading
from contextlib import suppress
from typing import Any

LONGEST = 1 << 22  # bytes of a message
Message = dict[str, Any]


class Connection:
    """One end of a line. Several threads may send; one receives."""

    def __init__(self, line: socket.socket):
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = line
        self._sending = threading.Lock()
        self._received = b""

    def wait_at_most(self, seconds: float) -> None:
        """Bound every wait from now on."""
        self._socket.settimeout(max(seconds, 0.001))

    def send(self, message: Message) -> None:
        """Raises OSError where nobody takes it."""
        with self._sending:
            self._socket.sendall(json.dumps(message).encode() + b"\n")

    def receive(self) -> Message:
        """The next message.

        Raises:
          TimeoutError: none came in time.
          OSError: the other end is gone.
          ValueError: what came is not a message.
        """
        while b"\n" not in self._received:
            if len(self._received) > LONGEST:
                raise ValueError("a message without an end")
            more = self._socket.recv(1 << 16)
            if not more:
                raise ConnectionError("its connection ended")
            self._received += more
        line, _, self._received = self._received.partition(b"\n")
        message = json.loads(line)
        if not isinstance(message, dict):
            raise ValueError("not a message")
        return message

    def is_open(self) -> bool:
        """Whether the other end is there, as far as can be told without waiting."""
        waiting = select.poll()
        waiting.register(self._socket, select.POLLIN)
        try:
            return not waiting.poll(0) or bool(self._socket.recv(1, socket.MSG_PEEK))
        except OSError:
            return False

    def close(self) -> None:
        """End the line; whoever waits at it is woken."""
        with suppress(OSError):  # the other end was quicker
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
