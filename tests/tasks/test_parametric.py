"""Configurations of parametric families: drawn within bounds, written, rebuilt."""

import json
from collections import Counter

import jax
import numpy as np
import pytest

from tasks import UnknownTaskError, parameter_count, parametric_families
from tasks.parametric import (
    NoSuchConfigurationError,
    from_json,
    operations,
    rebuild,
    sample,
    to_json,
)

NAME = "fashion_mlps"


@pytest.mark.parametrize("name", parametric_families())
def test_a_configuration_is_written_and_rebuilt_to_the_bit(name):
    configuration = sample(name, seed=4)
    again = from_json(json.loads(json.dumps(to_json(configuration))))
    assert (again.family, again.shape) == (configuration.family, dict(configuration.shape))
    jax.tree.map(np.testing.assert_array_equal, again.values, configuration.values)
    assert jax.tree.map(lambda x: x.dtype, again.values) == jax.tree.map(
        lambda x: x.dtype, configuration.values
    )
    family = rebuild(again)
    jax.tree.map(
        np.testing.assert_array_equal, family.sample(jax.random.key(8)), configuration.values
    )
    assert parameter_count(family) > 0


def test_seeds_draw_every_shape_alike_and_values_apart():
    drawn = [sample("quadratics", seed) for seed in range(200)]
    counts = Counter(configuration.shape["dimension"] for configuration in drawn)
    assert set(counts) == {2, 8, 32, 128}
    assert min(counts.values()) > 50 - 5 * np.sqrt(200 * 0.25 * 0.75)
    assert len({float(configuration.values["noise"]) for configuration in drawn}) == 200
    assert to_json(sample("quadratics", 3)) == to_json(drawn[3])


def test_bounds_are_kept():
    small = [sample(NAME, seed, max_parameters=3_000) for seed in range(8)]
    assert all(parameter_count(rebuild(each)) <= 3_000 for each in small)
    assert len({tuple(each.shape["widths"]) for each in small}) > 1
    bound = 2.5 * operations(rebuild(small[0]))
    cheap = [sample(NAME, seed, max_operations=bound) for seed in range(4)]
    assert all(operations(rebuild(each)) <= bound for each in cheap)
    with pytest.raises(NoSuchConfigurationError, match="at most 10 parameters and inf operations"):
        sample(NAME, 0, max_parameters=10)


def test_operations_are_those_of_the_products():
    """Two layers of 64 × 16 and 16 × 10 weights, 64 examples, three products a layer but one."""
    [family] = [
        parametric_families()[NAME].member(index)
        for index, shape in enumerate(parametric_families()[NAME].shapes)
        if shape["widths"] == [16]
    ]
    products = 2 * 64 * (2 * 64 * 16 + 3 * 16 * 10)
    assert products < operations(family) < 1.6 * products


def test_what_is_no_configuration_is_refused():
    written = json.loads(to_json(sample("quadratics", 0)))
    with pytest.raises(UnknownTaskError, match="unknown task 'nope'"):
        sample("nope", 0)
    for change, told in (
        ({"shape": {"dimension": 3}}, "no shape {'dimension': 3}; it has"),
        ({"values": {"noise": written["values"]["noise"]}}, "are drawn; it was written by"),
    ):
        with pytest.raises(NoSuchConfigurationError, match=told):
            rebuild(from_json(json.dumps(written | change)))
    for text in ("", "[]", "{}", '{"family": "quadratics", "shape": {}, "values": 3}'):
        with pytest.raises(NoSuchConfigurationError, match="no configuration of a family"):
            from_json(text)
    written["values"]["noise"]["dtype"] = "object"
    with pytest.raises(NoSuchConfigurationError, match="dtype 'object' is not numeric"):
        from_json(json.dumps(written))
