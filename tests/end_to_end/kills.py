"""Kills at random moments of a short run: it always ends bit for bit as if undisturbed.

    python -m tests.end_to_end.kills --kills=100 --seed=0 --folder=DIR

A server that has imported everything forks a process for every attempt, so that a kill costs a
second or two. Half of the attempts are killed after a random time, half when they are about to
open, rename, make or remove a file or folder of the run, at a random one. A run that gets to its
end is compared with the undisturbed one, and another begins until there were enough kills.
"""

import argparse
import json
import os
import random
import shutil
import signal
import struct
import sys
import time
import traceback
from pathlib import Path
from typing import NamedTuple

from tensorboardX.proto.event_pb2 import Event, SessionLog

UPDATES, LOG_EVERY, CHECKPOINT_EVERY = 120, 5, 10
SETTINGS = (
    "--preset=tiny",
    "--config.task=quadratic32",
    "--config.devices=2",
    "--config.particles=4",
    f"--config.updates={UPDATES}",
    f"--config.log_every={LOG_EVERY}",
    f"--config.checkpoint_every={CHECKPOINT_EVERY}",
)
TOUCHING = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.listdir", "os.scandir"}
START = 0.3  # share of the time, and of the touches, of a run
LONGEST_ATTEMPT = 300.0  # seconds; a process that hangs is a failure


class Plan(NamedTuple):
    """A kill when so large a share of an undisturbed run's seconds, or touches, is over."""

    share: float
    by_time: bool


class Size(NamedTuple):
    """Of an undisturbed run."""

    seconds: float
    touches: int


def kills_at_random(folder, kills, seed, say=lambda text: None):
    """Kill as often; the number of runs that ended. AssertionError where one is not as it was.

    Every fourth run begins with an empty compilation cache, so that some are killed while they
    compile.
    """
    started = time.monotonic()
    cold = undisturbed(folder / "undisturbed")
    expected = outcome_of(folder / "undisturbed")
    shutil.copytree(cache_of(folder / "undisturbed"), cache_of(folder / "again"))
    warm = undisturbed(folder / "again")
    assert outcome_of(folder / "again") == expected
    say(f"undisturbed: {cold}, and {warm} with a full cache")
    plans = strata(random.Random(seed), kills)
    runs = 0
    while plans:
        workdir = folder / f"run{runs}"
        if runs % 4:
            shutil.copytree(cache_of(folder / "undisturbed"), cache_of(workdir))
        plans = plans_left(workdir, warm if runs % 4 else cold, plans, say)
        assert attempt(workdir) == 0, said(workdir)  # to its end
        assert outcome_of(workdir) == expected, f"{workdir} is not the undisturbed run"
        runs += 1
        say(f"run {runs} ended as undisturbed; {len(plans)} kills to go")
        shutil.rmtree(workdir)
        shutil.rmtree(cache_of(workdir))
    say(f"{kills} kills, {runs} runs, {time.monotonic() - started:.0f} s")
    return runs


def strata(chance, kills):
    """One moment from each of as many equal parts of the run, by time and by touch in turn."""
    plans = [Plan((k + chance.random()) / kills, k % 2 == 0) for k in range(kills)]
    chance.shuffle(plans)
    return plans


def plans_left(workdir, size, plans, say):
    """Kill a run by one plan after another, until it ends before its kill; the plans left."""
    while plans:
        plan, *rest = plans
        share = plan.share * share_left(workdir)
        after = share * size.seconds if plan.by_time else None
        at_touch = None if plan.by_time else 1 + int(share * size.touches)
        status = attempt(workdir, after, at_touch)
        assert status in (0, -signal.SIGKILL), said(workdir)
        moment = f"after {after:.2f} s" if plan.by_time else f"at touch {at_touch}"
        say(f"{moment}: {'killed' if status else 'ended first'}; {progress(workdir)}")
        if status == 0:
            return [*rest, plan._replace(share=0.9 * plan.share)]
        plans = rest
    return plans


def share_left(workdir):
    """Of a run, about: a start, and the updates after its newest checkpoint."""
    folder = workdir / "checkpoints"
    names = [p.name for p in folder.iterdir()] if folder.exists() else []
    newest = max((int(name) for name in names if name.isdigit()), default=0)
    return START + (1 - START) * (1 - newest / UPDATES)


def undisturbed(workdir):
    """The size of a run that nothing kills."""
    started = time.monotonic()
    count = workdir.with_suffix(".count")
    assert attempt(workdir, count_into=count) == 0, said(workdir)
    return Size(time.monotonic() - started, int(count.read_text()))


def attempt(workdir, after=None, at_touch=None, count_into=None):
    """The status of a forked process that begins or resumes the run, or minus its signal."""
    process = os.fork()
    if process == 0:
        child(workdir, at_touch, count_into)
    deadline = time.monotonic() + (LONGEST_ATTEMPT if after is None else after)
    while time.monotonic() < deadline:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    assert after is not None, f"a process hangs: {said(workdir)}"
    return os.waitstatus_to_exitcode(status)


def child(workdir, at_touch, count_into):
    """In the forked process: the command, as from a terminal; does not return."""
    status = 70
    try:
        output = os.open(workdir.with_suffix(".said"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(cache_of(workdir))
        import jax

        jax.config.update("jax_compilation_cache_dir", str(cache_of(workdir)))
        touched = kill_at(workdir, at_touch)
        sys.argv = ["meta_train", f"--workdir={workdir}", *SETTINGS]
        from meta_train import train

        try:
            train.run()
        except SystemExit as end:
            status = end.code or 0
        if count_into is not None:
            count_into.write_text(str(touched()))
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def kill_at(workdir, number):
    """Kill this process at its touch of this number of what is the run's or its cache's."""
    prefix = str(workdir)
    count = 0

    def hook(event, arguments):
        nonlocal count
        if event in TOUCHING and arguments and str(arguments[0]).startswith(prefix):
            count += 1
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    return lambda: count


def cache_of(workdir):
    return workdir.with_suffix(".cache")


def said(workdir):
    return workdir.with_suffix(".said").read_text(errors="replace")[-2000:]


def progress(workdir):
    """What a kill has left, in words."""
    rows = workdir / "metrics.jsonl"
    folder = workdir / "checkpoints"
    names = sorted(p.name for p in folder.iterdir()) if folder.exists() else []
    return f"{rows.read_text().count(chr(10)) if rows.exists() else 0} rows, {names}"


def outcome_of(workdir):
    """All that does not depend on time: θ, the rows, TensorBoard's steps, what is on disk."""
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    steps = [row["step"] for row in rows]
    assert steps == list(range(LOG_EVERY, UPDATES + 1, LOG_EVERY)), steps
    assert tensorboard_steps(workdir / "tensorboard") == steps
    assert isinstance(json.loads((workdir / "provenance.json").read_text()), list)
    timeless = [
        {k: v for k, v in row.items() if k not in ("seconds", "inner_steps_per_second")}
        for row in rows
    ]
    checkpoints = sorted(int(p.name) for p in (workdir / "checkpoints").iterdir())
    left = sorted(p.name for p in workdir.iterdir() if p.name != ".lock")
    theta = (workdir / "optimizer/theta.safetensors").read_bytes()
    return theta, timeless, checkpoints, left


def tensorboard_steps(folder):
    """The steps that TensorBoard shows: a process that takes a run up purges what is after."""
    steps = []
    for path in sorted(folder.iterdir()):
        for event in events_in(path.read_bytes()):
            if event.session_log.status == SessionLog.START:
                steps = [step for step in steps if step < event.step]
            elif event.HasField("summary"):
                steps.append(event.step)
    return steps


def events_in(data):
    """Events of records: a length, a checksum, the event, a checksum; the last may be cut."""
    while len(data) >= 12:
        (length,) = struct.unpack("<Q", data[:8])
        if len(data) < 16 + length:
            return
        yield Event.FromString(data[12 : 12 + length])
        data = data[16 + length :]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, required=True)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    # Imported, but with no device and no thread of its own, before any fork.
    from meta_train import train  # noqa: F401

    kills_at_random(given.folder, given.kills, given.seed, lambda text: print(text, flush=True))


if __name__ == "__main__":
    main()
