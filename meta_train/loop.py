"""The host loop: it dispatches compiled calls, and reads, logs and saves behind them."""

import math
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from checkpoints import TrainingCheckpoints
from checkpoints.steady_clock import now
from meta_train.assemble import Run
from meta_train.config import ConfigError, MetaTrainConfig
from meta_train.feed import Feed
from meta_train.hosts.peers import ALONE, Peers
from meta_train.hosts.turns import Turns
from meta_train.meta_training import Advance, MetaState, Metrics
from meta_train.metrics import MetricsWriter, NoWriter
from meta_train.pace import LONG_UPDATE_SECONDS, Pace
from meta_train.validation import Validator


class Outcome(NamedTuple):
    """How a loop ended.

    ``step``: updates of θ made, ``advanced`` of them in this loop; ``stopped_by``: a signal,
    or None; compilation is not in the rate.
    """

    state: MetaState
    step: int
    advanced: int
    stopped_by: signal.Signals | None
    inner_steps_per_second: float


def compile_advance(run: Run, state: MetaState) -> Advance:
    """The compiled meta-step of a run, from the cache where it is there."""
    return run.training.compiled(state, run.key_updates, run.data)


def train(
    run: Run,
    advance: Advance,
    state: MetaState,
    workdir: Path,
    checkpoints: TrainingCheckpoints,
    peers: Peers = ALONE,
    validator: Validator | None = None,
) -> Outcome:
    """Advance ``state`` to the last update, or until SIGTERM or Ctrl-C, and save it.

    The metrics of a call are read while the next one runs, so that two calls are in flight:
    enough to keep the devices busy, and far from the 32 at which XLA's CPU client can lock up
    over a collective. Checkpoints are written in the background. A stop is heeded at the end
    of a call, which `Pace` keeps short, and so is `config.max_skipped`. No call straddles a
    refresh of streamed data.
    Of several processes the first writes the log; all make the same calls and stop together.
    A ``validator`` looks at θ between two calls; the devices are its own for that long.

    Raises:
      ConfigError: θ is no longer finite; what was saved before stays.
      CheckpointError, OSError: what was to be saved could not be written.
      HostsError: θ is not the same in all processes.
      DataUnavailableError: streamed data cannot be read any more; what was saved before stays.
    """
    config = run.config
    first = step = int(state.step)
    saved: int | None = None
    with (
        heeded_signals() as stopped_by,
        MetricsWriter(workdir, first_step=first) if peers.first else NoWriter() as writer,
        progress_bar(config.updates, first, shown=peers.first) as bar,
        Feed(run) as feed,
    ):
        clock, pace, turns = Clock(), Pace(), Turns(peers)
        got: signal.Signals | None = None
        reader = _Reader(config, writer, bar, clock, pace)
        while step < config.updates:
            to_the_row = config.log_every - step % config.log_every
            most = feed.updates(step, min(to_the_row, config.updates - step))
            if validator is not None:
                if validator.is_due(step):
                    reader.catch_up()
                    writer.show(step, validator.validate(step, state.theta))
                    clock.leave_out()
                if validator.enough:
                    break
                most = validator.updates(step, most)
            count, got, enough = turns.agree(
                step,
                updates=pace.updates(most),
                signal_got=stopped_by(),
                enough=reader.too_many_skipped,
            )
            if got is not None or enough:
                break
            state, metrics = advance(state, np.int32(count), run.key_updates, feed.at(step))
            step += count
            turns.note(step, state.theta)
            reader.read_one_late(step, count, metrics)
            if pace.one_at_a_time():
                reader.catch_up()
                reader.say_that_updates_are_long()
            if step % config.checkpoint_every == 0 and step < config.updates:
                reader.catch_up()  # no row is ever missing before a checkpoint
                turns.settle(step)
                checkpoints.save(step, state)
                saved = step
        reader.catch_up()
        turns.settle(step)
        seconds = clock.total()
        if validator is not None and step == config.updates and validator.is_due(step):
            writer.show(step, validator.validate(step, state.theta))
        if step != saved and step > first:
            checkpoints.save(step, state)
        checkpoints.wait()
        rate = reader.inner_steps / seconds
        return Outcome(state, step, step - first, got, rate)


class Clock:
    """Seconds since the last lap, and since the start."""

    def __init__(self) -> None:
        self._start = self._last = time.perf_counter()

    def lap(self) -> float:
        """Seconds since the last lap."""
        now = time.perf_counter()
        self._last, seconds = now, now - self._last
        return seconds

    def leave_out(self) -> None:
        """Let the time since the last lap be nobody's."""
        self._start += self.lap()

    def total(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._start


class _Reader:
    """Fetches the metrics of a call once the next call is under way, and writes whole rows.

    ``too_many_skipped``: in a row, as ``config.max_skipped`` has it; ``inner_steps``: done so far.
    """

    def __init__(
        self,
        config: MetaTrainConfig,
        writer: MetricsWriter | NoWriter,
        bar: tqdm,
        clock: Clock,
        pace: Pace,
    ):
        self._config = config
        self._writer, self._bar, self._clock, self._pace = writer, bar, clock, pace
        self.inner_steps = 0.0
        self._waiting: tuple[int, int, Metrics] | None = None
        self._row = _Row()
        self.too_many_skipped = False
        self._long_calls = 0

    def read_one_late(self, step: int, count: int, metrics: Metrics) -> None:
        self.catch_up(count)
        self._waiting = (step, count, metrics)

    def catch_up(self, next_count: int | None = None) -> None:
        """Read the call that waits; ``next_count``: updates of the one dispatched after it."""
        if self._waiting is None:
            return
        step, count, on_device = self._waiting
        self._waiting = None
        metrics = {name: float(value) for name, value in jax.device_get(on_device).items()}
        if not math.isfinite(metrics["theta_norm"]):
            raise ConfigError(
                f"θ is not finite after update {step}; lower `config.learning_rate`, or raise "
                "`config.sigma` if it is tiny, and choose another directory"
            )
        self.too_many_skipped = metrics["longest_skipped"] >= self._config.max_skipped
        seconds = self._clock.lap()
        # Some devices work on a call while it is dispatched: it may be the next one's time.
        self._pace.took(min(count, next_count or count), seconds)
        inner_steps = count * self._config.window * self._config.particles * metrics.get("tasks", 1)
        self.inner_steps += inner_steps
        self._row = _Row(self._row.inner_steps + inner_steps, self._row.seconds + seconds)
        self._bar.update(count)
        if step % self._config.log_every == 0 or step == self._config.updates:
            self._write_row(step, metrics)

    def say_that_updates_are_long(self) -> None:
        """Once, for a person who will want to stop the run; not for a call that was held up."""
        self._long_calls += 1
        if self._long_calls == 3 and not self._bar.disable:
            self._bar.write(
                f"note: an update takes more than {LONG_UPDATE_SECONDS:g} s; a signal to stop is "
                "heeded at the end of one",
                file=sys.stderr,
            )

    def _write_row(self, step: int, metrics: Mapping[str, float]) -> None:
        row, self._row = self._row, _Row()
        rate = row.inner_steps / row.seconds
        cost = {"seconds": round(row.seconds, 6), "inner_steps_per_second": round(rate, 1)}
        self._writer.write(step, {**metrics, **cost})
        self._bar.set_postfix_str(
            f"meta-loss {metrics['meta_loss']:.4f}, {rate:,.0f} inner steps/s", refresh=False
        )


class _Row(NamedTuple):
    """What this process has done of a row of the log."""

    inner_steps: float = 0.0
    seconds: float = 0.0


def progress_bar(total: int, first: int, *, shown: bool = True) -> tqdm:
    """A bar on standard error; in a log file, a line every half minute."""
    bar = tqdm(
        total=total,
        initial=first,
        unit=" updates",
        desc="meta-training",
        dynamic_ncols=True,
        disable=not shown,
        mininterval=0.3 if sys.stderr.isatty() else 30.0,
    )
    bar._time = now  # else it stands still until a clock that was set back has made up for it
    bar.start_t = bar.last_print_t = now()
    return bar


@contextmanager
def heeded_signals() -> Iterator[Callable[[], signal.Signals | None]]:
    """Within, SIGTERM and SIGINT are noted, not obeyed; a second SIGINT is obeyed.

    Yields a function that gives the signal received, or None.
    """
    received: list[signal.Signals] = []

    def note(number: int, frame: FrameType | None) -> None:
        del frame
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(signal.Signals(number))

    before = {s: signal.signal(s, note) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: received[0] if received else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
