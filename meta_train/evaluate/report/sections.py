"""Tables and figures of the sections beside the training runs: cost, sensitivity, behaviour."""

import html
from collections.abc import Mapping
from typing import Any

import numpy as np

from meta_train.evaluate.report import figures
from meta_train.evaluate.report.table import Table
from meta_train.evaluate.report.words import interval, short, titles_of

Row = Mapping[str, Any]
HOTTEST = np.log(2)  # a ratio of 2, or of a half, has the full colour


def section_tables(report: Row) -> list[Table]:
    """Of the sections that are there."""
    found = [_cost(report)] if report["cost"] else []
    optimizers = list(report["provenance"]["optimizers"])
    for name in optimizers:
        rows = [row for row in report["sensitivity"] or [] if row["optimizer"] == name]
        found += [_heat_map(name, rows)] if rows else []
    for behaviour in report["behaviour"] or []:
        found += [_ablation(behaviour)] if behaviour["ablation"] else []
    return found


def _cost(report: Row) -> Table:
    titles = titles_of(report)
    return Table(
        "Cost",
        ["task @ steps", "optimizer", "µs an update", "÷ Adam's update", "µs a training step",
         "÷ Adam's step", "state bytes a parameter", "seconds to compile", "speed-up in time",
         "break-even runs"],
        [
            [
                row["task"],
                titles[row["contestant"]],
                short(row["update_us"], 3),
                short(row["update_ratio"], 3),
                short(row["step_us"], 3),
                short(row["step_ratio"], 3),
                short(row["state_bytes"], 3),
                short(row["compile_seconds"], 3),
                short(row.get("wall_clock_speedup"), 3),
                row.get("break_even", "–"),
            ]
            for row in report["cost"]
        ],
    )  # fmt: skip


def _heat_map(name: str, rows: list[Row]) -> Table:
    """A row for each axis, its levels side by side: the ratio, coloured by its logarithm."""
    axes = list(dict.fromkeys(row["axis"] for row in rows))
    levels = sorted({row["level"] for row in rows})
    found = {(row["axis"], row["level"]): row for row in rows}
    cells, heat = [], {}
    for i, axis in enumerate(axes):
        line = [axis]
        for j, level in enumerate(levels, 1):
            row = found.get((axis, level))
            line.append("" if row is None else _heat_text(row))
            if row is not None and "ratio" in row:
                heat[i, j] = _heat(row["ratio"]["value"])
        cells.append(line)
    title = f"Sensitivity of {name} on {rows[0]['task']}: tuned Adam's loss ÷ its own"
    return Table(title, ["axis", *(f"{level:g}" for level in levels)], cells, heat)


def _heat(ratio: float) -> float:
    return float(np.log(max(ratio, 1e-6)) / HOTTEST)


def _heat_text(row: Row) -> str:
    if "missing" in row:
        return "missing"
    level = f"depth {row['level']:g}: " if row["axis"] == "depth" else ""  # no factor
    return level + interval(row["ratio"])


def _ablation(behaviour: Row) -> Table:
    rows, heat = [], {}
    for i, row in enumerate(behaviour["ablation"]):
        diverged = f"{row['diverged']} diverged"
        rows.append([row["inputs"], diverged if row["diverged"] else interval(row["ratio"])])
        if row["ratio"]:
            heat[i, 1] = -_heat(row["ratio"]["value"])
    title = f"{behaviour['optimizer']} without a group of its inputs, on {behaviour['task']}"
    return Table(title, ["inputs", "final loss ÷ that with all"], rows, heat)


def section_figures(report: Row) -> list[str]:
    """HTML of the meta-validation and of the behaviour of every learned optimizer."""
    found = [
        f"<h2>Meta-validation</h2><div class='curves'>{''.join(curves)}</div>"
        for curves in [_validations(report)]
        if curves
    ]
    for behaviour in report["behaviour"] or []:
        drawn = _behaviour(behaviour)
        if drawn:
            title = f"What {behaviour['optimizer']} does on {behaviour['task']}"
            found.append(f"<h2>{html.escape(title)}</h2>")
            found.append(f'<div class="curves">{"".join(drawn)}</div>')
    return found


def _validations(report: Row) -> list[str]:
    """The scores on the way of the optimizers that were validated in their meta-training."""
    return [
        figures.lines(
            f"{name}: validated on {validation['suite']}, best after {validation['best_update']:,}",
            validation["updates"],
            {"score, lower is better": validation["scores"]},
            xlabel="updates of θ",
        )
        for name, facts in report["provenance"]["optimizers"].items()
        if (validation := facts["meta_training"].get("validation"))
    ]


def _behaviour(behaviour: Row) -> list[str]:
    if "trajectory" not in behaviour:
        return []
    name, path, answer = behaviour["optimizer"], behaviour["trajectory"], behaviour["response"]
    steps, grid = path["steps"], answer["grid"]
    both = {"xlabel": "inner steps"}
    return [
        figures.lines(
            f"{name}: RMS of the update", steps,
            {"its own": path["rms"], "tuned Adam's": path["adam_rms"]}, yscale="log", **both,
        ),
        figures.lines(
            f"{name}: beside Adam's step", steps,
            {"cosine": path["cosine"], "distance ÷ Adam's norm": path["distance"]}, **both,
        ),
        figures.lines(
            f"{name}: update against g", grid,
            {"its own": answer["ours"]["gradient"], "Adam's": answer["adam"]["gradient"]},
            xlabel="last gradient ÷ RMS of those before", ylabel="update ÷ its RMS",
        ),
        figures.lines(
            f"{name}: update against m", grid,
            {"its own": answer["ours"]["momentum"], "Adam's": answer["adam"]["momentum"]},
            xlabel="mean of the gradients ÷ their noise", ylabel="update ÷ its RMS",
        ),
    ]  # fmt: skip
