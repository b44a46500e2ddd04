"""Every command and snippet of the README runs, as it stands there."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from meta_train.estimators import ESTIMATORS as registry
from tests.conftest import ROOT
from tests.end_to_end.commands import environment

README = (ROOT / "README.md").read_text()
ESTIMATORS = (ROOT / "docs/estimators.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [
    line.split("#")[0].strip()
    for kind, block in BLOCKS
    if kind == "sh"
    for line in block.splitlines()
]
# Shortened, by arguments after those of the README; what they do stays the same.
SHORTER = {
    "meta_train": "--config.updates=20 --config.warmup=2 --config.particles=4 "
    "--config.length_min=20 --config.length_max=20",
    "meta_train.evaluate": "--suite=tiny",
    "meta_train.reproduce": "--seeds=1",
}


def test_the_kinds_of_blocks_are_known():
    assert {kind for kind, _ in BLOCKS} == {"sh", "python"}
    assert COMMANDS[:2] == ["make demo", "make test"]
    assert all(command.startswith(("make ", "python -m meta_train")) for command in COMMANDS)


def test_the_snippets_run_one_after_the_other(capsys):
    namespace = {}
    for kind, block in BLOCKS:
        if kind == "python":
            exec(compile(block, "README.md", "exec"), namespace)
    loss = float(re.search(r"loss (\S+)", capsys.readouterr().out)[1])
    assert loss < 7 / 2


def test_the_snippet_of_the_estimators_runs(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", ESTIMATORS, flags=re.DOTALL)
    exec(compile(code, "docs/estimators.md", "exec"), {})
    assert "shift" in capsys.readouterr().out


def test_the_table_has_every_estimator():
    rows = re.findall(r"^\| `(\w+)` \|", ESTIMATORS, flags=re.MULTILINE)
    assert sorted(rows) == sorted(registry)


@pytest.mark.slow
def test_the_commands_run_one_after_the_other(tmp_path):
    for command in COMMANDS[2:]:
        python, *arguments = shlex.split(command)
        assert python == "python"
        shorter = SHORTER[arguments[1]].split()
        done = subprocess.run(
            [sys.executable, *arguments, *shorter],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs/mine/optimizer/manifest.json").is_file()
    assert (tmp_path / "runs/mine/evaluation/report.html").is_file()
    assert (tmp_path / "runs/experiments/index.html").is_file()


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
    assert "ratio to tuned Adam" in done.stdout
    reports = tmp_path / "run/evaluation"
    assert {p.name for p in reports.iterdir()} == {"report.html", "report.md", "report.json"}


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


def test_the_pictures_and_the_links_are_there():
    for folder, text in ((ROOT, README), (ROOT / "docs", ESTIMATORS)):
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            assert (folder / target).is_file(), target
