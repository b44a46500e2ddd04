"""The working directory of a run: what it holds, and whether it is this run's.

DIR/config.json        the configuration, resolved
DIR/provenance.json    versions, code revision, machine, command of every process of the run
DIR/metrics.jsonl      one row of metrics per call
DIR/tensorboard/       the same for TensorBoard
DIR/checkpoints/       the newest states
DIR/validation.jsonl   a row for every validation of θ, where there are any
DIR/validated/         θ of those that were better than all before
DIR/optimizer/         the result, portable: of validated ones the best
DIR/optimizer_last/    the last one, where they are validated
"""

import json
import secrets
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from checkpoints import differences
from meta_train.config import ConfigError, MetaTrainConfig, as_dict, deciding_settings
from meta_train.files import sole_use, write_json, write_text
from meta_train.hosts.peers import Peers
from meta_train.hosts.place import HostsError

CONFIG = "config.json"
PROVENANCE = "provenance.json"
METRICS = "metrics.jsonl"
TENSORBOARD = "tensorboard"
CHECKPOINTS = "checkpoints"
OPTIMIZER, OPTIMIZER_LAST = "optimizer", "optimizer_last"
SHARED = ".shared"


def check_workdir(workdir: Path, config: MetaTrainConfig) -> None:
    """Raise ConfigError unless the directory is new, empty or of the same run."""
    given = f"--workdir={str(workdir)!r}"
    path = workdir / CONFIG
    if not path.exists():
        # What a killed process was about to write begins with a dot.
        if workdir.exists() and any(not p.name.startswith(".") for p in workdir.iterdir()):
            raise ConfigError(
                f"{given} is not empty and holds no {CONFIG} of a run; choose another directory"
            )
        return
    try:
        saved = json.loads(path.read_text())
    except (ValueError, OSError) as error:
        raise ConfigError(
            f"{given}: its {CONFIG} is damaged ({error}); choose another directory"
        ) from None
    differing = _differences(saved, config)
    if differing:
        raise ConfigError(
            f"{given} is of another configuration: {'; '.join(differing)}; "
            "give the same settings to resume it, or choose another directory"
        )


def begin_workdir(workdir: Path, config: MetaTrainConfig) -> None:
    """Say whose directory it is, if nobody has; raises what `check_workdir` raises."""
    check_workdir(workdir, config)
    if not (workdir / CONFIG).exists():
        write_json(workdir / CONFIG, as_dict(config))


@contextmanager
def use_of_workdir(workdir: Path, config: MetaTrainConfig, peers: Peers) -> Iterator[None]:
    """`sole_use` and `begin_workdir` by the first process, for all.

    Raises:
      HostsError: another process does not see the directory.
    """
    if not peers.first:
        check_shared(workdir, peers)
        yield
        return
    with sole_use(workdir):
        begin_workdir(workdir, config)
        check_shared(workdir, peers)
        yield


def check_shared(workdir: Path, peers: Peers) -> None:
    """Raise HostsError unless all processes see what the first writes in the directory."""
    if peers.processes == 1:
        return
    path, own = workdir / SHARED, secrets.token_hex(8)
    if peers.first:
        write_text(path, own)
    token = peers.gather("the token in the working directory", own)[0]
    seen = peers.gather("whether it is seen", _reads(path, token))
    if peers.first:
        path.unlink()
    for process, sees in enumerate(seen):
        if not sees:
            raise HostsError(
                f"--workdir={str(workdir)!r}: process {process} does not see there what process 0 "
                "writes; name a directory that all hosts share"
            )


def _reads(path: Path, token: str, seconds: float = 10.0) -> bool:
    """Whether a file has that content; a network file system may show it late."""
    deadline = time.monotonic() + seconds
    while not path.exists() or path.read_text() != token:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def record_process(
    workdir: Path, config: MetaTrainConfig, *, update: int, facts: dict[str, Any]
) -> list[str]:
    """Add to the provenance what goes on with the run from ``update``.

    Returns:
      what differs from the process before it in a way that can change rounding.
    """
    before = read_processes(workdir)
    write_json(workdir / CONFIG, as_dict(config))
    write_json(workdir / PROVENANCE, [*before, {"from_update": update, **facts}])
    if not before or update == 0:
        return []
    return [
        f"{name} was {_short(before[-1].get(name))} and is {_short(facts.get(name))}"
        for name in ("versions", "devices", "processes", "block", "kernels")
        if name in before[-1] and before[-1][name] != facts.get(name)
    ]


def read_processes(workdir: Path) -> list[dict[str, Any]]:
    """The provenance of every process of the run so far; of a damaged file, nothing."""
    try:
        processes = json.loads((workdir / PROVENANCE).read_text())
    except (OSError, ValueError):
        return []
    return [p for p in processes if isinstance(p, dict)] if isinstance(processes, list) else []


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {version}" for name, version in value.items())
    if isinstance(value, list):
        return ", ".join(f"{n} × {kind}" for kind, n in sorted(Counter(map(str, value)).items()))
    return str(value)


def _differences(saved: Any, config: MetaTrainConfig) -> list[str]:
    if not isinstance(saved, dict):
        return [f"{CONFIG} is not a configuration"]
    return differences(deciding_settings(saved), deciding_settings(as_dict(config)))
