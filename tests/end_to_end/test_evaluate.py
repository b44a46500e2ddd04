"""`python -m meta_train.evaluate`, whole: three files, the promised keys, the same every time."""

import json
import re

import jax
import numpy as np
import pytest

import learned_opt
from learned_opt import RULES
from meta_train.evaluate.baselines import SCHEDULES
from meta_train.evaluate.statistics import bootstrap
from meta_train.evaluate.tuning import FIRST_TUNING_SEED
from tests.end_to_end.commands import EVALUATE, run

META_TRAINING = {
    "tasks": [
        {
            "name": "fashion_mnist_8x8_mlp32",
            "domain": "image classification",
            "architecture": "mlp",
            "activation": "relu",
            "data": "fashion_mnist at 8×8",
            "widths": [32],
            "batch_size": 64,
        }
    ],
    "horizons": [10, 40],
    "diverged_windows": 17,
    "skipped_updates": 3,
}


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """A rule with random weights, hence a bad optimizer, evaluated."""
    folder = tmp_path_factory.mktemp("evaluated")
    rule = RULES["mlp"](step_multiplier=0.01)
    theta = rule.init(jax.random.key(0))
    learned_opt.save(folder / "optimizer", rule, theta, meta_training=META_TRAINING)
    result = run(
        EVALUATE,
        f"--optimizer={folder / 'optimizer'}",
        "--suite=tiny",
        f"--workdir={folder / 'evaluation'}",
    )
    return folder, result


@pytest.fixture(scope="module")
def report(evaluated):
    return json.loads((evaluated[0] / "evaluation/report.json").read_text())


def test_it_ends_with_a_table_and_three_files(evaluated):
    folder, (code, output, error) = evaluated
    assert code == 0, error
    assert re.search(r"task @ steps +learned +Adam constant +Adam cosine +ratio", output)
    assert "fashion_mnist_8x8_mlp32 @ 20" in output
    for kind in ("html", "md", "json"):
        assert str(folder / f"evaluation/report.{kind}") in output
    for kind in ("html", "md"):  # what the meta-training met and left out
        text = (folder / f"evaluation/report.{kind}").read_text()
        assert re.search(r"windows of pairs with a loss that was not finite\W+(\w+\W+)*?17\b", text)
        assert re.search(r"updates skipped, for a gradient that exploded\W+(\w+\W+)*?3\b", text)
    assert sorted(p.name for p in (folder / "evaluation").iterdir()) == [
        "report.html",
        "report.json",
        "report.md",
    ]


def test_the_promised_keys(report):
    assert {"provenance", "tasks", "baselines", "runs", "aggregates"} <= set(report)
    for name in ("final_loss_ratio_iqm", "speedup_iqm"):
        estimate = report["aggregates"][name]
        assert set(estimate) == {"value", "low", "high"}
        assert estimate["low"] <= estimate["value"] <= estimate["high"]
    assert report["provenance"]["optimizer"]["meta_training"] == META_TRAINING


def test_aggregates_are_those_of_the_runs(report):
    ratios = []
    for task in report["tasks"]:
        finals = {
            name: [
                run["final_test"]
                for run in report["runs"]
                if (run["task"], run["optimizer"]) == (task["task"], name)
            ]
            for name in ("learned", "adam/constant", "adam/cosine")
        }
        assert all(len(values) == len(task["seeds"]) for values in finals.values())
        (ledger,) = (
            row
            for row in report["baselines"]
            if (row["task"], row["baseline"]) == (task["task"], "adam")
        )
        tuned = finals[f"adam/{ledger['chosen']}"]
        ratios.append(np.divide(tuned, finals["learned"]))
    expected = bootstrap(ratios, seed=0)
    for name, value in expected._asdict().items():
        assert report["aggregates"]["final_loss_ratio_iqm"][name] == pytest.approx(value, rel=1e-4)
    speedups = [
        [r["speedup"] for r in report["runs"] if r["task"] == t["task"] and "speedup" in r]
        for t in report["tasks"]
    ]
    expected = bootstrap(speedups, seed=0)
    assert report["aggregates"]["speedup_iqm"]["value"] == pytest.approx(expected.value, rel=1e-4)


def test_the_ledger_tells_the_tuning(report):
    assert len(report["baselines"]) == 2 * len(report["tasks"])
    scored = {run["seed"] for run in report["runs"]}
    for row in report["baselines"]:
        assert len(row["rates"]) >= 14
        assert row["schedules"] == list(SCHEDULES)
        assert min(row["tuning_seeds"]) >= FIRST_TUNING_SEED
        assert not scored & set(row["tuning_seeds"])
        for schedule in SCHEDULES:
            losses = row["losses"][schedule]
            best = row["best"][schedule]
            finite = [loss for loss in losses if loss is not None]
            assert best["loss"] == min(finite)
            assert best["learning_rate"] == row["rates"][losses.index(min(finite))]


def test_what_lies_outside_the_meta_training_is_said(report):
    shifts = {row["family"]: row["shifts"] for row in report["tasks"]}
    assert shifts["fashion_mnist_8x8_mlp32"] == []
    assert shifts["quadratic32"] == ["domain", "architecture", "activation", "data", "batch_size"]


def test_a_bad_optimizer_is_shown_as_one(evaluated, report):
    ratio = report["aggregates"]["final_loss_ratio_iqm"]
    assert ratio["high"] < 1
    text = (evaluated[0] / "evaluation/report.md").read_text()
    assert "as it was meta-trained: worse than tuned Adam" in text.split("\n\n")[1]


def test_the_page_needs_nothing_but_itself(evaluated):
    page = (evaluated[0] / "evaluation/report.html").read_text()
    assert "http" not in re.sub(r'src="data:[^"]*"', "", page)
    assert re.findall(r"<(script|link|iframe)", page) == []
    assert page.count("data:image/svg+xml;base64,") == 2
    assert page.count("<table") == 4


def test_a_second_evaluation_gives_the_same_figures(evaluated, report):
    folder, _ = evaluated
    code, _, error = run(
        EVALUATE,
        f"--optimizer={folder / 'optimizer'}",
        "--suite=tiny",
        f"--workdir={folder / 'again'}",
    )
    assert code == 0, error
    again = json.loads((folder / "again/report.json").read_text())
    for key in ("tasks", "baselines", "runs", "aggregates"):
        assert again[key] == report[key]
