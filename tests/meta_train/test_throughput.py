"""The host loop costs next to nothing: nothing in it waits."""

import dataclasses
import itertools
import time

import jax
import numpy as np
import pytest

from checkpoints import TrainingCheckpoints
from meta_train.assemble import assemble
from meta_train.loop import compile_advance, train
from meta_train.presets import DEMO

UPDATES = 50
REPEATS = 7


@pytest.mark.slow
def test_a_run_of_fifty_updates_costs_at_most_a_fifth_more_than_its_compiled_step(tmp_path):
    """The whole loop, with its log, its progress bar and a checkpoint at the end, against the
    same calls of the compiled step; in turns, and the median ratio counts."""
    run = assemble(dataclasses.replace(DEMO, updates=UPDATES, warmup=1, devices=2))
    advance = compile_advance(run, run.training.init(run.key_init))
    numbers = itertools.count()

    def bare(state):
        for _ in range(UPDATES // run.config.log_every):
            state, _ = advance(state, np.int32(run.config.log_every), run.key_updates, run.data)
        return state

    def loop(state):
        workdir = tmp_path / str(next(numbers))
        workdir.mkdir()
        checkpoints = TrainingCheckpoints(workdir / "checkpoints", keep=1, run={})
        started = time.perf_counter()
        outcome = train(run, advance, state, workdir, checkpoints)
        seconds = time.perf_counter() - started
        checkpoints.close()
        assert outcome.step == UPDATES
        assert checkpoints.latest() == UPDATES
        return outcome, seconds

    ratios = []
    for _ in range(REPEATS):
        state = jax.block_until_ready(run.training.init(run.key_init))
        started = time.perf_counter()
        expected = jax.block_until_ready(bare(state))
        step_seconds = time.perf_counter() - started
        outcome, seconds = loop(jax.block_until_ready(run.training.init(run.key_init)))
        jax.tree.map(np.testing.assert_array_equal, outcome.state.theta, expected.theta)
        ratios.append(seconds / step_seconds)
    assert np.median(ratios) <= 1.2, ratios
