"""Episodes that grow longer with the updates of θ."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train.config import ConfigError, check_config
from meta_train.curriculum import episode_length, length_bound, shortest_episode
from meta_train.presets import TINY

GROWING = dataclasses.replace(
    TINY, window=5, length_min=10, length_max=640, length_start=10, length_updates=60
)


def test_the_bound_grows_geometrically_in_whole_windows():
    updates = np.arange(100)
    bounds = np.array(jax.vmap(lambda k: length_bound(GROWING, k))(jnp.asarray(updates)))
    assert bounds.dtype == np.int32
    assert bounds[0] == 10
    assert (bounds[60:] == 640).all()
    assert (np.diff(bounds) >= 0).all()
    assert (bounds % 5 == 0).all()
    exact = 10 * 64 ** (np.minimum(updates, 60) / 60)
    assert (np.abs(bounds - exact) <= 2.5 + 1e-3).all()


def test_lengths_are_log_uniform_up_to_the_bound_of_the_update():
    keys = jax.random.split(jax.random.key(0), 4000)

    @jax.jit
    def lengths(update):
        return jax.vmap(episode_length(GROWING, update))(keys)

    for update in (0, 30, 60):
        drawn, bound = np.array(lengths(update)), int(length_bound(GROWING, update))
        assert drawn.min() == 10
        assert bound - 1 <= drawn.max() <= bound  # the bound itself is drawn once in 5,000 times
        middle, half = np.mean(np.log([10, bound])), np.log(bound / 10) / 2
        error = half / np.sqrt(3 * len(keys)) + 1e-2  # of rounding to whole steps
        assert abs(np.log(drawn).mean() - middle) < 4 * error
    assert lengths._cache_size() == 1


def test_a_fixed_length_is_grown_to():
    config = dataclasses.replace(GROWING, length_min=640)
    keys = jax.random.split(jax.random.key(0), 50)
    for update, length in ((0, 10), (30, 80), (60, 640), (10**6, 640)):
        drawn = jax.vmap(episode_length(config, jnp.int32(update)))(keys)
        np.testing.assert_array_equal(drawn, length)
    assert shortest_episode(config) == 10


def test_without_a_curriculum_nothing_is_traced():
    config = dataclasses.replace(GROWING, length_start=0, length_updates=0, length_min=640)
    assert episode_length(config, jnp.int32(3)) == 640
    assert shortest_episode(config) == 640


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"length_start": 0}, "`config.length_start`=0 and `config.length_updates`=60 go together"),
        ({"length_updates": 0}, "`config.length_updates`=0 go together"),
        ({"length_start": 645}, "`config.length_start`=645 is above `config.length_max`=640"),
        ({"length_start": 12}, "`config.window`=5 does not divide `config.length_start`=12"),
        ({"length_start": -5}, "`config.length_start`=-5: must be at least 0"),
        (
            {"estimator": "full_es", "window": 10, "length_max": 10},
            "`config.length_start`=10: 'full_es' unrolls whole episodes",
        ),
    ],
)
def test_a_curriculum_that_leads_nowhere_is_refused(changes, message):
    check_config(GROWING)
    with pytest.raises(ConfigError, match=message):
        check_config(dataclasses.replace(GROWING, **changes))
