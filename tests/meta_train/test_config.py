"""Settings are checked before anything else happens."""

import dataclasses
import json
import subprocess
import sys

import pytest

from meta_train.command_line import given_directory
from meta_train.config import ConfigError, MetaTrainConfig, as_dict, check_config
from meta_train.files import sole_use
from meta_train.presets import PRESETS, TINY
from meta_train.workdir import begin_workdir, check_workdir, read_processes, record_process


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_legal(name):
    check_config(PRESETS[name])


def test_a_configuration_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TINY.window = 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"rule": "nope"},
            r"`config.rule`='nope' is unknown; legal ones: \['adafactor_mlp', .*'scheduled_mlp'\]",
        ),
        (
            {"estimator": "nope"},
            r"`config.estimator`='nope' is unknown; legal ones: \['dodge', .*'pes\'",
        ),
        ({"meta_loss": "test"}, "`config.meta_loss`='test' is unknown"),
        ({"window": 7}, "`config.window`=7 does not divide `config.length_min`=10"),
        ({"length_max": 42}, "`config.window`=5 does not divide `config.length_max`=42"),
        ({"length_max": 5}, "`config.length_max`=5 is below `config.length_min`=10"),
        ({"window": 0}, "`config.window`=0: must be at least 1"),
        ({"particles": 5}, "`config.particles`=5: must be even"),
        ({"particles": 0}, "`config.particles`=0"),
        ({"sigma": 0.0}, "`config.sigma`=0.0: must be positive"),
        ({"sigma": -0.1}, "`config.sigma`=-0.1"),
        ({"sigma": float("nan")}, "`config.sigma`=nan"),
        ({"learning_rate": 0.0}, "`config.learning_rate`=0.0"),
        ({"clip_norm": float("inf")}, "`config.clip_norm`=inf"),
        ({"learning_rate_end": 1.5}, "`config.learning_rate_end`=1.5"),
        ({"loss_clip": 1.0}, "`config.loss_clip`=1.0"),
        ({"warmup": 60}, "`config.warmup`=60 leaves nothing of `config.updates`=60"),
        ({"updates": 0}, "`config.updates`=0"),
        ({"seed": -1}, "`config.seed`=-1"),
        ({"seed": 1 << 32}, "`config.seed`=4294967296"),
        ({"updates": 3_000_000_000}, "`config.updates`=3000000000"),
        ({"sigma": 1e-25}, "`config.sigma`=1e-25: must be at least"),
        ({"checkpoint_every": 15}, "`config.checkpoint_every`=15 must be a multiple"),
        ({"keep_checkpoints": 0}, "`config.keep_checkpoints`=0"),
        ({"devices": -1}, "`config.devices`=-1"),
        (
            {"estimator": "full_es"},
            "`config.window`=5: 'full_es' unrolls whole episodes",
        ),
        ({"estimator": "gpes"}, "`config.noise_period`=0: for 'gpes' a positive multiple"),
        ({"estimator": "gpes", "noise_period": 7}, "`config.noise_period`=7"),
        ({"noise_period": 5}, "`config.noise_period`=5: .*for the other estimators 0"),
        ({"mixture": "pes=1"}, "`config.mixture`='pes=1' is for `config.estimator`=mixture"),
        ({"estimator": "mixture"}, "`config.mixture`='': must be NAME=WEIGHT"),
        ({"estimator": "mixture", "mixture": "pes=x"}, "`config.mixture`='pes=x'"),
        ({"estimator": "mixture", "mixture": "pez=1"}, "with names of .*'pes'"),
        ({"estimator": "mixture", "mixture": "pes=0.5"}, "weights add up to 0.5, not 1"),
        ({"transform": "signs"}, "`config.transform`='signs' is unknown; legal ones: identity"),
        ({"estimator": "rtrl", "transform": "sign"}, "`config.transform`='sign'.*no loss differ"),
        (
            {"estimator": "pes_analytic", "meta_loss": "validation_accuracy"},
            "`config.meta_loss`='validation_accuracy' has no derivative, which 'pes_analytic'",
        ),
    ],
)
def test_a_setting_out_of_range_is_named_with_its_value(changes, message):
    with pytest.raises(ConfigError, match=message):
        check_config(dataclasses.replace(TINY, **changes))


def test_every_setting_is_described():
    for name in as_dict(TINY):
        assert f"{name}:" in MetaTrainConfig.__doc__ or f"{name}," in MetaTrainConfig.__doc__


def test_a_workdir_is_of_one_configuration(tmp_path):
    workdir = tmp_path / "run"
    check_workdir(workdir, TINY)
    with sole_use(workdir):
        begin_workdir(workdir, TINY)
    check_workdir(workdir, TINY)
    check_workdir(workdir, dataclasses.replace(TINY, checkpoint_every=30, keep_checkpoints=9))
    changed = dataclasses.replace(TINY, sigma=0.5, seed=3)
    with pytest.raises(
        ConfigError,
        match=r"another configuration: seed is 0 there and 3 here; sigma is 0.05 there and 0.5 ",
    ):
        check_workdir(workdir, changed)
    assert json.loads((workdir / "config.json").read_text()) == as_dict(TINY)


def test_what_a_killed_process_was_about_to_write_is_no_hindrance(tmp_path):
    (tmp_path / ".config.json.partial").write_text("{")
    with sole_use(tmp_path):
        begin_workdir(tmp_path, TINY)
    assert json.loads((tmp_path / "config.json").read_text()) == as_dict(TINY)
    assert not (tmp_path / ".config.json.partial").exists()


def test_one_process_at_a_time_works_in_a_directory(tmp_path):
    code = (
        "import sys, pathlib; from meta_train.files import sole_use\n"
        "with sole_use(pathlib.Path(sys.argv[1])): print('in it', flush=True); input()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout.readline() == "in it\n"
    with pytest.raises(ConfigError, match="another process works in --workdir="):
        sole_use(tmp_path).__enter__()
    other.kill()
    other.communicate()
    with sole_use(tmp_path):
        pass


def test_every_process_of_a_run_is_on_record(tmp_path):
    facts = {"versions": {"jax": "1"}, "devices": ["cpu", "cpu"], "block": 1}
    with sole_use(tmp_path):
        begin_workdir(tmp_path, TINY)
        assert record_process(tmp_path, TINY, update=0, facts=facts) == []
        assert record_process(tmp_path, TINY, update=20, facts=facts) == []
        changed = record_process(tmp_path, TINY, update=40, facts=facts | {"block": 8})
    assert changed == ["block was 1 and is 8"]
    processes = read_processes(tmp_path)
    assert [process["from_update"] for process in processes] == [0, 20, 40]
    (tmp_path / "provenance.json").write_text("{")
    assert read_processes(tmp_path) == []


def test_other_directories_are_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match=r"is not empty and holds no config\.json"):
        check_workdir(tmp_path, TINY)
    for name, message in (
        (tmp_path / "thesis.tex", "is a file; name a directory"),
        (" ", "is empty; name a directory"),
    ):
        with pytest.raises(ConfigError, match=message):
            given_directory(str(name))
    with (
        pytest.raises(ConfigError, match="cannot be written to"),
        sole_use(tmp_path / "thesis.tex" / "run"),
    ):
        pass
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ConfigError, match="is damaged"):
        check_workdir(tmp_path, TINY)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ConfigError, match="another configuration"):
        check_workdir(tmp_path, TINY)
