"""`python -m meta_train.evaluate`, whole: files, keys, raw runs, the same every time."""

import json
import re
import shutil
import signal
import time

import jax
import pytest

import learned_opt
from learned_opt import RULES
from meta_train.evaluate.tuning import FIRST_TUNING_SEED
from tests.end_to_end.commands import EVALUATE, run, start

REPORT = "meta_train.report"
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
    "seconds": 100.0,
}
FILES = {"report.html", "report.json", "report.md", "report.csv", "evaluation.json", "raw", ".lock"}
SUITE = """
name = "gate"
tuning_seeds = 2

[[tasks]]
family = "fashion_mnist_8x8_mlp32"
steps = 20
seeds = 5

[[tasks]]
family = "quadratic32"
steps = 20
seeds = 5

[[thresholds]]
measure = "final_loss_ratio_iqm"
of = "low"
at_least = 1.0
"""


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    """A rule with random weights, hence a bad optimizer, and a suite that it does not pass."""
    folder = tmp_path_factory.mktemp("evaluated")
    rule = RULES["mlp"](step_multiplier=0.01)
    theta = rule.init(jax.random.key(0))
    learned_opt.save(folder / "bad/optimizer", rule, theta, meta_training=META_TRAINING)
    (folder / "gate.toml").write_text(SUITE)
    return folder, [f"--optimizer={folder / 'bad/optimizer'}", f"--suite={folder / 'gate.toml'}"]


@pytest.fixture(scope="module")
def evaluated(arguments):
    folder, given = arguments
    return folder, run(EVALUATE, *given, f"--workdir={folder / 'evaluation'}")


@pytest.fixture(scope="module")
def report(evaluated):
    return json.loads((evaluated[0] / "evaluation/report.json").read_text())


def test_it_ends_with_a_table_four_files_and_the_status_of_the_thresholds(evaluated):
    folder, (code, output, error) = evaluated
    assert code == 3, error
    assert re.search(r"task @ steps +bad +Adam +Adam ÷ bad", output)
    assert "fashion_mnist_8x8_mlp32 @ 20" in output
    assert "Fails 1 of 1 thresholds" in output
    assert "Traceback" not in error
    for kind in ("html", "md", "json", "csv"):
        assert str(folder / f"evaluation/report.{kind}") in output
    for kind in ("html", "md"):  # what the meta-training met and left out
        text = (folder / f"evaluation/report.{kind}").read_text()
        assert re.search(r"windows of pairs with a loss that was not finite\W+(\w+\W+)*?17\b", text)
        assert re.search(r"updates skipped, for a gradient that exploded\W+(\w+\W+)*?3\b", text)
    assert {p.name for p in (folder / "evaluation").iterdir()} == FILES


def test_the_promised_keys(report):
    assert report["format"] == 3
    assert set(report["aggregates"]) == {"bad"}
    for name in ("final_loss_ratio_iqm", "speedup_iqm"):
        estimate = report["aggregates"]["bad"][name]
        assert set(estimate) == {"value", "low", "high"}
        assert estimate["low"] <= estimate["value"] <= estimate["high"]
    assert report["provenance"]["optimizers"]["bad"]["meta_training"] == META_TRAINING
    assert report["provenance"]["evaluation"]["peak_memory_bytes"] > 1 << 26
    assert {row["contestant"] for row in report["cost"]} == {"bad", "adam", "sgd_momentum"}
    assert all(row["step_us"] > 0 for row in report["cost"])


def test_the_ledger_tells_the_tuning(report):
    assert {(row["task"], row["contestant"]) for row in report["ledger"]} == {
        (task["task"], name) for task in report["tasks"] for name in ("adam", "sgd_momentum")
    }
    scored = {seed for task in report["tasks"] for seed in task["seeds"]}
    for row in report["ledger"]:
        assert len(row["rates"]) >= 15
        assert row["variants"] == ["constant", "cosine"]
        assert min(row["tuning_seeds"]) >= FIRST_TUNING_SEED
        assert not scored & set(row["tuning_seeds"])
        for variant, losses in row["losses"].items():
            best = row["best"][variant]
            finite = [loss for loss in losses if loss is not None]
            assert best["loss"] == min(finite)
            assert best["learning_rate"] == row["rates"][losses.index(min(finite))]


def test_what_lies_outside_the_meta_training_is_said(report):
    shifts = {row["family"]: row["shifts"]["bad"] for row in report["tasks"]}
    assert shifts["fashion_mnist_8x8_mlp32"] == []
    assert shifts["quadratic32"] == ["domain", "architecture", "activation", "data", "batch_size"]


def test_a_bad_optimizer_is_shown_as_one(evaluated, report):
    assert report["aggregates"]["bad"]["final_loss_ratio_iqm"]["high"] < 1
    text = (evaluated[0] / "evaluation/report.md").read_text()
    assert "It ends above tuned Adam" in text.split("\n\n")[1]


def test_the_page_needs_nothing_but_itself(evaluated):
    page = (evaluated[0] / "evaluation/report.html").read_text()
    assert "http" not in page.replace("http://www.w3.org", "")
    assert re.findall(r"<(link|iframe|img)|src=", page) == []
    assert page.count("<svg") == 7  # two tasks on three splits, and the profile


def without_times(folder):
    """The report but for what may differ between two evaluations: times, commands and memory."""
    report = json.loads((folder / "report.json").read_text())
    for times in ("cost", "provenance"):
        del report[times]
    return report


def peak_memory(folder):
    report = json.loads((folder / "report.json").read_text())
    return report["provenance"]["evaluation"]["peak_memory_bytes"]


def test_a_second_call_trains_nothing_and_redrawing_is_the_same(evaluated, arguments):
    folder, given = arguments
    workdir = folder / "evaluation"
    before = {path: path.stat().st_mtime_ns for path in (workdir / "raw").rglob("*.js*")}
    report, peak = without_times(workdir), peak_memory(workdir)
    started = time.perf_counter()
    code, _, error = run(EVALUATE, *given, f"--workdir={workdir}")
    assert (code, time.perf_counter() - started < 60) == (3, True), error
    assert before == {path: path.stat().st_mtime_ns for path in (workdir / "raw").rglob("*.js*")}
    assert without_times(workdir) == report
    assert peak_memory(workdir) >= peak  # of the call that trained

    page = (workdir / "report.html").read_bytes()
    (workdir / "report.html").unlink()
    code, _, error = run(REPORT, f"--workdir={workdir}")
    assert (code, error) == (3, "")
    assert (workdir / "report.html").read_bytes() == page


@pytest.mark.slow
def test_killed_at_random_and_two_machines_end_with_the_same_report(evaluated, arguments):
    folder, given = arguments
    expected = without_times(folder / "evaluation")
    killed = folder / "killed"
    for seconds in (8, 14, 20, 27):
        process = start(EVALUATE, *given, f"--workdir={killed}")
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    code, _, error = run(EVALUATE, *given, f"--workdir={killed}")
    assert code == 3, error
    assert without_times(killed) == expected

    for i in (1, 2):
        code, output, error = run(
            EVALUATE, *given, f"--workdir={folder / str(i)}", f"--shard={i}/2"
        )
        assert code == 3, error
        assert "missing" in output
    shutil.copytree(folder / "2/raw", folder / "1/raw", dirs_exist_ok=True)
    code, _, error = run(REPORT, f"--workdir={folder / '1'}")
    assert code == 3, error
    assert without_times(folder / "1") == expected


@pytest.mark.slow
def test_everything_of_a_full_budget_and_a_comparison(evaluated, arguments):
    """All baselines, sensitivity and behaviour, of an optimizer whose rate is tuned too."""
    folder, given = arguments
    workdir = folder / "full"
    code, output, error = run(
        EVALUATE,
        given[0] + ",fashion_normalized",
        "--suite=fashion_mnist_8x8_mlp16@10",
        "--seeds=2",
        "--budget=full",
        f"--workdir={workdir}",
        timeout=1500,
    )
    assert code == 0, error
    report = json.loads((workdir / "report.json").read_text())
    names = [c["name"] for c in report["contestants"]]
    assert names[:3] == ["bad", "fashion_normalized", "fashion_normalized/tuned"]
    assert len(names) == 3 + 7
    assert {row["trials"] for row in report["ledger"] if not row["widened"]} <= {44}
    axes = {row["axis"] for row in report["sensitivity"] if row["optimizer"] == "bad"}
    assert len(axes) == 7
    assert not any("missing" in row for row in report["sensitivity"])
    for behaviour in report["behaviour"]:
        assert len(behaviour["trajectory"]["steps"]) == 10
        assert behaviour["ablation"]
    page = (workdir / "report.html").read_text()
    assert "Sensitivity of bad" in page
    code, output, error = run(REPORT, f"--workdir={workdir}", f"--against={folder / 'evaluation'}")
    assert code == 2
    assert "no task with the same steps in common" in error
    code, output, error = run(
        REPORT, f"--workdir={folder / 'evaluation'}", f"--against={folder / 'evaluation'}"
    )
    assert code == 0, error
    assert "| bad | bad | 2 | 1 [1, 1] |" in output
    assert (folder / "evaluation/comparison.html").is_file()


@pytest.mark.parametrize(
    ("module", "given", "told"),
    [
        (EVALUATE, ["--shard=0/2"], "--shard='0/2' must be i/n with 1 ≤ i ≤ n"),
        (EVALUATE, ["--baselines=adam,sgd"], "--baselines: unknown ['sgd']; legal ones: adam"),
        (EVALUATE, ["--baselines=lion"], "must have 'adam', which all others are compared with"),
        (EVALUATE, ["--sections=costs"], "--sections: unknown ['costs']; legal ones: cost, sens"),
        (EVALUATE, ["--budget=huge"], "--budget=huge: value should be one of <fast|full>"),
        (EVALUATE, ["--seeds=0"], "--seeds=0"),
        (REPORT, [], "has no evaluation.json; give the directory of an evaluation"),
    ],
)
def test_what_cannot_be_done_is_one_line(module, given, told, tmp_path):
    if module == EVALUATE:
        given = ["--optimizer=fashion_mlp", "--suite=tiny", *given]
    code, output, error = run(module, f"--workdir={tmp_path}", *given)
    assert (code, output) == (2, "")
    assert len(error.strip().splitlines()) == 1
    assert told in error
    assert not any(tmp_path.iterdir())
