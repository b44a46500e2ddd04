"""What there is, as rows of a table: made from the tasks themselves."""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tasks.base import TaskFamily, parameter_count
from tasks.catalogue import parametric_families, rows
from tasks.data.cache import cache_dir
from tasks.holdout import task_split

SOURCES = Path(__file__).parent

COLUMNS = (
    "name",
    "kind",
    "domain",
    "architecture",
    "data",
    "parameters",
    "batch",
    "horizon",
    "initial_loss",
    "split",
    "offline",
)


def listing() -> list[dict[str, Any]]:
    """All fixed tasks and parametric families, as JSON values under the names of `COLUMNS`.

    ``kind``: fixed or family; ``offline``: it needs no network and no prepared data set;
    ``initial_loss``: the loss of a model that knows nothing. A family has beside them ``members``,
    the number of its shapes, and ``largest_parameters``; what else is said of it is true of its
    first member. The table is kept in the user's cache, under a hash of the sources that made it.
    """
    kept = cache_dir() / f"listing-{_digest_of_sources()}.json"
    try:
        table: list[dict[str, Any]] = json.loads(kept.read_text("utf-8"))
    except (OSError, ValueError):
        table = _made()
        with contextlib.suppress(OSError):  # a cache that cannot be written is done without
            _keep(kept, table)
    return table


def _digest_of_sources() -> str:
    digest = hashlib.sha256()
    for path in sorted(SOURCES.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _keep(path: Path, table: list[dict[str, Any]]) -> None:
    """Write it whole, and remove those of other sources."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(table), "utf-8")
    temporary.replace(path)
    for other in path.parent.glob("listing-*.json"):
        if other != path:
            other.unlink(missing_ok=True)


def _made() -> list[dict[str, Any]]:
    fixed = [_facts(row.make(), "fixed", row.offline) for row in rows().values()]
    families = []
    for family in parametric_families().values():
        members = [family.member(index) for index in range(len(family.shapes))]
        largest = max(parameter_count(member) for member in members)
        facts = _facts(members[0], "family", family.offline)
        more = {"name": family.name, "members": len(members), "largest_parameters": largest}
        families.append(facts | more)
    return fixed + families


def _facts(family: TaskFamily, kind: str, offline: bool) -> dict[str, Any]:
    metadata = family.metadata
    return {
        "name": family.name,
        "kind": kind,
        "domain": metadata.domain,
        "architecture": metadata.architecture,
        "data": metadata.data,
        "parameters": parameter_count(family),
        "batch": metadata.batch_size,
        "horizon": metadata.horizon,
        "initial_loss": round(metadata.initial_loss, 4),
        "split": task_split(metadata),
        "offline": offline,
    }


def shown(facts: dict[str, Any]) -> list[str]:
    """The cells of a row, for people."""
    cells = {key: str(facts[key]) for key in COLUMNS}
    cells["offline"] = "yes" if facts["offline"] else "no"
    cells["parameters"] = f"{facts['parameters']:,}"
    if facts["kind"] == "family":
        cells["kind"] = f"family of {facts['members']}"
        if facts["largest_parameters"] != facts["parameters"]:
            cells["parameters"] += f" to {facts['largest_parameters']:,}"
    return list(cells.values())


def as_text(table: Iterable[dict[str, Any]]) -> str:
    """Aligned columns."""
    lines = [[column.replace("_", " ") for column in COLUMNS], *map(shown, table)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def as_markdown(table: Iterable[dict[str, Any]]) -> str:
    """A table of Markdown."""

    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cells)} |"

    titles = [column.replace("_", " ") for column in COLUMNS]
    return "\n".join([line(titles), line(["---"] * len(titles)), *map(line, map(shown, table))])
