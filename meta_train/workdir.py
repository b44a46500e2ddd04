"""The working directory of a run: what it holds, and whether it is this run's.

DIR/config.json        the configuration, resolved
DIR/provenance.json    versions, code revision, machine, command
DIR/metrics.jsonl      one row of metrics per call
DIR/tensorboard/       the same for TensorBoard
DIR/checkpoints/       the newest states
DIR/optimizer/         the result, portable
"""

import json
from pathlib import Path
from typing import Any

from meta_train.config import WITHOUT_EFFECT_ON_THETA, ConfigError, MetaTrainConfig, as_dict
from meta_train.files import write_json

CONFIG = "config.json"
PROVENANCE = "provenance.json"
METRICS = "metrics.jsonl"
TENSORBOARD = "tensorboard"
CHECKPOINTS = "checkpoints"
OPTIMIZER = "optimizer"


def check_workdir(workdir: Path, config: MetaTrainConfig) -> None:
    """Raise ConfigError unless the directory is new, empty or of the same run."""
    if workdir.exists() and not workdir.is_dir():
        raise ConfigError(f"--workdir={str(workdir)!r} is a file; name a directory")
    path = workdir / CONFIG
    if not path.exists():
        if workdir.exists() and any(workdir.iterdir()):
            raise ConfigError(
                f"--workdir={str(workdir)!r} is not empty and holds no {CONFIG} of a run; "
                "choose another directory"
            )
        return
    try:
        saved = json.loads(path.read_text())
    except ValueError as error:
        raise ConfigError(f"{str(path)!r} is damaged ({error}); choose another directory") from None
    differing = _differences(saved, as_dict(config))
    if differing:
        raise ConfigError(
            f"--workdir={str(workdir)!r} is of another configuration: {'; '.join(differing)}; "
            "give the same settings to resume it, or choose another directory"
        )


def begin_workdir(workdir: Path, config: MetaTrainConfig, provenance: dict[str, Any]) -> None:
    """Make the directory and write down what runs in it."""
    write_json(workdir / CONFIG, as_dict(config))
    write_json(workdir / PROVENANCE, provenance)


def _differences(saved: Any, given: dict[str, Any]) -> list[str]:
    if not isinstance(saved, dict):
        return [f"{CONFIG} is not a configuration"]
    return [
        f"{name} is {saved.get(name)!r} there and {given.get(name)!r} here"
        for name in sorted(set(saved) | set(given))
        if name not in WITHOUT_EFFECT_ON_THETA and saved.get(name) != given.get(name)
    ]
