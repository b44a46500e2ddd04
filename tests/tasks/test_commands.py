"""`python -m tasks`: what it prints, what it refuses, what it writes."""

import json
import re
import subprocess
import sys

import optax
import pytest

from tasks import parametric_families, rows
from tasks.commands.arguments import CommandError
from tasks.commands.optimizers import parse_optimizer
from tests.conftest import ROOT

FIELDS = {"name", "kind", "domain", "offline", "parameters", "data", "batch", "horizon", "split"}


def tasks(*arguments, cwd=ROOT):
    command = [sys.executable, "-m", "tasks", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


def test_list():
    """As JSON, as text, as Markdown, the whole and parts: one table."""
    table = json.loads(tasks("list", "--json").stdout)
    assert all(set(facts) >= FIELDS for facts in table)
    assert [facts["name"] for facts in table] == [*rows(), *parametric_families()]
    assert {facts["kind"] for facts in table} == {"fixed", "family"}
    [facts] = [facts for facts in table if facts["name"] == "fashion_mnist_8x8_mlp32"]
    assert facts["parameters"] == 2410
    assert (facts["batch"], facts["horizon"], facts["offline"]) == (64, 200, True)
    lines = tasks("list", "--domain=analytic").stdout.splitlines()
    wanted = [facts["name"] for facts in table if facts["domain"] == "analytic"]
    assert [line.split()[0] for line in lines] == ["name", *wanted]


def test_the_page_of_all_tasks_is_as_the_code_has_it():
    page = (ROOT / "docs/tasks.md").read_text()
    assert tasks("list", "--markdown").stdout.strip() in page


def test_describe():
    shown = tasks("describe", "quadratic32", "fashion_mlps").stdout
    assert re.search(r"parameters +32\n", shown)
    assert re.search(r"rotation +32 × 32\n", shown)
    assert "Adam          at 0.01 takes the test loss to 0.8" in shown
    assert "fashion_mlps.15  widths [128, 128, 128, 128]" in shown


def test_run_trains_and_draws(tmp_path):
    result = tasks(
        "run", "fashion_mnist_8x8_softmax", "--steps=30", "--optimizer=adam",
        "--optimizer=optax.sgd(0.1, momentum=0.9)", "--optimizer=optax.sgd(1e30)", cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    losses = [re.search(r"test loss (\S+) → (\S+), accuracy", line).groups() for line in lines[:3]]
    assert len({before for before, _ in losses}) == 1
    assert all(float(after) < 0.7 * float(before) for before, after in losses[:2])
    picture = (tmp_path / "fashion_mnist_8x8_softmax.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["fashion_mnist_8x8_softmax.png"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "no command is given; legal ones: list, describe, run, prepare"),
        (["nope"], "unknown command 'nope'; legal ones: list"),
        (["list", "--split=nope"], "flag --split=nope: value should be one of <meta_train"),
        (["describe", "nope"], "unknown task 'nope'"),
        (["run", "quadratic32", "--output=x.txt"], "--output='x.txt' must end in .png"),
        (["run", "quadratic32", "--steps=0"], "flag --steps=0"),
    ],
)
def test_what_cannot_be_done_is_one_line(arguments, told):
    result = tasks(*arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    [line] = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert told in line


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("nope", "cannot be imported"),
        ("nope.adam(1)", "cannot be imported"),
        ("adam(1)", "names no module"),
        ("optax.adam(", "cannot be read"),
        ("optax.adam(rate)", "has arguments that are no constants"),
        ("optax.adam(__import__('os').getcwd())", "has arguments that are no constants"),
        ("(lambda: 1)()", "calls what is no name"),
        ("1 + 1", "is neither a name nor a call"),
        ("optax.adam(b1=1, b1_=2)", r"fails \(TypeError"),
        ("math.sqrt(2)", "makes float, which is no optimizer of optax"),
        ("math.pi()", "is no function"),
    ],
)
def test_an_optimizer_that_is_none_is_refused(text, told):
    with pytest.raises(CommandError, match=told):
        parse_optimizer(text, 0.1)


def test_an_optimizer_is_made_as_it_is_written():
    params, gradient = {"x": 1.0}, {"x": 2.0}
    for text, step in (("sgd", -0.2), ("optax.sgd(0.5)", -1.0), ("optax.sgd(-1.5)", 3.0)):
        tx = parse_optimizer(text, 0.1)
        updates, _ = tx.update(gradient, tx.init(params), params, value=0.0)
        assert updates["x"] == pytest.approx(step)
    assert isinstance(parse_optimizer("adamw", 0.1), optax.GradientTransformationExtraArgs)
