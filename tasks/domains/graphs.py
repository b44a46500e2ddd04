"""Sets and graphs that are drawn by key."""

from collections.abc import Callable, Mapping
from functools import partial

from tasks.architectures import Architecture, ModelName, parse
from tasks.base import TaskFamily
from tasks.catalogue import AdamTarget, ParametricFamily, Row
from tasks.graphs import networks, sets
from tasks.graphs.communities import community_family, sample_contrast
from tasks.graphs.sets import set_family
from tasks.graphs.triangles import triangle_family


def _row(
    problem: str,
    model: str,
    make: Callable[..., TaskFamily],
    table: Mapping[str, Architecture],
    target: AdamTarget,
) -> Row:
    name, parsed = f"{problem}_{model}", parse(model, table)
    if parsed is None:
        raise ValueError(f"{model!r} is no model of {', '.join(table)}")
    return Row(name, partial(make, name, model=parsed), target)


def _set_row(statistic: str, model: str, target: AdamTarget) -> Row:
    make = partial(set_family, statistic=statistic)
    return _row(f"set_{statistic}", model, make, sets.ARCHITECTURES, target)


def _community_row(model: str, target: AdamTarget) -> Row:
    make = community_family
    return _row("graph_communities", model, make, networks.ARCHITECTURES, target)


def _triangle_row(model: str, target: AdamTarget) -> Row:
    make = triangle_family
    return _row("graph_triangles", model, make, networks.ARCHITECTURES, target)


ROWS = (
    _set_row("maximum", "deepsets32x32", AdamTarget(1e-2, 40, 0.4)),
    _set_row("maximum", "deepsets32x32_max", AdamTarget(1e-2, 40, 0.3)),
    _set_row("spread", "deepsets32x32", AdamTarget(1e-2, 40, 0.4)),
    _set_row("spread", "deepsets16", AdamTarget(1e-2, 40, 0.5)),
    _community_row("gcn16x16", AdamTarget(1e-2, 40, 0.6)),
    _community_row("gin16x16", AdamTarget(1e-2, 40, 0.6)),
    _community_row("gat16x16", AdamTarget(1e-2, 40, 0.6)),
    _triangle_row("gin16x16", AdamTarget(1e-2, 60, 0.5)),
    _triangle_row("gin32", AdamTarget(1e-2, 60, 0.5)),
)


def _networks(name: str, model: str, widths: list[int]) -> TaskFamily:
    return community_family(name, ModelName(model, tuple(widths), ""), sample=sample_contrast)


FAMILIES = (
    ParametricFamily(
        "graph_networks",
        "networks on block models; their density, their contrast and what is told vary",
        tuple(
            {"model": model, "widths": widths}
            for model in ("gcn", "gin", "gat")
            for widths in ([16], [32, 32], [16, 16, 16])
        ),
        _networks,
        AdamTarget(1e-2, 60, 0.85),
    ),
)
