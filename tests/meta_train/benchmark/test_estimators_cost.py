"""What an estimator adds to the unroll that it makes."""

import dataclasses

import pytest

from meta_train.benchmark.estimators import bare_unroll, compare, updates_of
from meta_train.presets import DEMO

CONFIG = dataclasses.replace(DEMO, devices=2)


@pytest.mark.slow
def test_an_update_by_pes_costs_at_most_a_tenth_more_than_the_bare_unroll():
    """Noise, credit, restarts and the outer step; in turns, and the median ratio counts."""
    _, cost = compare(bare_unroll(CONFIG), [updates_of(CONFIG)], turns=21)
    assert cost.ratio <= 1.1, cost
