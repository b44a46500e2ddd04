"""Where a report comes from: the optimizers' meta-training, this evaluation's machine and code."""

from collections.abc import Mapping
from typing import Any

from meta_train.evaluate.report.table import Table

Row = Mapping[str, Any]


def provenance(report: Row) -> Table:
    """A line for each fact."""
    source = report["provenance"]
    facts: dict[str, str] = {}
    for name, optimizer in source["optimizers"].items():
        met = optimizer["meta_training"]
        facts |= {
            f"{name}: {what}": said
            for what, said in {
                "from": optimizer["source"],
                "rule": f"{optimizer['rule']} {optimizer['constants']}",
                "SHA-256 of the manifest": optimizer["manifest_sha256"],
                "meta-trained on": ", ".join(f"{t.get('name')}" for t in met.get("tasks", []))
                or "unknown",
                "widths": ", ".join(f"{t.get('widths')}" for t in met.get("tasks", []))
                or "unknown",
                "machines": "; ".join(dict.fromkeys(map(_machine, met.get("processes", []))))
                or "unknown",
                "configuration": f"{met.get('config', 'unknown')}",
                "horizons": " to ".join(map(str, met.get("horizons", []))) or "unknown",
                "updates": f"{met.get('updates', 'unknown')}",
                "inner steps": f"{met.get('inner_steps', 'unknown')}",
                "windows of pairs with a loss that was not finite": (
                    f"{met.get('diverged_windows', 'unknown')}"
                ),
                "updates skipped, for a gradient that exploded": (
                    f"{met.get('skipped_updates', 'unknown')}"
                ),
                "seconds of meta-training": f"{met.get('seconds', 'unknown')}",
                "seed": f"{met.get('seed', 'unknown')}",
            }.items()
        }
    made = source["evaluation"]
    facts |= {
        "suite": source["suite"],
        "evaluated": made["evaluated"],
        "code revision": made["git_revision"] or "not a checkout",
        "SHA-256 of the sources": source["sources_sha256"],
        "machine": f"{made['machine']}; {', '.join(made['devices'])}",
        "peak memory": _mebibytes(made["peak_memory_bytes"]),
        "Python": made["python"],
        "kernels": made["kernels"],
        "versions": ", ".join(f"{k} {v}" for k, v in made["versions"].items()),
        "command": made["command"],
    }
    if report["cost"]:
        measured = dict.fromkeys(row["machine"] for row in report["cost"])
        facts["costs measured on"] = " and ".join(measured)
    return Table("Provenance", ["", ""], [[name, said] for name, said in facts.items()])


def _mebibytes(count: int | None) -> str:
    return "unknown" if count is None else f"{count / 2**20:,.0f} MiB"


def _machine(process: Row) -> str:
    devices = ", ".join(dict.fromkeys(map(str, process.get("devices", []))))
    return f"{process.get('machine', 'unknown')}; {devices}; code {process.get('git_revision')}"
