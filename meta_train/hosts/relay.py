"""A way to JAX's coordination service that stays open when the service is gone.

JAX's client aborts its process, with a trace of C++, when its connection ends. What it connects
to is therefore in its own process; that process 0 is gone is for `peers.py` to find and to say.
"""

import socket
import threading


def relay_to(host: str, port: int) -> int:
    """Forward connections to a port of this process, which is returned, to ``host``:``port``."""
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while True:
            near, _ = listener.accept()
            try:
                far = socket.create_connection((host, port), timeout=10)
            except OSError:
                _KEPT.append(near)
                continue
            far.settimeout(None)
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=_pump, args=(source, target), daemon=True).start()

    threading.Thread(target=accept, daemon=True, name="relay").start()
    return listener.getsockname()[1]


_KEPT: list[socket.socket] = []
"""Ends of lines whose other end is gone: closed, they would be noticed."""


def _pump(source: socket.socket, target: socket.socket) -> None:
    for line in (source, target):
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        while data := source.recv(1 << 16):
            target.sendall(data)
    except OSError:
        pass
    _KEPT.extend((source, target))
