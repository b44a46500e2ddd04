"""Every command and snippet of the README runs, as it stands there."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from learned_opt import RULES
from meta_train.estimators import ESTIMATORS as registry
from meta_train.evaluate.suite_file import find_suite
from tests.conftest import ROOT, SHARED
from tests.end_to_end.commands import environment, start
from tests.meta_train.hosts.company import free_port

README = (ROOT / "README.md").read_text()
ESTIMATORS = (ROOT / "docs/estimators.md").read_text()
ENGINE = (ROOT / "docs/engine.md").read_text()
LEARNED_OPTIMIZERS = (ROOT / "docs/learned_optimizers.md").read_text()
TASKS = (ROOT / "docs/tasks.md").read_text()
EVALUATION = (ROOT / "docs/evaluation.md").read_text()


def blocks_of(text):
    return re.findall(r"```(\w+)\n(.*?)```", text, flags=re.DOTALL)


def commands_of(text):
    lines = [line for kind, block in blocks_of(text) if kind == "sh" for line in block.splitlines()]
    return [line.split("#")[0].strip() for line in lines]


def follow(commands, folder, shorter, **changes):
    """Run them one after the other; ``shorter``: arguments that follow those of a module."""
    for command in commands:
        python, dash_m, module, *arguments = shlex.split(command)
        assert (python, dash_m) == ("python", "-m")
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments, *shorter[module].split()],
            cwd=folder,
            env=environment(**changes),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr


BLOCKS = blocks_of(README)
COMMANDS = commands_of(README)
ON_TWO_HOSTS = [command for command in COMMANDS if "--coordinator" in command]
# Shortened, by arguments after those of the README; what they do stays the same.
SHORTER = {
    "meta_train": "--config.updates=20 --config.warmup=2 --config.particles=4 "
    "--config.length_min=20 --config.length_max=20",
    "meta_train.evaluate": "--suite=tiny",
    "meta_train.reproduce": "--seeds=1",
    "tasks": "",
}


def test_the_kinds_of_blocks_are_known():
    assert {kind for kind, _ in BLOCKS} == {"sh", "python"}
    assert COMMANDS[:2] == ["make demo", "make test"]
    assert all(command.startswith(("make ", "python -m ")) for command in COMMANDS)


def test_the_snippets_run_one_after_the_other(capsys):
    namespace = {}
    for kind, block in BLOCKS:
        if kind == "python":
            exec(compile(block, "README.md", "exec"), namespace)
    printed = capsys.readouterr().out
    assert float(re.search(r"loss ([\d.]+);", printed)[1]) < 0.25  # from 0.4
    assert "GuardCounts" in printed


def test_the_snippet_of_the_estimators_runs(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", ESTIMATORS, flags=re.DOTALL)
    exec(compile(code, "docs/estimators.md", "exec"), {})
    assert "shift" in capsys.readouterr().out


@pytest.mark.parametrize(("text", "names"), [(ESTIMATORS, registry), (LEARNED_OPTIMIZERS, RULES)])
def test_the_table_has_every_name_of_the_registry(text, names):
    rows = re.findall(r"^\| `(\w+)` \|", text, flags=re.MULTILINE)
    assert sorted(rows) == sorted(names)


def test_the_snippets_of_the_learned_optimizers_run():
    for kind, code in blocks_of(LEARNED_OPTIMIZERS):
        if kind == "python":
            exec(compile(code, "docs/learned_optimizers.md", "exec"), {})


@pytest.mark.slow
def test_the_commands_of_the_learned_optimizers_run(tmp_path):
    shutil.copy(ROOT / "tests/golden/celo2.msgpack", tmp_path / "theta.state")
    commands = commands_of(LEARNED_OPTIMIZERS)
    shorter = dict.fromkeys(("checkpoints.convert", "checkpoints.export"), "")
    shorter["learned_opt.benchmark"] = "--parameters=2000 --turns=1 --rules=mlp"
    follow(commands, tmp_path, shorter)
    assert (tmp_path / "runs/numpy/optimizer.py").is_file()
    assert (tmp_path / "runs/celo2/manifest.json").is_file()


@pytest.mark.slow
def test_the_commands_run_one_after_the_other(tmp_path):
    follow([c for c in COMMANDS[2:] if c not in ON_TWO_HOSTS], tmp_path, SHORTER)
    assert (tmp_path / "runs/mine/optimizer/manifest.json").is_file()
    assert (tmp_path / "runs/mine/evaluation/report.html").is_file()
    assert (tmp_path / "runs/experiments/index.html").is_file()


@pytest.mark.slow
def test_the_commands_of_two_hosts_run_side_by_side(tmp_path):
    assert len(ON_TWO_HOSTS) == 2
    port = free_port()
    started = []
    for command in ON_TWO_HOSTS:
        assert "--coordinator=host0:1234" in command
        assert "--workdir=/shared/mine" in command
        here = command.replace("host0:1234", f"127.0.0.1:{port}").replace("/shared", str(tmp_path))
        python, _, module, *arguments = shlex.split(here)
        assert python == "python"
        started.append(start(module, *arguments, *SHORTER[module].split()))
    for process in started:
        _, error = process.communicate(timeout=240)
        assert process.returncode == 0, error
    assert (tmp_path / "mine/optimizer/manifest.json").is_file()


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "tfds").is_dir(), reason="the prepared Fashion-MNIST is not here")
def test_the_commands_of_the_tasks_run(tmp_path):
    """With the set that is prepared here in the place of those to be downloaded."""
    shorter = {
        "tasks": "",
        "meta_train": "--config.updates=2 --config.warmup=1 --config.log_every=2 "
        "--config.particles=4 --config.length_min=10 --config.length_max=20",
        "meta_train.evaluate": "--suite=tiny",
    }
    commands = [
        re.sub("prepare .*", "prepare fashion_mnist_14x14_mlp32", command).replace(
            "suite:meta_train", "suite:meta_validation"
        )
        for command in commands_of(TASKS)
    ]
    folders = {"TFDS_DATA_DIR": str(SHARED / "tfds"), "LEARNED_OPT_CACHE": str(tmp_path / "cache")}
    follow(commands, tmp_path, shorter, **folders)
    assert (tmp_path / "fashion_mnist_8x8_mlp32.png").is_file()
    assert (tmp_path / "runs/zoo/depth/report.html").is_file()
    assert (tmp_path / "runs/streamed/optimizer/manifest.json").is_file()


@pytest.mark.slow
def test_the_commands_of_the_evaluation_run(tmp_path):
    shorter = {
        "meta_train": "--preset=tiny --config.validate_every=10 --config.validation_suite=tiny",
        "meta_train.evaluate": "",
        "meta_train.report": "",
    }
    evaluate, *others = commands_of(EVALUATION)
    follow([evaluate], tmp_path, shorter)
    shutil.copytree(tmp_path / "runs/evaluation", tmp_path / "runs/other")
    follow(others, tmp_path, shorter)
    assert (tmp_path / "runs/evaluation/comparison.html").is_file()
    assert (tmp_path / "runs/validated/optimizer_last/manifest.json").is_file()


def test_the_suite_of_the_page_is_legal(tmp_path):
    [suite] = [block for kind, block in blocks_of(EVALUATION) if kind == "toml"]
    (tmp_path / "nightly.toml").write_text(suite)
    assert find_suite(str(tmp_path / "nightly.toml")).suite.name == "nightly"


@pytest.mark.slow
def test_the_commands_of_the_engine_run(tmp_path):
    shorter = {
        "meta_train": "--config.updates=4 --config.warmup=2 --config.log_every=4",
        "meta_train.benchmark": "--turns=1",
        "meta_train.benchmark.sweep": "--particles=2 --window=5 --width=8 --tasks=1 --turns=1",
    }
    commands = commands_of(ENGINE)
    assert {shlex.split(command)[2] for command in commands} == set(shorter)
    follow(commands, tmp_path, shorter)
    assert (tmp_path / "figures.json").is_file()
    assert (tmp_path / "DIR/sweep.png").is_file()
    assert (tmp_path / "runs/tasks/optimizer/manifest.json").is_file()


@pytest.mark.slow
def test_make_demo_runs_whole_with_the_tiny_preset_and_suite(tmp_path):
    """The same recipe as `make demo`; the real one differs in its preset and suite alone."""
    ready = tmp_path / "ready"
    ready.touch()  # the environment of these tests is the one that make would make
    settings = ["PRESET=tiny", "SUITE=tiny", f"WORKDIR={tmp_path / 'run'}", f"READY={ready}"]
    done = subprocess.run(
        ["make", "demo", *settings, f"BIN={Path(sys.executable).parent}"],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "Adam ÷ run" in done.stdout  # by its folder
    reports = tmp_path / "run/evaluation"
    found = {path.name for path in reports.glob("report.*")}
    assert found == {"report.html", "report.md", "report.json", "report.csv"}


def recipe(target):
    done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_make_does():
    demo, test = recipe("demo"), recipe("test")
    assert "-m meta_train --preset=demo --workdir=runs/demo" in demo
    assert "-m meta_train.evaluate --optimizer=runs/demo/optimizer --suite=demo" in demo
    for tool in ("ruff check", "ruff format --check", "mypy", "pytest"):
        assert tool in test
    assert "make test" in (ROOT / ".ci/run").read_text()


def anchors_of(text):
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))])
def test_the_pictures_and_the_links_are_there(page):
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\((?!https:)([^)\s]+)\)", prose):
        name, _, anchor = target.partition("#")
        linked = page.parent / name if name else page
        assert linked.is_file(), target
        assert not anchor or anchor in anchors_of(linked.read_text()), target
