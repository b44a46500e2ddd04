"""The working directory of a run: what it holds, and whether it is this run's.

DIR/config.json        the configuration, resolved
DIR/provenance.json    versions, code revision, machine, command of every process of the run
DIR/metrics.jsonl      one row of metrics per call
DIR/tensorboard/       the same for TensorBoard
DIR/checkpoints/       the newest states
DIR/optimizer/         the result, portable
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from checkpoints import differences
from meta_train.config import ConfigError, MetaTrainConfig, as_dict, deciding_settings
from meta_train.files import write_json

CONFIG = "config.json"
PROVENANCE = "provenance.json"
METRICS = "metrics.jsonl"
TENSORBOARD = "tensorboard"
CHECKPOINTS = "checkpoints"
OPTIMIZER = "optimizer"


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
        for name in ("versions", "devices", "processes", "block")
        if before[-1].get(name) != facts.get(name)
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
