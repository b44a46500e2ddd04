"""The commands with rules that need more than gradients: a rate, the loss, the horizon."""

import jax
import numpy as np
import pytest

import learned_opt
from tests.end_to_end.commands import EVALUATE, TRAIN, run

CONSTANTS = '{"step_multiplier": 0.03}'
SHORT = ("--preset=tiny", "--config.updates=20", "--config.checkpoint_every=10")


def train(workdir, *settings):
    code, _, error = run(TRAIN, f"--workdir={workdir}", *SHORT, *settings)
    assert code == 0, error
    return learned_opt.read(workdir / "optimizer")


@pytest.mark.slow
def test_celo_is_trained_in_two_phases_and_evaluated(tmp_path):
    first = train(tmp_path / "1", "--config.rule=scheduled_mlp", "--config.freeze=scheduler")
    assert first.optimizer.constants["scheduled"] is False
    second = train(
        tmp_path / "2", "--config.rule=scheduled_mlp", f"--config.constants={CONSTANTS}",
        f"--config.initial={tmp_path / '1/optimizer'}", "--config.freeze=rule",
    )  # fmt: skip
    jax.tree.map(np.testing.assert_array_equal, first.theta["rule"], second.theta["rule"])
    moved = [
        not np.array_equal(a, b)
        for a, b in zip(
            jax.tree.leaves(first.theta["scheduler"]),
            jax.tree.leaves(second.theta["scheduler"]),
            strict=True,
        )
    ]
    assert any(moved)
    envelope = second.manifest["meta_training"]
    assert envelope["initial_sha256"] == first.manifest["sha256"]
    assert envelope["config"]["freeze"] == "rule"
    evaluation = [f"--optimizer={tmp_path / '2/optimizer'}", f"--workdir={tmp_path / 'e'}"]
    code, output, error = run(EVALUATE, *evaluation, "--suite=tiny")
    assert code == 0, error
    assert "Adam ÷ 2" in output  # by its folder


@pytest.mark.slow
def test_a_normalized_rule_recommends_the_rate_that_it_was_trained_with(tmp_path):
    found = train(tmp_path / "run", "--config.rule=normalized_mlp")
    assert found.optimizer.constants["learning_rate"] == 0.01
    params = {"w": np.ones((3, 2), np.float32)}
    tx = learned_opt.load(tmp_path / "run/optimizer")
    faster = learned_opt.load(tmp_path / "run/optimizer", learning_rate=lambda count: 0.02)
    once, _ = tx.update(params, tx.init(params), params)
    twice, _ = faster.update(params, faster.init(params), params)
    np.testing.assert_allclose(twice["w"], 2 * once["w"], rtol=1e-5)
    evaluation = [f"--optimizer={tmp_path / 'run/optimizer'}", f"--workdir={tmp_path / 'e'}"]
    code, output, error = run(EVALUATE, *evaluation, "--suite=tiny")
    assert code == 0, error
    assert "Adam ÷ run" in output  # by its folder
