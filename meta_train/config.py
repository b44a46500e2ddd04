"""The configuration of a meta-training run."""

import dataclasses
import math
from typing import Any

from learned_opt.rules import RULES
from meta_train.estimators import ESTIMATORS, NEED_DERIVATIVE, WITHOUT_NOISE
from meta_train.estimators.differences import transform_named
from meta_train.problems.optimizer_training import META_LOSSES
from meta_train.task_list import ListedTask, parse_tasks
from meta_train.task_scale import TASK_SCALES
from tasks import StreamError, check_streamed


class ConfigError(ValueError):
    """A setting that no run can be made with: which, its value, and the way out."""


@dataclasses.dataclass(frozen=True)
class MetaTrainConfig:
    """Everything that a run depends on: θ is a function of this and nothing else.

    What is trained:
      seed: of every random draw.
      task: a family of `tasks`; see ``tasks/registry.py`` for the names. Or a list of them,
        NAME,NAME=WEIGHT,NAME=WEIGHT@UPDATE: with a sampling weight, 1 where there is none, and
        from so many updates on.
      tasks_per_update: tasks of a list that an update is made from, drawn by weight as
        ``task_list.py`` says; 0 takes all.
      task_scale: how the tasks of a list are made comparable; a name in `TASK_SCALES`. A task
        alone is as it is.
      download: prepare a TFDS set that is not there (official ones need the extra [tf]).
      stream_pool: training images in memory at a time, of every task; 0 for all of them. For
        TFDS image sets that are larger than memory, as ``tasks/data/stream.py`` says.
      stream_every: updates after which the next ones take their place.
      rule: an update rule of `learned_opt.RULES`.
      constants: of the rule, as a JSON object: '{"hidden": [8, 8]}'; the others are the rule's own.
      initial: a saved optimizer whose θ the training begins with; empty draws θ.
      freeze: parts of θ, by name and with commas between, that are not trained: "rule" say.
      meta_loss: what L_t is; a name in `META_LOSSES`.
      loss_clip: bound of L_t, in units of the loss of a model that knows nothing.

    The estimator:
      estimator: one of `ESTIMATORS`.
      particles: N, both members of an antithetic pair counted; the episodes side by side of
        an estimator that differentiates.
      window: W, inner steps between two updates of θ.
      sigma: σ of the noise on θ.
      length_min, length_max: bounds of the log-uniform episode length, in inner steps.
      length_start, length_updates: the upper bound grows from the one to length_max within the
        other, geometrically, as ``curriculum.py`` says; 0 and 0 for a bound that stays.
      noise_period: K of "gpes", inner steps; 0 for the others.
      mixture: what "mixture" is made of, "pes=0.5,truncated_es=0.5" say; else empty.
      transform: of loss differences: identity, sign, normalize or clip:BOUND.

    The outer optimizer, Adam:
      updates: of θ.
      learning_rate: its peak.
      warmup: updates of linear warm-up from 0 to the peak.
      learning_rate_end: share of the peak left at the end of the cosine decay.
      clip_norm: bound of the global norm of the meta-gradient.
      gradient_limit: an update is skipped whose meta-gradient's norm is more than so many times
        the median of the recent ones, or not finite; see ``health.py``.
      max_skipped: skipped updates in a row at which the run ends.

    Meta-validation, see ``validation.py``:
      validate_every: updates between validations of θ; 0 for none. With them ``DIR/optimizer`` is
        the best one by its score.
      validation_suite: a suite, a .toml file, or TASK,TASK@STEPS.
      validation_seeds: runs of each task.
      patience: validations without a better score at which the run ends; 0 for never.

    The machine and the log:
      devices: to spread particles over, of all processes together; 0 takes all (on CPU: one
        per core).
      block: pairs computed at a time on a device; 0 chooses.
      rematerialize: compute activations again for the inner gradient, in place of keeping them.
      microbatches: parts of a minibatch that follow each other in an inner gradient.
      batch_devices: devices that share the minibatch of a particle, a part on each.
      memory_limit: gigabytes that a device may take; 0 measures what there is.
      log_every: updates per row of metrics.
      checkpoint_every: updates between checkpoints, a multiple of log_every.
      keep_checkpoints: newest checkpoints kept.
    """

    seed: int = 0
    task: str = "fashion_mnist_8x8_mlp32"
    tasks_per_update: int = 0
    task_scale: str = "initial_loss"
    download: bool = False
    stream_pool: int = 0
    stream_every: int = 0
    rule: str = "mlp"
    constants: str = "{}"
    initial: str = ""
    freeze: str = ""
    meta_loss: str = "train"
    loss_clip: float = 1.5

    estimator: str = "pes"
    particles: int = 32
    window: int = 10
    sigma: float = 0.01
    length_min: int = 200
    length_max: int = 200
    length_start: int = 0
    length_updates: int = 0
    noise_period: int = 0
    mixture: str = ""
    transform: str = "identity"

    updates: int = 10_000
    learning_rate: float = 1e-3
    warmup: int = 100
    learning_rate_end: float = 0.1
    clip_norm: float = 1.0
    gradient_limit: float = 1000.0
    max_skipped: int = 100

    validate_every: int = 0
    validation_suite: str = "meta_validation"
    validation_seeds: int = 2
    patience: int = 0

    devices: int = 0
    block: int = 0
    rematerialize: bool = False
    microbatches: int = 1
    batch_devices: int = 1
    memory_limit: float = 0.0
    log_every: int = 10
    checkpoint_every: int = 500
    keep_checkpoints: int = 3


SEEDS = 1 << 32  # JAX's keys tell no more apart
COUNTS = 1 << 31  # counters are int32
SMALLEST_SIGMA = 1e-15

WITHOUT_EFFECT_ON_THETA = (
    "download", "memory_limit", "checkpoint_every", "keep_checkpoints", "max_skipped", "devices",
    "block", "validate_every", "validation_suite", "validation_seeds", "patience",
)  # fmt: skip
"""Settings that a run may change when it is resumed; devices and block change rounding."""


def check_config(config: MetaTrainConfig) -> None:
    """Raise ConfigError for the first setting that is out of its range."""
    for name, legal in (
        ("rule", RULES),
        ("estimator", ESTIMATORS),
        ("meta_loss", META_LOSSES),
        ("task_scale", TASK_SCALES),
    ):
        value = getattr(config, name)
        if value not in legal:
            raise ConfigError(f"`config.{name}`={value!r} is unknown; legal ones: {sorted(legal)}")
    if not 0 <= config.seed < SEEDS:
        raise ConfigError(f"`config.seed`={config.seed}: must be at least 0 and below {SEEDS}")
    for name, low in _LOWEST.items():
        value = getattr(config, name)
        if not low <= value < COUNTS:
            raise ConfigError(f"`config.{name}`={value}: must be at least {low} and below {COUNTS}")
    for name in ("sigma", "learning_rate", "clip_norm"):
        value = getattr(config, name)
        if not 0 < value < math.inf:
            raise ConfigError(f"`config.{name}`={value}: must be positive and finite")
    if config.sigma < SMALLEST_SIGMA:
        raise ConfigError(
            f"`config.sigma`={config.sigma}: must be at least {SMALLEST_SIGMA}; σ² has to be a "
            "number in float32"
        )
    if not 1 < config.gradient_limit < math.inf:
        raise ConfigError(
            f"`config.gradient_limit`={config.gradient_limit}: must exceed 1, the median norm, and "
            "be finite; a large number lets every update pass"
        )
    if not 0 <= config.memory_limit < math.inf:
        raise ConfigError(
            f"`config.memory_limit`={config.memory_limit}: must be at least 0, finite"
        )
    if not 1 < config.loss_clip < math.inf:
        raise ConfigError(f"`config.loss_clip`={config.loss_clip}: must exceed 1, the initial loss")
    if config.particles % 2:
        raise ConfigError(
            f"`config.particles`={config.particles}: must be even, both members of a pair counted"
        )
    for name in ("length_min", "length_max", "length_start"):
        if getattr(config, name) % config.window:
            raise ConfigError(
                f"`config.window`={config.window} does not divide `config.{name}`="
                f"{getattr(config, name)}; episode lengths must be multiples of the window"
            )
    _check_estimator(config)
    if config.length_max < config.length_min:
        raise ConfigError(
            f"`config.length_max`={config.length_max} is below "
            f"`config.length_min`={config.length_min}"
        )
    _check_curriculum(config)
    _check_tasks(config)
    _check_stream(config)
    if config.patience and not config.validate_every:
        raise ConfigError(
            f"`config.patience`={config.patience} counts validations; set `config.validate_every`"
        )
    if config.validate_every % config.log_every:
        raise ConfigError(
            f"`config.validate_every`={config.validate_every} must be a multiple of "
            f"`config.log_every`={config.log_every}"
        )
    if not 0 <= config.learning_rate_end <= 1:
        raise ConfigError(
            f"`config.learning_rate_end`={config.learning_rate_end}: a share, in [0, 1]"
        )
    if config.warmup >= config.updates:
        raise ConfigError(
            f"`config.warmup`={config.warmup} leaves nothing of `config.updates`={config.updates}"
        )
    if config.checkpoint_every % config.log_every:
        raise ConfigError(
            f"`config.checkpoint_every`={config.checkpoint_every} must be a multiple of "
            f"`config.log_every`={config.log_every}"
        )


_LOWEST = {
    "particles": 2,
    "window": 1,
    "length_min": 1,
    "noise_period": 0,
    "length_max": 1,
    "length_start": 0,
    "length_updates": 0,
    "tasks_per_update": 0,
    "stream_pool": 0,
    "stream_every": 0,
    "updates": 1,
    "warmup": 0,
    "max_skipped": 1,
    "validate_every": 0,
    "validation_seeds": 1,
    "patience": 0,
    "devices": 0,
    "block": 0,
    "microbatches": 1,
    "batch_devices": 1,
    "log_every": 1,
    "checkpoint_every": 1,
    "keep_checkpoints": 1,
}


def components_of(config: MetaTrainConfig) -> list[tuple[str, float]]:
    """Name and weight of every estimator that the run uses: one, but for a mixture.

    Raises:
      ConfigError: ``config.mixture`` does not say what a mixture is made of.
    """
    if config.estimator != "mixture":
        return [(config.estimator, 1.0)]
    parts = [part.strip().partition("=") for part in config.mixture.split(",")]
    single = sorted(set(ESTIMATORS) - {"mixture"})
    try:
        components = [(name, float(weight)) for name, _, weight in parts]
    except ValueError:
        components = []
    if not components or any(name not in single for name, _ in components):
        raise ConfigError(
            f"`config.mixture`={config.mixture!r}: must be NAME=WEIGHT,NAME=WEIGHT with names of "
            f"{single}"
        )
    total = sum(weight for _, weight in components)
    if not math.isclose(total, 1, abs_tol=1e-6):
        raise ConfigError(f"`config.mixture`={config.mixture!r}: weights add up to {total}, not 1")
    return components


def tasks_of(config: MetaTrainConfig) -> tuple[ListedTask, ...]:
    """The tasks that ``config.task`` lists; ConfigError where it does not."""
    try:
        return parse_tasks(config.task)
    except ValueError as error:
        raise ConfigError(f"`config.{str(error).removeprefix('`')}") from None


def _check_tasks(config: MetaTrainConfig) -> None:
    """Raise ConfigError for a list of tasks that cannot be trained on."""
    tasks = tasks_of(config)
    if config.tasks_per_update > len(tasks):
        raise ConfigError(
            f"`config.tasks_per_update`={config.tasks_per_update}: `config.task` lists "
            f"{len(tasks)}; lower it, or 0 to take all"
        )
    for task in tasks:
        if task.from_update >= config.updates:
            raise ConfigError(
                f"`config.task`={config.task!r}: {task.name!r} takes part from update "
                f"{task.from_update}, and there are `config.updates`={config.updates}; lower it, "
                "or leave the task out"
            )


def _check_stream(config: MetaTrainConfig) -> None:
    """Raise ConfigError for data that cannot be streamed."""
    pool, every = config.stream_pool, config.stream_every
    if (pool > 0) != (every > 0):
        raise ConfigError(
            f"`config.stream_pool`={pool} and `config.stream_every`={every} go together: give "
            "both, or leave both at 0"
        )
    if not pool:
        return
    for task in tasks_of(config):
        try:
            check_streamed(task.name)
        except StreamError as error:
            raise ConfigError(
                f"`config.stream_pool`={pool}: {error}; leave it and `config.stream_every` at 0, "
                "or change `config.task`"
            ) from None


def _check_curriculum(config: MetaTrainConfig) -> None:
    """Raise ConfigError for a curriculum over lengths that leads nowhere."""
    start, updates = config.length_start, config.length_updates
    if (start > 0) != (updates > 0):
        raise ConfigError(
            f"`config.length_start`={start} and `config.length_updates`={updates} go together: "
            "give both, or leave both at 0"
        )
    if start > config.length_max:
        raise ConfigError(
            f"`config.length_start`={start} is above `config.length_max`={config.length_max}"
        )


def _check_estimator(config: MetaTrainConfig) -> None:
    """Raise ConfigError for settings that do not go with the estimator."""
    if config.mixture and config.estimator != "mixture":
        raise ConfigError(f"`config.mixture`={config.mixture!r} is for `config.estimator`=mixture")
    names = {name for name, _ in components_of(config)}
    for name in sorted(names & {"full_es", "full_backprop"}):
        if not config.window == config.length_min == config.length_max:
            raise ConfigError(
                f"`config.window`={config.window}: {name!r} unrolls whole episodes, here of "
                f"{config.length_min} to {config.length_max} steps; make all three equal"
            )
        if config.length_start:
            raise ConfigError(
                f"`config.length_start`={config.length_start}: {name!r} unrolls whole episodes, "
                "all of one length; leave it at 0"
            )
    if ("gpes" in names) != (config.noise_period > 0) or config.noise_period % config.window:
        raise ConfigError(
            f"`config.noise_period`={config.noise_period}: for 'gpes' a positive multiple of "
            f"`config.window`={config.window}, for the other estimators 0"
        )
    try:
        transform_named(config.transform)
    except ValueError as error:
        raise ConfigError(f"`config.{str(error).removeprefix('`')}") from None
    if names <= WITHOUT_NOISE and config.transform != "identity":
        raise ConfigError(
            f"`config.transform`={config.transform!r}: {sorted(names)} have no loss differences; "
            "leave it at identity"
        )
    for name in sorted(names & NEED_DERIVATIVE):
        if config.batch_devices > 1:
            raise ConfigError(
                f"`config.batch_devices`={config.batch_devices}: {name!r} differentiates, and that "
                "across devices is not the derivative of a mean; set `config.microbatches` instead"
            )
        if not META_LOSSES[config.meta_loss].differentiable:
            raise ConfigError(
                f"`config.meta_loss`={config.meta_loss!r} has no derivative, which {name!r} needs; "
                "choose an evolution-strategies estimator or another meta-loss"
            )


def deciding_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Those of the settings, as `as_dict` gives them, that θ depends on."""
    return {k: v for k, v in settings.items() if k not in WITHOUT_EFFECT_ON_THETA}


def as_dict(config: MetaTrainConfig) -> dict[str, Any]:
    """The configuration as JSON values."""
    return dataclasses.asdict(config)
