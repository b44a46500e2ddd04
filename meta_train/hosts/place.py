"""Which process of how many this is, and where they meet."""

import os
from collections.abc import Mapping
from typing import NamedTuple

from meta_train.config import ConfigError
from meta_train.hosts.detect import Detected, detect


class HostsError(RuntimeError):
    """The processes of a run do not come, or do not stay, together; and the way out."""


class Place(NamedTuple):
    """``process`` of ``processes``; process 0 listens at ``host``:``port``, and all come there."""

    process: int
    processes: int
    host: str
    port: int

    @property
    def address(self) -> str:
        """As ``--coordinator`` has it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


ALONE_HERE = Place(0, 1, "", 0)


def find_place(
    coordinator: str | None,
    process_id: int | None,
    num_processes: int | None,
    environment: Mapping[str, str] = os.environ,
) -> Place:
    """The place that the flags give; what they leave open is taken from the launcher, if any.

    ``--num_processes=1`` is a run of one process under any launcher.

    Raises:
      ConfigError: the flags do not go together, or say too little.
    """
    if num_processes is not None and num_processes < 1:
        raise ConfigError(f"--num_processes={num_processes}: must be at least 1")
    if num_processes == 1:
        if process_id:
            raise ConfigError(f"--process_id={process_id}: --num_processes=1 has only process 0")
        return ALONE_HERE
    asked = [value is not None for value in (coordinator, process_id, num_processes)]
    found = Detected(None, None, None) if all(asked) else detect(environment)
    if not any(asked) and (found.processes is None or found.processes == 1):
        return ALONE_HERE
    count = found.processes if num_processes is None else num_processes
    process = found.process if process_id is None else process_id
    address = coordinator or found.coordinator
    missing = [
        flag
        for flag, value in (
            ("--coordinator", address), ("--process_id", process), ("--num_processes", count)
        )
        if value is None
    ]  # fmt: skip
    if missing or address is None or process is None or count is None:
        raise ConfigError(
            f"{', '.join(missing)} missing: a run of several processes needs --coordinator=HOST:"
            "PORT, --process_id and --num_processes, where no launcher tells them"
        )
    if not 0 <= process < count:
        raise ConfigError(
            f"--process_id={process}: must be at least 0 and below --num_processes={count}"
        )
    host, port = split_address(address)
    return Place(process, count, host, port)


def split_address(address: str) -> tuple[str, int]:
    """HOST:PORT, or [HOST]:PORT for a host with colons; ConfigError where it is neither."""
    host, _, port = address.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    plain = port.isascii() and port.isdigit()
    if not bare or not plain or not 0 < int(port) < 1 << 16 or (":" in bare and bare == host):
        raise ConfigError(
            f"--coordinator={address!r}: must be HOST:PORT, the host of process 0 and a port there "
            "from 1 to 65535"
        )
    return bare, int(port)
