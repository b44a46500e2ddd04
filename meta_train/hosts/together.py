"""Several processes as one JAX program: they meet, start its runtime, and end together."""

import os
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

import jax

from checkpoints.command_line import say
from meta_train.hosts.meeting import Meeting, come, own_name
from meta_train.hosts.peers import ALONE, END, Company, Guest, Host, Peers
from meta_train.hosts.place import HostsError, Place
from meta_train.hosts.relay import relay_to

VERDICT = 5.0  # seconds in which the end of a peer shows, once a collective has failed
DAY = 24 * 3600  # seconds, for JAX's own watch over processes: ours comes first
SHUTDOWN = 20  # seconds; all come to it at the same time

_joined = False


@contextmanager
def together(
    place: Place, facts: Mapping[str, Any], *, join_timeout: float, peer_timeout: float
) -> Iterator[Peers]:
    """Within, JAX's devices are those of all processes; before any of its computations.

    Args:
      place: which process this is; of a run in one process nothing is done.
      facts: JSON values that all processes must agree on.
      join_timeout: seconds to wait for the others at the beginning.
      peer_timeout: seconds after which a silent process counts as dead.

    Raises:
      HostsError: they do not come together.
    """
    if place.processes == 1:
        yield ALONE
        return
    company = _meet(place, facts, join_timeout, peer_timeout)
    try:
        yield Peers(place.process, place.processes, company.gather)
        company.gather(END, None)
        jax.distributed.shutdown()
    except BaseException as error:
        if isinstance(error, jax.errors.JaxRuntimeError):
            time.sleep(VERDICT)  # else one that lost its peer would take the blame
        company.fail(_reason(error))
        raise


def ended_with_the_others(command: Callable[[], NoReturn]) -> NoReturn:
    """Run a command; a process that fails beside others ends at once.

    JAX's runtime would wait for the others at the exit, and abort.
    """
    try:
        command()
    except BaseException as error:
        if not _joined:
            raise
        if not isinstance(error, SystemExit):
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        code = error.code if isinstance(error, SystemExit) else 1
        os._exit(code if isinstance(code, int) else int(code is not None))


def _meet(
    place: Place, facts: Mapping[str, Any], join_timeout: float, peer_timeout: float
) -> Company:
    global _joined
    company: Company
    if place.process == 0:
        meeting = Meeting(place, facts)
        say(f"waiting for {place.processes - 1} more process(es) at {place.address}")
        others = meeting.wait(join_timeout)
        port = _free_port(meeting.bound)
        for process, (connection, name) in others.items():
            try:
                connection.send({"begin": port, "name": own_name()})
            except OSError as error:
                raise HostsError(f"process {process} ({name}) is gone: {error}") from None
        address, bound = f"{place.host}:{port}", f"{meeting.bound}:{port}"
        if ":" in place.host:
            address, bound = f"[{place.host}]:{port}", f"[{meeting.bound}]:{port}"
        company = Host(others, peer_timeout)
    else:
        connection, begin = come(place, facts, join_timeout, say)
        address, bound = f"127.0.0.1:{relay_to(place.host, begin['begin'])}", None
        company = Guest(place.process, connection, begin["name"], peer_timeout)
    _joined = True
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_enable_preemption_service", False)  # it takes SIGTERM for itself
    jax.distributed.initialize(
        address,
        place.processes,
        place.process,
        cluster_detection_method="deactivate",
        initialization_timeout=max(int(join_timeout), 1),
        heartbeat_timeout_seconds=DAY,
        shutdown_timeout_seconds=SHUTDOWN,
        coordinator_bind_address=bound,
    )
    return company


def _free_port(host: str) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listener:
        return listener.getsockname()[1]


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:400] or type(error).__name__
