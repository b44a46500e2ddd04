"""What a run does between its configuration and its optimizer: begin or resume, train, export."""

import time
from pathlib import Path

import jax

from checkpoints import TrainingCheckpoints
from checkpoints.training import free_bytes
from meta_train.assemble import Run
from meta_train.config import ConfigError, MetaTrainConfig, as_dict, deciding_settings
from meta_train.estimation import rows_of
from meta_train.export import export_optimizer
from meta_train.hosts.peers import ALONE, Peers
from meta_train.hosts.turns import checksum
from meta_train.loop import Outcome, compile_advance, train
from meta_train.memory import check_memory, predict
from meta_train.meta_training import MetaState
from meta_train.parallel import placed
from meta_train.runtime import provenance
from meta_train.validation import Validator
from meta_train.workdir import CHECKPOINTS, record_process


def check_data(run: Run, peers: Peers) -> None:
    """Raise HostsError unless all processes have read the same."""
    own = jax.tree.map(lambda x: x.addressable_data(0), run.data)
    read = {"data": int(checksum(own)), "config.initial": run.rule.initial_sha256}
    peers.check_alike("what was read", read, "give all hosts the same files")


def meta_train(run: Run, workdir: Path, peers: Peers = ALONE) -> int:
    """Begin or resume the run in its directory; returns the status of the process."""
    config = run.config
    checkpoints = TrainingCheckpoints(
        workdir / CHECKPOINTS,
        keep=config.keep_checkpoints,
        run=deciding_settings(as_dict(config)) | {"initial_sha256": run.rule.initial_sha256},
        gather=peers.gather,
    )
    state = resume_or_init(run, checkpoints, peers)
    check_skipped(config, state)
    validator = Validator(run, workdir, first_step=int(state.step), peers=peers)
    if int(state.step) < config.updates and not validator.enough:
        outcome = go_on(run, state, workdir, checkpoints, peers, validator)
        check_skipped(config, outcome.state)
        if outcome.stopped_by is not None and outcome.step < config.updates:
            saved = "saved" if outcome.step else "there is nothing to save yet"
            peers.say(
                f"stopped by {outcome.stopped_by.name} after update {outcome.step} of "
                f"{config.updates}, {saved}; the same command goes on from there"
            )
            return 128 + outcome.stopped_by
        state = outcome.state
    checkpoints.close()
    if not peers.first:
        return 0
    if validator.enough and int(state.step) < config.updates:
        peers.say(
            f"ended after update {int(state.step)}: {config.patience} validations in a row were no "
            "better"
        )
    target = export_optimizer(run, state, workdir, validator.rows)
    for harm in harm_of(run, state):
        peers.say(harm)
    peers.say(
        f"the learned optimizer is in {target}; to use it:\n"
        f"  tx = learned_opt.load({str(target)!r})"
    )
    return 0


def go_on(
    run: Run,
    state: MetaState,
    workdir: Path,
    checkpoints: TrainingCheckpoints,
    peers: Peers,
    validator: Validator,
) -> Outcome:
    """Write down what goes on with the run, compile it and train."""
    config = run.config
    facts = provenance() | {"block": run.block, "processes": peers.processes}
    if peers.first:
        for difference in record_process(workdir, config, update=int(state.step), facts=facts):
            peers.say(f"note: {difference}; from here on, results are the same to rounding only")
    if len(run.families) > 1:
        peers.say(f"compiling the programs of {len(run.families)} tasks")
    peers.say(predict(run).in_words())
    started = time.perf_counter()
    advance = compile_advance(run, state)
    validator.prepare()
    peers.gather("the compiled program", None)  # in a collective, processes wait not so long
    peers.say(
        f"{config.particles} particles on {run.mesh.size} {run.mesh.devices.flat[0].platform} "
        f"device(s), {run.block} pair(s) of them at a time on each; "
        f"compiled in {time.perf_counter() - started:.1f} s"
    )
    outcome = train(run, advance, state, workdir, checkpoints, peers, validator)
    if outcome.advanced:
        peers.say(
            f"{outcome.inner_steps_per_second:,.0f} inner steps per second, compilation apart"
        )
    return outcome


def resume_or_init(run: Run, checkpoints: TrainingCheckpoints, peers: Peers = ALONE) -> MetaState:
    """The newest state of the run, or its first, on the devices of the run."""
    found = checkpoints.restore_newest(jax.eval_shape(run.training.init, run.key_init))
    step = None if found is None else found.step
    peers.check_alike("the newest checkpoint", step, "run the same commands again")
    if found is None:
        return run.training.init(run.key_init)
    for reason in found.passed_over:
        peers.say(f"note: {reason}; it is left out, and the one before is taken")
    peers.say(f"resuming after update {found.step}")
    return placed(found.state, run.training.shardings)


def check_skipped(config: MetaTrainConfig, state: MetaState) -> None:
    """Raise ConfigError for a run that had to skip too many updates in a row."""
    longest = int(state.health.longest_skipped)
    if longest >= config.max_skipped:
        raise ConfigError(
            f"{longest} updates in a row were skipped, `config.max_skipped`={config.max_skipped}: "
            f"their meta-gradients were not finite, or {config.gradient_limit:g} times as long as "
            f"those before; update {int(state.step)} is saved: raise `config.max_skipped` to go on "
            "from there, or choose another directory and a lower `config.learning_rate` or a "
            "shorter `config.length_max`"
        )


def harm_of(run: Run, state: MetaState) -> list[str]:
    """What a finished run met of losses that were not finite and gradients that exploded."""
    told = []
    if diverged := int(state.health.diverged):
        windows = int(state.step) * rows_of(run.config)
        told.append(
            f"note: {diverged:,} of {windows:,} windows of pairs had a loss that was not finite"
        )
    if skipped := int(state.health.skipped):
        told.append(
            f"note: {skipped:,} of {int(state.step):,} updates were skipped, for their "
            "meta-gradient exploded"
        )
    return told


def check_fits(run: Run) -> None:
    """Raise ConfigError where the run would not fit into the memory of a device."""
    check_memory(run.config, run.block, predict(run))


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
