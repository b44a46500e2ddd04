"""``describe``: what is known of some tasks, and the tensors of their models."""

from collections.abc import Iterator, Sequence

import jax

from tasks.base import TaskFamily, parameter_count
from tasks.catalogue import parametric_families, rows
from tasks.commands.arguments import names_given
from tasks.holdout import held_out_axes, task_split
from tasks.registry import get_family


def main(arguments: Sequence[str]) -> None:
    """Print a paragraph for each name."""
    for name in names_given("describe", arguments):
        print("\n".join(described(name)), end="\n\n")


def described(name: str) -> Iterator[str]:
    """Lines on one task, of any name that `get_family` takes."""
    family = get_family(name)
    metadata = family.metadata
    split, axes = task_split(metadata), held_out_axes(metadata)
    yield name
    facts = {
        "domain": metadata.domain,
        "data": metadata.data,
        "architecture": metadata.architecture,
        "hidden widths": " × ".join(map(str, metadata.widths)) or "none",
        "activation": metadata.activation,
        "parameters": f"{parameter_count(family):,}",
        "minibatch": metadata.batch_size,
        "horizon": f"{metadata.horizon} inner steps",
        "initial loss": f"{metadata.initial_loss:.4g}, of a model that knows nothing",
        "split": f"{split}, for its {' and '.join(axes)}" if len(axes) > 1 else split,
    }
    if row := rows().get(name):
        facts["Adam"] = (
            f"at {row.adam.rate:g} takes the test loss to {row.adam.share:g} of what it was, or "
            f"less, in {row.adam.steps} steps"
        )
    if parametric := parametric_families().get(name):
        facts["family"] = f"{parametric.summary}; {len(parametric.shapes)} members:"
    for key, value in facts.items():
        yield f"  {key:<14}{value}"
    if parametric:
        for index, shape in enumerate(parametric.shapes):
            yield f"    {name}.{index:<4}" + ", ".join(f"{k} {v}" for k, v in shape.items())
    yield from _tensors(family)


def _tensors(family: TaskFamily) -> Iterator[str]:
    """What a configuration draws, and the parameters, with their shapes."""
    key = jax.random.key(0)
    drawn = jax.eval_shape(family.sample, key)
    params = jax.eval_shape(lambda key: family.build(family.sample(key)).init(key)[0], key)
    for title, tree in (("drawn for every task", drawn), ("parameters", params)):
        leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
        if leaves:
            yield f"  {title}:"
        for path, leaf in leaves:
            shape = " × ".join(map(str, leaf.shape)) or "scalar"
            where = jax.tree_util.keystr(path, simple=True, separator="/")
            yield f"    {where:<40}{shape}"
