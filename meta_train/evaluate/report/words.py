"""The report in a sentence or two: better or worse than tuned Adam, where, and how surely."""

from collections.abc import Mapping
from typing import Any

from meta_train.evaluate.statistics import Verdict
from meta_train.evaluate.statistics.comparisons import FEWEST, SMALLEST_EFFECT

SPLITS = {
    "test": "test loss",
    "outer_validation": "outer-validation loss",
    "train": "training loss",
}
"""In words, the scored one first."""


def verdicts(report: Mapping[str, Any]) -> list[str]:
    """One of each learned optimizer; the first thing to read."""
    titles = titles_of(report)
    several = sum(c["learned"] for c in report["contestants"]) > 1
    found = []
    for name, aggregate in report["aggregates"].items():
        said = f"{titles[name]}: " if several else ""
        found.append(said + _verdict(aggregate))
    return found + _failed(report)


def _verdict(aggregate: Mapping[str, Any]) -> str:
    if "final_loss_ratio_iqm" not in aggregate:
        return "nothing can be said, for its runs or those of tuned Adam are missing."
    said = [_comparison(aggregate)]
    if aggregate["diverged_runs"]:
        said.insert(0, f"It diverged in {aggregate['diverged_runs']} runs.")
    best = aggregate["best_variant"]
    if best["judgement"] != aggregate["judgement"]:
        said.append(
            "Beside the schedule of Adam that is better on the scored seeds, which no tuning knew, "
            f"the ratio is {interval(best['final_loss_ratio_iqm'])}."
        )
    if "held_out" in aggregate:
        said.append(_held_out(aggregate))
    if lacking := aggregate["tasks_of_suite"] - aggregate["tasks"]:
        said.append(f"{lacking} of {aggregate['tasks_of_suite']} tasks are missing.")
    if aggregate["missing_runs"]:
        said.append(f"{aggregate['missing_runs']} of its runs are missing.")
    return " ".join(said)


def _comparison(aggregate: Mapping[str, Any]) -> str:
    return (
        f"It {_standing(aggregate)} tuned Adam: Adam's final test loss is "
        f"{interval(aggregate['final_loss_ratio_iqm'])} times its own (IQM over "
        f"{_counted(aggregate['tasks'])}{_over_tasks(aggregate)}), and it gets there "
        f"{interval(aggregate['speedup_iqm'])} times as fast in steps{_censored(aggregate)}; it "
        f"wins {aggregate['wins']}, ties {aggregate['ties']} and loses {aggregate['losses']}."
    )


def _held_out(aggregate: Mapping[str, Any]) -> str:
    held = aggregate["held_out"]
    if held["tasks"] == aggregate["tasks"]:
        return "All of these tasks lie outside its meta-training."
    ratio = interval(held["final_loss_ratio_iqm"])
    return f"Outside its meta-training ({_counted(held['tasks'])}) the ratio is {ratio}."


def _counted(tasks: int) -> str:
    return f"{tasks} task{'s' * (tasks > 1)}"


def _failed(report: Mapping[str, Any]) -> list[str]:
    rows = report["thresholds"]
    if not rows:
        return []
    failed = sum(not row["passed"] for row in rows)
    if failed:
        return [f"Fails {failed} of {len(rows)} thresholds that were declared beforehand."]
    return [f"Passes all {len(rows)} thresholds that were declared beforehand."]


def _standing(aggregate: Mapping[str, Any]) -> str:
    """What the ratio over all tasks says, by the rules of `judge`."""
    if aggregate["judgement"] != Verdict.TIE:
        return {Verdict.WIN: "ends below", Verdict.LOSS: "ends above"}[aggregate["judgement"]]
    ratio, seeds = aggregate["final_loss_ratio_iqm"], aggregate["seeds"]
    if seeds < FEWEST:
        return f"cannot be told by {seeds} seed{'s' * (seeds > 1)} from"
    if ratio["low"] <= 1 <= ratio["high"]:
        return "is not distinguishable from"
    if ratio["value"] < 1 + SMALLEST_EFFECT:
        return f"is within {SMALLEST_EFFECT:.0%} of"
    return "ends, but for the runs that diverged, below"


def _over_tasks(aggregate: Mapping[str, Any]) -> str:
    over = aggregate["final_loss_ratio_iqm_over_tasks"]
    if over is None:
        return ""
    return f"; over tasks like these [{short(over['low'])}, {short(over['high'])}]"


def _censored(aggregate: Mapping[str, Any]) -> str:
    """A speed-up of what Adam never reached is a lower bound."""
    censored = aggregate["speedups_censored"]
    return f" or more (Adam never got there in {censored} runs)" if censored else ""


def interval(estimate: Mapping[str, float | None] | None) -> str:
    """``value [low, high]``."""
    if estimate is None or estimate["value"] is None:
        return "–"
    return f"{short(estimate['value'])} [{short(estimate['low'])}, {short(estimate['high'])}]"


def short(value: float | None, digits: int = 4) -> str:
    """A number of so many digits, for a table."""
    if value is None:
        return "–"
    text = f"{value:.{digits}g}"
    return text if "e" in text or abs(value) >= 10**digits else f"{float(text):g}"


def use_lines(report: Mapping[str, Any]) -> list[str]:
    """The lines of code that use the optimizers elsewhere."""
    optimizers = report["provenance"]["optimizers"].values()
    return [f"tx = learned_opt.load({facts['source']!r})" for facts in optimizers]


def loss(final: Mapping[str, Any]) -> str:
    """Mean and half of the interval; or how many seeds diverged."""
    if final["diverged"]:
        return f"{final['diverged']} of {len(final['runs']['test'])} diverged"
    test = final["test"]
    if test["low"] is None:
        return short(test["value"])
    half = (test["high"] - test["low"]) / 2
    return f"{short(test['value'])} ± {short(half, 2)}"


def titles_of(report: Mapping[str, Any]) -> dict[str, str]:
    """{contestant: in words}."""
    return {c["name"]: c["title"] for c in report["contestants"]}


def titles_of_labels(report: Mapping[str, Any]) -> dict[str, str]:
    """{label: in words}: ``Adam, cosine`` of ``adam/cosine``."""
    found = {}
    for contestant in report["contestants"]:
        for label in contestant["labels"]:
            variant = label.removeprefix(contestant["name"]).removeprefix("/")
            found[label] = f"{contestant['title']}, {variant}" if variant else contestant["title"]
    return found
