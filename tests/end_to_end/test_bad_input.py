"""Bad input: one line that names the argument, its value and the way out, a non-zero exit, and
nothing written over."""

import json
import re
import resource
import shutil

import jax
import pytest

import learned_opt
from learned_opt import RULES
from tests.end_to_end.commands import EVALUATE, TRAIN, rows, run, start, theta


def refused(result):
    """The one line on standard error of a command that refused."""
    code, output, error = result
    assert code not in (0, None)
    assert output == ""
    assert "Traceback" not in error
    lines = error.strip().splitlines()
    assert len(lines) == 1, error
    assert lines[0].startswith("error: ")
    return lines[0]


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ("--preset=nope", "unknown --preset='nope'; legal ones: demo, tiny"),
        ("--config.task=nope", "unknown task 'nope'; `python -m tasks list` has all of them"),
        ("--config.task=quadratic8+delay:0", "K='0' must be an integer from 1; legal ones: re"),
        ("--config.task=quadratic8+label_noise:1", "'quadratic8' have no label; leave out `label"),
        ("--config.memory_limit=0.001", "on each device, where 1.0 MB are available: "),
        ("--config.window=7", "`config.window`=7 does not divide `config.length_min`=10"),
        ("--config.sigma=0", "`config.sigma`=0.0: must be positive"),
        ("--config.sigma=-1", "`config.sigma`=-1.0"),
        ("--config.windw=5", "windw"),
        ("--config.windw=5", "legal ones: seed, task"),
        ("--config.window=five", "--config.window=five"),
        ("--config.task=cifar10_8x8_mlp32", "the TFDS set 'cifar10' is not prepared under"),
        ("--config.devices=64", "`config.devices`=64: there are 2 cpu devices"),
        ("--config.seed=99999999999999999999999", "`config.seed`=99999999999999999999999"),
        ("--num_processes=2", "--coordinator, --process_id missing: a run of several processes"),
        ("--coordinator=host", "--process_id, --num_processes missing"),
        ("--peer_timeout=0", "--peer_timeout=0.0: must be positive, in seconds"),
        ("--workdir=", "--workdir='' is empty; name a directory"),
        ("--workdir=/proc/x", "--workdir='/proc/x' cannot be written to"),
        ("--wrkdir=x", "wrkdir"),
        ("surplus", "unexpected argument 'surplus'"),
    ],
)
def test_meta_train_refuses(tmp_path, argument, told):
    workdir = tmp_path / "run"
    changes = {"TFDS_DATA_DIR": str(tmp_path)}
    line = refused(run(TRAIN, "--preset=tiny", f"--workdir={workdir}", argument, **changes))
    assert told in line
    assert not workdir.exists()


@pytest.mark.parametrize(
    ("module", "told"),
    [
        (TRAIN, ("--workdir=DIR", "--preset:", "goes on where it was stopped")),
        (EVALUATE, ("--optimizer:", "--suite:", "--[no]download:", "report.html")),
    ],
)
def test_help_says_what_there_is(module, told):
    code, output, error = run(module, "--help")
    assert (code, error) == (0, "")
    for words in told:
        assert words in output
    _, output, _ = run(module, "--helpfull")
    assert ("sigma: 0.05" in output) == (module == TRAIN)


def test_meta_train_needs_a_workdir():
    assert "--workdir" in refused(run(TRAIN, "--preset=tiny"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("finished") / "run"
    code, _, error = run(TRAIN, "--preset=tiny", f"--workdir={workdir}")
    assert code == 0, error
    return workdir


@pytest.fixture
def workdir(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def test_a_workdir_of_another_configuration(workdir):
    before = theta(workdir)
    line = refused(run(TRAIN, "--preset=tiny", f"--workdir={workdir}", "--config.sigma=0.5"))
    assert "another configuration: sigma is 0.05 there and 0.5 here" in line
    assert theta(workdir) == before
    assert json.loads((workdir / "config.json").read_text())["sigma"] == 0.05


def damage(checkpoint):
    for path in checkpoint.rglob("*"):
        if path.is_file() and path.stat().st_size > 1_000:
            path.write_bytes(path.read_bytes()[:500])


def test_a_damaged_checkpoint_gives_way_to_the_one_before(workdir):
    damage(workdir / "checkpoints/60")
    before, logged = theta(workdir), rows(workdir)
    shutil.rmtree(workdir / "optimizer")
    code, output, error = run(TRAIN, "--preset=tiny", f"--workdir={workdir}")
    assert (code, output) == (0, ""), error
    assert re.search(r"note: checkpoint '.*/60' is damaged \(.*\); it is left out, and the", error)
    assert "resuming after update 40" in error
    assert theta(workdir) == before
    assert [row["step"] for row in rows(workdir)] == [row["step"] for row in logged]
    assert sorted(p.name for p in (workdir / "checkpoints").iterdir()) == ["20", "40", "60"]


def test_where_all_checkpoints_are_damaged_nothing_is_touched(workdir):
    for number in (20, 40, 60):
        damage(workdir / f"checkpoints/{number}")
    before = {p: p.read_bytes() for p in workdir.rglob("*") if p.is_file()}
    line = refused(run(TRAIN, "--preset=tiny", f"--workdir={workdir}"))
    assert "none of the checkpoints can be read" in line
    assert all(f"checkpoints/{number}' is damaged" in line for number in (20, 40, 60))
    assert "choose another directory to begin again" in line
    assert before == {p: p.read_bytes() for p in workdir.rglob("*") if p.is_file()}


@pytest.mark.slow
def test_a_foreign_checkpoint(workdir, tmp_path):
    other = tmp_path / "other"
    code, _, error = run(TRAIN, "--preset=tiny", f"--workdir={other}", "--config.seed=5")
    assert code == 0, error
    shutil.rmtree(workdir / "checkpoints")
    shutil.copytree(other / "checkpoints", workdir / "checkpoints")
    line = refused(run(TRAIN, "--preset=tiny", f"--workdir={workdir}"))
    assert "checkpoints/60' is of another run: seed is 5 there and 0 here" in line


@pytest.mark.slow
def test_a_theta_that_is_no_longer_finite_ends_the_run(tmp_path):
    settings = ("--preset=tiny", "--config.learning_rate=1e38", "--config.warmup=1")
    code, output, error = run(TRAIN, *settings, f"--workdir={tmp_path / 'run'}")
    assert code == 2
    assert output == ""
    assert "Traceback" not in error
    last = error.strip().splitlines()[-1]
    assert re.search(r"error: θ is not finite after update \d+; lower `config.learning_rate`", last)
    assert not (tmp_path / "run/optimizer").exists()


def test_a_run_that_would_not_fit_on_the_disk_is_not_begun(tmp_path):
    workdir = tmp_path / "run"
    settings = ("--preset=tiny", "--config.keep_checkpoints=1000000000")
    line = refused(run(TRAIN, f"--workdir={workdir}", *settings))
    assert "no space left" in line
    assert "lower `config.keep_checkpoints`" in line
    assert not workdir.exists()


@pytest.mark.slow
def test_a_disk_that_fills_up_is_named_and_the_run_can_go_on(tmp_path, finished):
    """The limit on the size of a file stands for a full disk: a checkpoint does not fit."""
    workdir = tmp_path / "run"
    limited = start(TRAIN, "--preset=tiny", f"--workdir={workdir}")
    resource.prlimit(limited.pid, resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    output, error = limited.communicate(timeout=120)
    assert limited.returncode == 1
    assert output == ""
    assert "Traceback" not in error
    last = error.strip().splitlines()[-1]
    assert last.startswith("error: no space left")
    assert last.endswith("free some and run the same command")
    code, _, error = run(TRAIN, "--preset=tiny", f"--workdir={workdir}")
    assert code == 0, error
    assert theta(workdir) == theta(finished)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--optimizer=nope", "--suite=tiny"), "no learned optimizer at 'nope'"),
        (
            ("--optimizer={good}", "--suite=nope"),
            "--suite='nope' is no suite (legal ones: demo, tiny",
        ),
        (("--optimizer={damaged}", "--suite=tiny"), "is damaged: its tensor"),
        (("--suite=tiny",), "--optimizer"),
        (("--optimizer={odd}", "--suite=tiny"), "`meta_training.horizons`=[]: must be two"),
        (("--optimizer={good}", "--suite=tiny", "--workdir=/proc/x"), "cannot be written to"),
    ],
)
def test_evaluate_refuses(tmp_path, arguments, told):
    rule = RULES["mlp"]()
    learned_opt.save(tmp_path / "good", rule, rule.init(jax.random.key(0)), meta_training={})
    damaged = shutil.copytree(tmp_path / "good", tmp_path / "damaged")
    data = (damaged / "theta.safetensors").read_bytes()
    (damaged / "theta.safetensors").write_bytes(data[:-1] + b"?")
    odd = {"tasks": [], "horizons": []}
    learned_opt.save(tmp_path / "odd", rule, rule.init(jax.random.key(0)), meta_training=odd)
    paths = {"good": tmp_path / "good", "damaged": damaged, "odd": tmp_path / "odd"}
    workdir = tmp_path / "evaluation"
    line = refused(run(EVALUATE, f"--workdir={workdir}", *(a.format(**paths) for a in arguments)))
    assert told in line
    assert not workdir.exists()
