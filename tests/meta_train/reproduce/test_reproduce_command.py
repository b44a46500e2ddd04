"""The command: its files, its page, what it says of claims, and what it refuses."""

import base64
import json

import numpy as np
import pytest
from absl import flags

from meta_train.config import ConfigError
from meta_train.reproduce import command
from meta_train.reproduce.experiment import Claim, Curve, Effort, Experiment, Panel, Result
from meta_train.reproduce.experiments import EXPERIMENTS
from meta_train.reproduce.reports import json_values
from tests.end_to_end.commands import run

NAMES = [
    "influence_balancing", "toy_regression", "variance", "lorenz", "learning_rate_schedule",
    "many_hyperparameters", "l2_regression", "control", "learned_optimizer",
]  # fmt: skip


def experiment(name, *claims, figures=None):
    def result(effort):
        curve = Curve("PES", np.arange(3.0), np.ones((effort.seeds, 3)))
        return Result([Panel("panel", "x", "y", [curve])], claims, figures or {}, ["a <note>"])

    return Experiment(name, f"Title of {name}", "Someone & others", result)


TRUE = Claim("one < two", True, "1 against 2")
FALSE = Claim("two is below one", False, "2 against 1")
FAKES = {
    "first": experiment("first", TRUE, figures={"loss": np.array([1.0, np.nan])}),
    "second": experiment("second", TRUE, FALSE),
}


@pytest.fixture
def reproduce(monkeypatch, tmp_path, capsys):
    """Run the command on the fakes in this process: (status, standard output)."""
    monkeypatch.setattr(command, "EXPERIMENTS", FAKES)

    def call(*names, **settings):
        values = {"workdir": str(tmp_path), "fast": True, "seeds": 2, **settings}
        for name, value in values.items():
            monkeypatch.setattr(flags.FLAGS[name], "value", value)
        flags.FLAGS.mark_as_parsed()
        return command.main(names), capsys.readouterr().out

    return call


def test_all_experiments_are_there_in_order():
    assert list(EXPERIMENTS) == NAMES
    for name, entry in EXPERIMENTS.items():
        assert entry.name == name


def test_a_claim_that_is_not_seen_is_said_and_is_the_status(reproduce, tmp_path):
    status, output = reproduce("second")
    assert status == 1
    assert "second: 1 of 2 claims seen" in output
    assert "NOT SEEN  two is below one\n            2 against 1" in output
    page = (tmp_path / "index.html").read_text()
    assert page.count('class="unseen">NOT SEEN') == 1
    assert page.count('class="seen">seen') == 1
    claims = json.loads((tmp_path / "second.json").read_text())["claims"]
    assert [claim["seen"] for claim in claims] == [True, False]


def test_the_page_has_everything_and_is_escaped(reproduce, tmp_path):
    status, _ = reproduce("first", fast=False, seeds=1)
    assert status == 0
    page = (tmp_path / "index.html").read_text()
    picture = base64.b64encode((tmp_path / "first.png").read_bytes()).decode()
    for words in (
        "Title of first", "Someone &amp; others", "one &lt; two", "1 against 2", "a &lt;note&gt;",
        "Full form, 1 seed,", f"data:image/png;base64,{picture}", "jax ",
    ):  # fmt: skip
        assert words in page
    assert "<note>" not in page
    report = json.loads((tmp_path / "first.json").read_text())
    assert report["effort"] == {"fast": False, "seeds": 1}
    assert report["figures"] == {"loss": [1.0, None]}
    assert {"versions", "git_revision", "command"} <= set(report["provenance"])


def test_a_later_command_adds_to_the_page(reproduce, tmp_path):
    assert reproduce("second")[0] == 1
    assert reproduce("first")[0] == 0  # of the experiments of this command
    page = (tmp_path / "index.html").read_text()
    assert page.index("Title of first</h2>") < page.index("Title of second</h2>")
    assert "2 of 3 claims seen." in page


def test_what_was_done_is_kept_when_a_later_experiment_fails(reproduce, monkeypatch, tmp_path):
    def fail(effort):
        raise RuntimeError("lost")

    monkeypatch.setitem(FAKES, "second", FAKES["second"]._replace(run=fail))
    with pytest.raises(RuntimeError, match="lost"):
        reproduce("all")
    assert "Title of first" in (tmp_path / "index.html").read_text()
    assert not (tmp_path / "second.json").exists()


def test_a_damaged_report_is_named_before_anything_runs(reproduce, tmp_path):
    reproduce("first")
    (tmp_path / "first.json").write_text("{")
    with pytest.raises(ConfigError, match=r"first.json' is damaged .*delete it"):
        reproduce("second")
    assert not (tmp_path / "second.json").exists()


def test_names_are_checked(reproduce):
    legal = "legal ones: all, first, second"
    with pytest.raises(ConfigError, match=f"no experiment is named; {legal}"):
        reproduce()
    with pytest.raises(ConfigError, match=f"unknown experiment 'third'; {legal}"):
        reproduce("first", "third")
    with pytest.raises(ConfigError, match="--seeds=0: must be at least 1"):
        reproduce("first", seeds=0)


def test_an_unknown_name_is_one_line_and_nothing_is_made(tmp_path):
    code, output, error = run("meta_train.reproduce", "nope", f"--workdir={tmp_path / 'new'}")
    assert (code, output) == (2, "")
    assert error.startswith(
        "error: unknown experiment 'nope'; legal ones: all, influence_balancing"
    )
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "new").exists()


def test_help_names_every_experiment_and_the_status():
    code, output, error = run("meta_train.reproduce", "--help")
    assert (code, error) == (0, "")
    for words in (*NAMES, "--workdir:", "--[no]fast:", "--seeds:", "exit status"):
        assert words in output


def test_values_of_json():
    value = {"a": (np.float32(np.inf), np.int64(2)), 3: np.array([[1.5]]), "e": Effort(True, 1)}
    assert json_values(value) == {"a": [None, 2], "3": [[1.5]], "e": [True, 1]}
