"""Meta-validation in the loop: scores by hand, the best θ kept, an early end, an exact resume."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learned_opt
from meta_train.assemble import assemble
from meta_train.config import ConfigError, MetaTrainConfig, check_config
from meta_train.evaluate.runs import run_key
from meta_train.runner import meta_train
from meta_train.validation import FIRST_SEED, Validator, best_of, kept_theta
from meta_train.workdir import begin_workdir
from tasks import get_family

CONFIG = MetaTrainConfig(
    task="quadratic8", rule="hyper", particles=4, window=5, length_min=10, length_max=10,
    updates=24, warmup=2, learning_rate=0.3, log_every=2, checkpoint_every=6,
    validate_every=4, validation_suite="quadratic8@12,quadratic16@8", validation_seeds=3,
)  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("finished")
    begin_workdir(workdir, CONFIG)
    assert meta_train(assemble(CONFIG), workdir) == 0
    return workdir


def rows_of(workdir):
    return [json.loads(line) for line in (workdir / "validation.jsonl").read_text().splitlines()]


def test_every_validation_has_a_row_and_the_best_is_the_result(finished):
    rows = rows_of(finished)
    assert [row["step"] for row in rows] == [4, 8, 12, 16, 20, 24]
    lowest = min(rows, key=lambda row: row["score"])
    best = learned_opt.read(finished / "optimizer")
    last = learned_opt.read(finished / "optimizer_last")
    told = best.manifest["meta_training"]["validation"]
    assert told["best_update"] == lowest["step"]
    assert told["updates"] == [row["step"] for row in rows]
    assert told["scores"] == [row["score"] for row in rows]
    jax.tree.map(np.testing.assert_array_equal, best.theta, kept_theta(finished, lowest["step"]))
    assert last.manifest["meta_training"]["updates"] == 24
    kept = {int(path.stem) for path in (finished / "validated").iterdir()}
    assert kept == {row["step"] for row in rows if row["better"]}


def test_a_score_is_that_of_plain_loops(finished):
    row = rows_of(finished)[0]
    tx = learned_opt.read(finished / f"validated/{row['step']:09d}.safetensors")
    scores = {}
    for name, steps in (("quadratic8", 12), ("quadratic16", 8)):
        family = get_family(name)
        losses = [by_hand(family, tx, steps, FIRST_SEED + i) for i in range(3)]
        scores[f"{name} @ {steps}"] = np.mean(losses) / family.metadata.initial_loss
    assert row["tasks"] == pytest.approx(scores, rel=1e-4)
    assert row["score"] == pytest.approx(np.mean(list(scores.values())), rel=1e-4)


def by_hand(family, saved, steps, seed):
    key = run_key(family.name, steps, seed)
    key_sample, key_init = jax.random.split(jax.random.fold_in(key, 0))
    task = family.build(family.sample(key_sample))
    params, model_state = task.init(key_init)
    tx = saved.build(steps)
    state, splits = tx.init(params), family.load()

    @jax.jit
    def step(params, state, i):
        key_batch, key_loss, _ = jax.random.split(jax.random.fold_in(key, 1 + i), 3)
        batch = family.batch(key_batch, splits["train"])
        loss = jax.value_and_grad(task.loss, has_aux=True)
        (value, _), gradient = loss(params, model_state, key_loss, batch)
        updates, state = tx.update(gradient, state, params, value=value)
        return jax.tree.map(jnp.add, params, updates), state

    for i in range(steps):
        params, state = step(params, state, i)
    scored = family.examples(splits["outer_validation"], 1000)
    return float(task.loss(params, model_state, key, scored)[0])


def test_training_is_what_it_is_without_validation(finished, tmp_path):
    plain = dataclasses.replace(CONFIG, validate_every=0)
    (tmp_path / "plain").mkdir()
    begin_workdir(tmp_path / "plain", plain)
    meta_train(assemble(plain), tmp_path / "plain")
    theta = learned_opt.read(tmp_path / "plain/optimizer").theta
    last = learned_opt.read(finished / "optimizer_last").theta
    jax.tree.map(np.testing.assert_array_equal, theta, last)
    assert not (tmp_path / "plain/validation.jsonl").exists()
    assert not (tmp_path / "plain/optimizer_last").exists()


def test_a_run_cut_anywhere_ends_with_the_same_validations(finished, tmp_path):
    """The checkpoint is behind the validations that were written: they come again, the same."""
    cut = tmp_path / "cut"
    shutil.copytree(finished, cut)
    for name in ("optimizer", "optimizer_last"):
        shutil.rmtree(cut / name)
    newest = sorted((cut / "checkpoints").iterdir(), key=lambda path: int(path.name))
    for path in newest[1:]:
        shutil.rmtree(path)
    assert int(newest[0].name) < 24
    assert meta_train(assemble(CONFIG), cut) == 0
    assert rows_of(cut) == rows_of(finished)
    for name in ("optimizer", "optimizer_last"):
        ours, theirs = (learned_opt.read(folder / name).theta for folder in (cut, finished))
        jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_validation_switched_off_at_resume_chooses_nothing_and_on_again_all(finished, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(finished, workdir)
    rows = [row | {"better": row["step"] == 4} for row in rows_of(workdir)]  # not the last one
    (workdir / "validation.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    best = kept_theta(workdir, 4)
    last = learned_opt.read(workdir / "optimizer_last").theta
    off = dataclasses.replace(CONFIG, validate_every=0)
    for config, expected in ((off, last), (CONFIG, best)):
        assert meta_train(assemble(config), workdir) == 0
        for name, theta in (("optimizer", expected), ("optimizer_last", last)):
            found = learned_opt.read(workdir / name)
            jax.tree.map(np.testing.assert_array_equal, found.theta, theta)
        told = learned_opt.read(workdir / "optimizer").manifest["meta_training"]
        assert ("validation" in told) == (config is CONFIG)
    assert rows_of(workdir) == rows


def test_patience_ends_a_run_that_gets_no_better_and_it_stays_ended(tmp_path, capsys):
    """With a huge rate θ wanders off: a while after the best, the run ends, and stays so."""
    config = dataclasses.replace(
        CONFIG, learning_rate=30.0, updates=80, patience=3, clip_norm=100.0
    )
    workdir = tmp_path / "run"
    workdir.mkdir()
    begin_workdir(workdir, config)
    assert meta_train(assemble(config), workdir) == 0
    rows = rows_of(workdir)
    best = best_of(rows)
    assert best.since == 3
    assert rows[-1]["step"] == best.step + 12 < 80
    assert "3 validations in a row were no better" in capsys.readouterr().err
    facts = learned_opt.read(workdir / "optimizer").manifest["meta_training"]
    assert (facts["updates"], facts["updates_of_run"]) == (best.step, rows[-1]["step"])
    last = learned_opt.read(workdir / "optimizer_last").manifest["meta_training"]
    assert last["updates"] == rows[-1]["step"]
    before = (workdir / "validation.jsonl").read_bytes()
    assert meta_train(assemble(config), workdir) == 0
    assert (workdir / "validation.jsonl").read_bytes() == before


def test_a_diverged_run_counts_as_the_bound(tmp_path):
    run = assemble(CONFIG)
    validator = Validator(run, tmp_path, first_step=0)
    validator.prepare()
    state = run.training.init(run.key_init)
    huge = jax.tree.map(lambda x: jnp.full_like(x, 60.0), state.theta)
    assert validator.validate(4, huge)["validation/score"] == CONFIG.loss_clip


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"validate_every": 3}, "`config.validate_every`=3 must be a multiple of `config.log"),
        ({"validate_every": 0, "patience": 2}, "set `config.validate_every`"),
        ({"patience": -1}, "`config.patience`=-1: must be at least 0"),
        ({"validation_seeds": 0}, "`config.validation_seeds`=0: must be at least 1"),
    ],
)
def test_settings_that_do_not_go_together_are_named(changes, told):
    with pytest.raises(ConfigError, match=told):
        check_config(dataclasses.replace(CONFIG, **changes))


def test_an_unknown_suite_is_named_before_anything_is_trained(tmp_path):
    config = dataclasses.replace(CONFIG, validation_suite="nope")
    with pytest.raises(ConfigError, match="'nope' is no suite"):
        meta_train(assemble(config), tmp_path)
    assert not (tmp_path / "metrics.jsonl").exists()
