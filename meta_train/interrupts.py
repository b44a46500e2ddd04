"""Signals before and after the training loop: the process ends at once, and says so."""

import os
import signal
from types import FrameType


def end_at_once_on_signals(message: str) -> None:
    """On SIGINT and SIGTERM print ``message`` and end the process with 128 + the signal.

    Not by an exception: JAX's callbacks of the garbage collector can swallow one. Every
    file is written whole or not at all, so that there is nothing to tidy.
    """

    def end(number: int, frame: FrameType | None) -> None:
        del frame
        os.write(2, f"\nstopped by {signal.Signals(number).name}; {message}\n".encode())
        os._exit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
