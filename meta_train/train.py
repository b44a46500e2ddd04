"""The command `python -m meta_train`: what a run does from its flags to its optimizer."""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path

import jax
from absl import flags
from ml_collections import config_dict, config_flags

from checkpoints import TrainingCheckpoints
from checkpoints.training import free_bytes
from meta_train.assemble import Run, assemble
from meta_train.command_line import given_directory, run_command, say
from meta_train.config import (
    ConfigError,
    MetaTrainConfig,
    as_dict,
    check_config,
    deciding_settings,
)
from meta_train.export import export_optimizer
from meta_train.files import sole_use
from meta_train.loop import Outcome, compile_advance, train
from meta_train.memory import check_memory, predict
from meta_train.meta_training import MetaState
from meta_train.presets import CONSTANTS, PRESETS
from meta_train.runtime import provenance, set_up_jax
from meta_train.workdir import CHECKPOINTS, begin_workdir, check_workdir, record_process

WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the run; made, or resumed.")
PRESET = flags.DEFINE_string("preset", "demo", f"Settings to start from: {', '.join(PRESETS)}.")
flags.mark_flag_as_required("workdir")


def define_config(argv: Sequence[str]) -> None:
    """Define ``--config.FIELD`` with the values of the preset that ``argv`` names."""
    early = flags.FlagValues()
    flags.DEFINE_string("preset", PRESET.default, "", flag_values=early)
    early(argv, known_only=True)
    if early.preset not in PRESETS:
        raise flags.IllegalFlagValueError(
            f"unknown --preset={early.preset!r}; legal ones: {', '.join(PRESETS)}"
        )
    settings = config_dict.ConfigDict(as_dict(_preset_for(early.preset, argv)))
    try:
        config_flags.DEFINE_config_dict("config", settings, sys_argv=list(argv))
    except AttributeError as error:
        raise flags.IllegalFlagValueError(
            f"unknown setting in --config.FIELD ({' '.join(str(error).split())}); "
            f"legal ones: {', '.join(as_dict(PRESETS[early.preset]))}"
        ) from None


def _preset_for(name: str, argv: Sequence[str]) -> MetaTrainConfig:
    """The preset, with the constants of the rule that ``argv`` may name in place of its own."""
    preset = PRESETS[name]
    given = [argument.partition("=") for argument in argv if "config.rule" in argument]
    rules = [value for flag, _, value in given if flag.lstrip("-") == "config.rule"]
    if not rules or rules[-1] == preset.rule:
        return preset
    return dataclasses.replace(preset, rule=rules[-1], constants=CONSTANTS.get(rules[-1], "{}"))


def main() -> int:
    """Run, or resume, the meta-training that the flags describe."""
    config = MetaTrainConfig(**flags.FLAGS.config.to_dict())
    check_config(config)
    workdir = given_directory(WORKDIR.value)
    check_workdir(workdir, config)
    set_up_jax(config.devices)
    run = assemble(config)
    check_space(run, workdir)
    memory = predict(run)
    check_memory(config, run.block, memory)
    say(memory.in_words())
    with sole_use(workdir):
        begin_workdir(workdir, config)
        return meta_train(run, workdir)


def meta_train(run: Run, workdir: Path) -> int:
    """Begin or resume the run in its directory; returns the status of the process."""
    config = run.config
    checkpoints = TrainingCheckpoints(
        workdir / CHECKPOINTS,
        keep=config.keep_checkpoints,
        run=deciding_settings(as_dict(config)) | {"initial_sha256": run.rule.initial_sha256},
    )
    state = resume_or_init(run, checkpoints)
    if int(state.step) < config.updates:
        outcome = go_on(run, state, workdir, checkpoints)
        if outcome.step < config.updates:
            assert outcome.stopped_by is not None
            saved = "saved" if outcome.step else "there is nothing to save yet"
            say(
                f"stopped by {outcome.stopped_by.name} after update {outcome.step} of "
                f"{config.updates}, {saved}; the same command goes on from there"
            )
            return 128 + outcome.stopped_by
        state = outcome.state
    checkpoints.close()
    target = export_optimizer(run, state.theta, workdir)
    say(
        f"the learned optimizer is in {target}; to use it:\n"
        f"  tx = learned_opt.load({str(target)!r})"
    )
    return 0


def go_on(run: Run, state: MetaState, workdir: Path, checkpoints: TrainingCheckpoints) -> Outcome:
    """Write down what goes on with the run, compile it and train."""
    config = run.config
    facts = provenance() | {"block": run.block}
    for difference in record_process(workdir, config, update=int(state.step), facts=facts):
        say(f"note: {difference}; from here on, results are the same to rounding only")
    started = time.perf_counter()
    advance = compile_advance(run, state)
    say(
        f"{config.particles} particles on {run.mesh.size} {run.mesh.devices.flat[0].platform} "
        f"device(s), {run.block} pair(s) of them at a time on each; "
        f"compiled in {time.perf_counter() - started:.1f} s"
    )
    outcome = train(run, advance, state, workdir, checkpoints)
    if outcome.advanced:
        say(f"{outcome.inner_steps_per_second:,.0f} inner steps per second, compilation apart")
    return outcome


def resume_or_init(run: Run, checkpoints: TrainingCheckpoints) -> MetaState:
    """The newest state of the run, or its first, on the devices of the run."""
    step = checkpoints.latest()
    if step is None:
        return run.training.init(run.key_init)
    say(f"resuming after update {step}")
    saved = checkpoints.restore(step, jax.eval_shape(run.training.init, run.key_init))
    return jax.device_put(saved, run.training.shardings)


def check_space(run: Run, workdir: Path) -> None:
    """Raise ConfigError where the checkpoints of the run would not fit on the disk."""
    state = jax.eval_shape(run.training.init, run.key_init)
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    needed = (run.config.keep_checkpoints + 1) * size
    free = free_bytes(workdir)
    if free is not None and free < needed:
        raise ConfigError(
            f"--workdir={str(workdir)!r} has no space left: {needed / 1e6:.1f} MB are needed "
            f"for {run.config.keep_checkpoints} checkpoints, {free / 1e6:.1f} MB are free; choose "
            "another disk or lower `config.keep_checkpoints`"
        )


def run() -> None:
    """The command: parse the flags, and do what they say."""
    run_command(main, define_config)
