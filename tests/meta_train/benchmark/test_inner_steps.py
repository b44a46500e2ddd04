"""The command that measures a meta-step: what it writes, and what it refuses."""

import json

import pytest

from tests.end_to_end.commands import run

TINY = ("--task=fashion_mnist_8x8_softmax", "--rule=mlp", "--particles=4", "--window=5")


@pytest.mark.slow
def test_the_figures_of_a_small_run_belong_together(tmp_path):
    file = tmp_path / "figures.json"
    code, output, error = run(
        "meta_train.benchmark", *TINY, "--batch=32", "--turns=3", f"--json={file}"
    )
    assert code == 0, error
    figures = json.loads(file.read_text())
    assert (figures["particles"], figures["window"], figures["batch"]) == (4, 5, 32)
    assert figures["devices"] == 2
    seconds = figures["update_seconds"]
    assert figures["inner_steps_per_second"] == pytest.approx(4 * 5 / seconds)
    assert sum(figures["part_seconds"].values()) == pytest.approx(seconds)
    nominal = 4 * 5 * 2 * ((19 * 32 + 32 * 32 + 32 * 2) * 650 + 3 * 32 * 640)
    assert figures["nominal_flops"] == nominal
    assert 0 < figures["floor_fraction"] < 1
    assert 0 < figures["compile_seconds_cached"] < figures["compile_seconds_cold"]
    assert figures["temporary_bytes"] < figures["peak_memory_bytes"]
    assert f"{figures['inner_steps_per_second']:,.0f} inner steps a second" in output


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ("--task=nope", "unknown task 'nope'"),
        ("--rule=nope", "`config.rule`='nope' is unknown"),
        ("--particles=3", "must be even"),
        ("--window=0", "`config.window`=0"),
        ("--batch=0", "`batch_size`=0"),
        ("--json=/nowhere/figures.json", "there is no directory '/nowhere'"),
    ],
)
def test_a_wrong_argument_is_refused_with_its_reason(wrong, reason):
    code, _, error = run("meta_train.benchmark", wrong)
    assert code != 0
    assert reason in error
    assert "Traceback" not in error
