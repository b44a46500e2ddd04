"""What a report says of made-up runs: a twin of Adam, a broken optimizer, a winner mid-run."""

import json
import shutil

import numpy as np
import pytest

from learned_opt import OptimizerFormatError
from meta_train.evaluate.measured import measure_all
from meta_train.evaluate.report.comparison import compare, differences_in_words
from meta_train.evaluate.report.data import make_report
from meta_train.evaluate.report.envelope import (
    check_meta_training,
    distribution_shifts,
    read_envelope,
)
from meta_train.evaluate.report.files import write_report
from meta_train.evaluate.report.page import to_html
from meta_train.evaluate.report.text import to_csv, to_markdown, to_terminal
from meta_train.evaluate.report.words import verdicts
from meta_train.evaluate.store import Store
from tests.meta_train.evaluate.world import (
    FACTS,
    MADE,
    MadeUp,
    adam_loss,
    evaluated,
    everyone,
    learned,
    redrawn,
    request_of,
    task,
)

TASKS = [task("alpha"), task("beta"), task("gamma", steps=200), task("delta")]
COSINE = {"cosine": 1.0, "learning_rate": 1e-2}


def twin(settings, steps, horizon):
    """Adam as it is when tuned."""
    return adam_loss(COSINE, steps, horizon)


def times(factor):
    """The loss of tuned Adam, so many times."""
    return lambda settings, steps, horizon: factor * twin(settings, steps, horizon)


def slower(settings, steps, horizon):
    """Where tuned Adam is after half of the steps with a schedule of half the length."""
    return adam_loss(COSINE, steps / 2, horizon / 2)


def diverging(settings, steps, horizon):
    return np.where(steps > horizon / 2, np.inf, 1.0)


def mid_run(settings, steps, horizon):
    """Half of Adam's loss on the way, a third more at the end."""
    own = adam_loss(COSINE, steps, horizon)
    return np.where(steps < 0.9 * horizon, 0.5, 4 / 3) * own


def test_adam_as_if_it_were_learned_has_ratio_and_speedup_one(tmp_path):
    report, _ = evaluated(tmp_path, TASKS, everyone(learned("twin")), {"twin": twin})
    facts = report["aggregates"]["twin"]
    for name in ("final_loss_ratio_iqm", "speedup_iqm"):
        assert facts[name]["low"] <= 1 <= facts[name]["high"]
        assert facts[name]["value"] == pytest.approx(1, abs=0.02)
    assert facts["losses"] + facts["wins"] <= 1
    assert facts["probability_of_improvement"]["adam"]["value"] == pytest.approx(0.5, abs=0.15)
    assert "is not distinguishable from tuned Adam" in verdicts(report)[0]
    assert report["algoperf"]["scores"]["twin"]["value"] > 0.5


def test_a_broken_optimizer_is_shown_as_exactly_that(tmp_path):
    """It diverges on two tasks, is NaN on one from the start, and half as fast on the fourth."""
    losses = {
        ("alpha", "broken"): diverging,
        ("beta", "broken"): diverging,
        ("gamma", "broken"): lambda settings, steps, horizon: np.nan * steps,
        ("delta", "broken"): slower,
    }
    report, _ = evaluated(tmp_path, TASKS, everyone(learned("broken")), losses)
    rows = {row["task"]: row for row in report["results"]}
    for name in ("alpha @ 100", "beta @ 100", "gamma @ 200"):
        final = rows[name]["final"]["broken"]
        assert (final["diverged"], final["runs"]["test"]) == (5, [None] * 5)
        ours = rows[name]["learned"]["broken"]
        assert ours["judgement"] == "loss"
        assert ours["speedup"] == {"value": 0.0, "low": 0.0, "high": 0.0}
        assert ours["final_loss_ratio"]["adam"]["high"] == 0
    ours = rows["delta @ 100"]["learned"]["broken"]
    assert ours["judgement"] == "loss"
    assert ours["speedup"]["value"] == pytest.approx(0.5, rel=0.05)
    facts = report["aggregates"]["broken"]
    assert (facts["diverged_runs"], facts["wins"], facts["losses"]) == (15, 0, 4)
    assert "It diverged in 15 runs." in verdicts(report)[0]
    assert to_markdown(report).count("5 of 5 diverged") == 2 * 3  # results, and all splits
    assert to_html(report).count('class="bad">5 of 5 diverged') == 2 * 3
    assert "5 of 5 diverged" in to_terminal(report)
    assert report["algoperf"]["scores"]["broken"] == {"value": 0, "low": 0, "high": 0}


def test_an_optimizer_that_only_wins_mid_run_does_not_win(tmp_path):
    report, _ = evaluated(tmp_path, TASKS, everyone(learned()), {"ours": mid_run})
    facts = report["aggregates"]["ours"]
    assert facts["final_loss_ratio_iqm"]["high"] < 1
    assert (facts["wins"], facts["losses"]) == (0, 4)
    assert report["algoperf"]["scores"]["ours"] == {"value": 0, "low": 0, "high": 0}
    row = report["results"][0]["final"]
    assert row["ours"]["best_test"] < row["adam/cosine"]["test"]["value"]
    assert "ends above tuned Adam" in verdicts(report)[0]


def test_a_better_optimizer_wins(tmp_path):
    report, _ = evaluated(
        tmp_path, [*TASKS, task("epsilon")], everyone(learned()), {"ours": times(0.8)}
    )
    facts = report["aggregates"]["ours"]
    assert facts["final_loss_ratio_iqm"]["value"] == pytest.approx(1.25, rel=0.02)
    assert (facts["wins"], facts["losses"]) == (5, 0)
    assert facts["speedup_iqm"]["low"] > 1.2
    assert facts["probability_of_improvement"]["adam"] == {"value": 1, "low": 1, "high": 1}
    over = facts["final_loss_ratio_iqm_over_tasks"]
    assert over["low"] <= facts["final_loss_ratio_iqm"]["value"] <= over["high"]
    assert "ends below tuned Adam" in verdicts(report)[0]


def test_what_diverges_on_a_task_does_not_win(tmp_path):
    """The IQM of five tasks leaves a whole diverged one out, and so would be a win."""
    tasks = [*TASKS, task("epsilon")]
    losses = {"ours": times(0.8), ("beta", "ours"): diverging}
    report, _ = evaluated(tmp_path, tasks, everyone(learned()), losses)
    facts = report["aggregates"]["ours"]
    assert facts["final_loss_ratio_iqm"]["low"] > 1.2
    assert (facts["judgement"], facts["wins"], facts["losses"]) == ("tie", 4, 1)
    said = verdicts(report)[0]
    assert said.startswith("It diverged in 5 runs. It ends, but for the runs that diverged, below")


def test_small_effects_and_censored_speedups_are_said(tmp_path):
    report, _ = evaluated(tmp_path, TASKS, everyone(learned("twin")), {"twin": times(0.995)})
    ratio = report["aggregates"]["twin"]["final_loss_ratio_iqm"]
    assert 1 < ratio["value"] < 1.01
    said = "is within 1% of" if ratio["low"] > 1 else "is not distinguishable from"
    assert f"{said} tuned Adam" in verdicts(report)[0]
    other = tmp_path / "other"
    report, _ = evaluated(other, TASKS, everyone(learned()), {"ours": times(0.01)})
    facts = report["aggregates"]["ours"]
    assert (facts["speedup_iqm"]["value"], facts["speedups_censored"]) == (4, 20)
    assert "4 [4, 4] times as fast in steps or more (Adam never got" in verdicts(report)[0]


def test_a_lucky_choice_of_adams_schedule_is_seen(tmp_path):
    """Tuning took the worse schedule: beside the better one nothing is won, and that is said."""

    def adam(settings, steps, horizon):
        scored = len(steps) > 1
        factor = (1.0 if scored else 1.05) if settings["cosine"] else (1.1 if scored else 1.0)
        return factor * adam_loss({**settings, "cosine": 1.0}, steps, horizon)

    tasks = [task(name) for name in ("alpha", "beta", "gamma", "delta", "epsilon")]
    report, _ = evaluated(tmp_path, tasks, everyone(learned()), {"adam": adam, "ours": times(1.05)})
    facts = report["aggregates"]["ours"]
    assert {row["chosen"]["adam"] for row in report["results"]} == {"adam/constant"}
    assert facts["judgement"] == "win"
    assert facts["final_loss_ratio_iqm"]["value"] == pytest.approx(1.1 / 1.05, rel=0.01)
    best = facts["best_variant"]
    assert best["judgement"] == "loss"
    assert best["final_loss_ratio_iqm"]["value"] == pytest.approx(1 / 1.05, rel=0.01)
    assert "no tuning knew, the ratio is 0.94" in verdicts(report)[0]
    fair, _ = evaluated(tmp_path / "fair", tasks, everyone(learned()), {"ours": times(1.05)})
    assert "no tuning knew" not in verdicts(fair)[0]


def test_nothing_is_trained_twice_and_a_report_is_drawn_again_to_the_byte(tmp_path):
    contestants = everyone(learned())
    report, first = evaluated(tmp_path, TASKS, contestants, {"ours": twin})
    again, second = evaluated(tmp_path, TASKS, contestants, {"ours": diverging})
    assert first.trained
    assert second.trained == []
    assert json.dumps(report) == json.dumps(again)
    assert to_html(report) == to_html(redrawn(tmp_path, TASKS, contestants))
    for task_name, files in report["raw"].items():
        assert files, task_name
        assert all((tmp_path / path).is_file() for path in files)


def test_one_raw_file_lost_or_damaged_is_trained_again_alone(tmp_path):
    contestants = everyone(learned())
    report, _ = evaluated(tmp_path, TASKS, contestants, {"ours": twin})
    (lost,) = [p for p in report["raw"]["beta @ 100"] if "/ours/" in p]
    (tmp_path / lost).unlink()
    damaged = next(p for p in report["raw"]["alpha @ 100"] if "ways" in p)
    (tmp_path / damaged).write_text((tmp_path / damaged).read_text()[:-50])
    partial = redrawn(tmp_path, TASKS, contestants)
    assert {(row["task"], row["contestant"]) for row in partial["missing"]} == {
        ("beta @ 100", "ours"), ("alpha @ 100", "adam"),
    }  # fmt: skip
    assert partial["aggregates"]["ours"]["missing_runs"] == 5
    assert ">missing<" in to_html(partial)
    assert "5 of its runs are missing" in verdicts(partial)[0]
    again, trained = evaluated(tmp_path, TASKS, contestants, {"ours": twin})
    assert sorted(trained.trained) == [("alpha", "adam", 65), ("beta", "ours", 5)]
    assert json.dumps(again) == json.dumps(report)


def test_who_cannot_be_trained_is_missing_and_the_others_are_there(tmp_path):
    contestants = everyone(learned())

    class Failing(MadeUp):
        def get(self, family, horizon, contestant):
            if (family, contestant.name) == ("beta", "ours"):
                raise RuntimeError("out of memory\nin 1,000 lines")
            return super().get(family, horizon, contestant)

    request, names = request_of(TASKS, contestants), [task.name for task in TASKS]
    made_up = Failing({"ours": twin})
    measured = measure_all(request, contestants, Store(tmp_path), names, made_up)
    report = make_report(request, contestants, measured.results, measured.files, MADE)
    told = "scored of ours: failed: RuntimeError: out of memory"
    assert [row["what"] for row in report["missing"]] == [told]
    assert report["aggregates"]["ours"]["tasks"] == 3
    assert json.dumps(redrawn(tmp_path, TASKS, contestants)) == json.dumps(report)
    assert write_report(tmp_path, report) == 4
    again, trained = evaluated(tmp_path, TASKS, contestants, {"ours": twin})
    assert trained.trained == [("beta", "ours", 5)]
    assert again["missing"] == []
    assert not list(tmp_path.rglob("*.failed.json"))
    assert write_report(tmp_path, again) == 0


def test_machines_share_tasks_and_are_merged_by_copying(tmp_path):
    contestants = everyone(learned())
    request = request_of(TASKS, contestants)
    names = [t.name for t in TASKS]
    for i in range(2):
        machine = MadeUp({"ours": twin})
        measure_all(request, contestants, Store(tmp_path / str(i)), names[i::2], machine)
        assert {family for family, *_ in machine.trained} == {t.family for t in TASKS[i::2]}
    half = redrawn(tmp_path / "0", TASKS, contestants)
    assert half["aggregates"]["ours"]["tasks"] == 2
    assert half["aggregates"]["ours"]["missing_runs"] == 10
    shutil.copytree(tmp_path / "1/raw", tmp_path / "0/raw", dirs_exist_ok=True)
    whole, _ = evaluated(tmp_path / "whole", TASKS, contestants, {"ours": twin})
    assert json.dumps(redrawn(tmp_path / "0", TASKS, contestants)) == json.dumps(whole)


THRESHOLDS = (
    {"measure": "final_loss_ratio_iqm", "of": "low", "at_least": 0.9},
    {"measure": "speedup_iqm", "at_least": 3.0},
    {"measure": "diverged_runs", "at_most": 0},
    {"measure": "held_out_final_loss_ratio_iqm", "at_least": 0.5},  # gamma alone
    {"measure": "profile_integral", "at_least": 0.3, "at_most": 0.7},
    {"measure": "probability_of_improvement", "of": "low", "at_least": 0.5},
    {"measure": "algoperf_score", "of": "high", "at_most": 1.0},
)


def test_thresholds_pass_or_fail(tmp_path):
    report, _ = evaluated(
        tmp_path, TASKS, everyone(learned()), {"ours": twin}, thresholds=THRESHOLDS
    )
    assert [row["passed"] for row in report["thresholds"]] == [
        True,
        False,
        True,
        True,
        True,
        False,
        True,
    ]
    assert report["thresholds"][1]["reached"] == pytest.approx(1, abs=0.05)
    assert "Fails 2 of 7 thresholds" in verdicts(report)[-1]
    assert "| NO |" in to_markdown(report)
    (tmp_path / next(p for p in report["raw"]["beta @ 100"] if "ways" in p)).unlink()
    partial = redrawn(tmp_path, TASKS, everyone(learned()), thresholds=THRESHOLDS)
    assert not any(row["passed"] for row in partial["thresholds"])  # a task is not there
    assert "NO, incomplete" in to_markdown(partial)
    assert "1 of 4 tasks are missing" in verdicts(partial)[0]


def test_what_was_not_said_of_meta_training_is_unknown(tmp_path):
    contestants = everyone(learned())
    request = request_of(TASKS, contestants)
    silent = {**request.optimizers["ours"]["manifest"], "meta_training": {}}
    optimizers = {"ours": {"source": "ours", "manifest": silent}}
    report, _ = evaluated(tmp_path, TASKS, contestants, {"ours": twin}, optimizers=optimizers)
    assert {task["shifts"]["ours"] for task in report["tasks"]} == {None}
    assert "held_out" not in report["aggregates"]["ours"]
    assert "unknown" in to_markdown(report)
    known, _ = evaluated(tmp_path, TASKS, contestants, {"ours": twin})
    assert [t["shifts"]["ours"] for t in known["tasks"]] == [[], [], ["horizon"], []]
    assert known["aggregates"]["ours"]["held_out"]["tasks"] == 1


def test_few_seeds_give_no_verdict_and_one_no_interval(tmp_path):
    better = times(0.5)
    for seeds in (1, 4):
        tasks = [task("alpha", seeds=seeds), task("beta", seeds=seeds)]
        report, _ = evaluated(tmp_path, tasks, everyone(learned()), {"ours": better})
        facts = report["aggregates"]["ours"]
        assert (facts["wins"], facts["ties"]) == (0, 2)
        assert facts["final_loss_ratio_iqm_over_tasks"] is None
    alone, _ = evaluated(tmp_path, TASKS[:1], everyone(learned()), {"ours": better})
    one = [task("alpha", seeds=1)]
    report, _ = evaluated(tmp_path, one, everyone(learned()), {"ours": better})
    ratio = report["aggregates"]["ours"]["final_loss_ratio_iqm"]
    assert (ratio["low"], ratio["high"]) == (None, None)
    assert ratio["value"] == pytest.approx(2, rel=0.05)
    assert "cannot be told by 1 seed from tuned Adam" in verdicts(report)[0]
    assert "ends below" in verdicts(alone)[0]
    to_html(report)
    to_terminal(report)


def test_aggregates_are_those_of_the_runs(tmp_path):
    """From the numbers of the report itself, by another way."""
    from meta_train.evaluate.statistics import bootstrap

    report, _ = evaluated(tmp_path, TASKS, everyone(learned()), {"ours": mid_run})
    ratios = []
    for row in report["results"]:
        ours, theirs = (
            row["final"][row["chosen"][name]]["runs"]["test"] for name in ("ours", "adam")
        )
        ratios.append(np.divide(theirs, ours))
        np.testing.assert_allclose(row["learned"]["ours"]["ratios"]["adam"], ratios[-1], rtol=1e-5)
    expected = bootstrap(ratios, seed=0)
    found = report["aggregates"]["ours"]["final_loss_ratio_iqm"]
    np.testing.assert_allclose(list(found.values()), expected, rtol=1e-5)


def test_the_csv_has_a_line_for_every_scored_run(tmp_path):
    report, _ = evaluated(tmp_path, TASKS, everyone(learned()), {"ours": diverging})
    header, *lines = to_csv(report).splitlines()
    assert header == (
        "task,optimizer,chosen,seed,final_test_loss,final_outer_validation_loss,final_train_loss,"
        "diverged"
    )
    assert len(lines) == 4 * 5 * 5  # tasks, labels, seeds
    assert lines[0] == "alpha @ 100,ours,1,0,,,,1"
    adam = lines[5].split(",")
    final = report["results"][0]["final"][adam[1]]["runs"]
    assert [float(x) for x in adam[4:7]] == [
        final[split][0] for split in ("test", "outer_validation", "train")
    ]
    assert sum(line.split(",")[2] == "1" for line in lines) == 4 * 3 * 5


def test_a_comparison_says_what_else_differs(tmp_path):
    """Code, libraries and data: then runs with one seed may not be pairs."""
    ours, _ = evaluated(tmp_path, TASKS, everyone(learned()), {"ours": twin})
    alike = compare(ours, ours)
    assert (alike["same_sources"], alike["same_versions"], alike["other_data"]) == (True, True, [])
    theirs = json.loads(json.dumps(ours))
    theirs["provenance"]["sources_sha256"] = "other"
    theirs["provenance"]["evaluation"]["versions"] = {"jax": "0"}
    theirs["tasks"][1]["data_sha256"] = "other"
    told = differences_in_words(compare(ours, theirs))
    assert [word in " ".join(told) for word in ("code", "versions", "beta @ 100")] == [True] * 3
    assert differences_in_words(alike) == []


def test_shifts_name_width_and_depth():
    met = {**FACTS, "widths": [32, 32]}
    envelope = read_envelope({"meta_training": {"tasks": [met], "horizons": [50, 150]}})
    for widths, expected in (
        ([32, 32], []), ([32], ["depth"]), ([64, 32], ["width"]), ([8, 8, 8], ["width", "depth"]),
        ([], ["depth"]),
    ):  # fmt: skip
        assert distribution_shifts({**FACTS, "widths": widths}, 100, envelope) == expected
    with pytest.raises(OptimizerFormatError, match="the last a list of numbers"):
        read_envelope({"meta_training": {"tasks": [{**met, "widths": 32}]}})


@pytest.mark.parametrize(
    ("met", "told"),
    [
        ({"processes": None}, "must be a list of objects"),
        ({"processes": ["cpu"]}, "must be a list of objects"),
        ({"validation": {"best_update": 1, "updates": [1], "scores": [1.0]}}, "must have `suite`"),
        ({"validation": {"suite": "s", "best_update": 1, "updates": [1], "scores": []}}, "as many"),
        ({"seconds": -1}, "must be a number of seconds"),
    ],
)  # fmt: skip
def test_a_manifest_that_a_report_cannot_be_made_of_is_refused(met, told):
    with pytest.raises(OptimizerFormatError, match=told):
        check_meta_training({"meta_training": met})
