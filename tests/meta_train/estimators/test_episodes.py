"""Episodes begin and end at window boundaries, at staggered times, with lengths as drawn."""

import jax
import numpy as np
import pytest

from meta_train.estimators.episodes import begin_episodes, log_uniform, no_episodes


def run_episodes(windows, pairs=8, **settings):
    """(restart, age at the end of the window) of every window: [windows, pairs] each."""
    episodes, restarts, ages = no_episodes(pairs), [], []
    for i in range(windows):
        keys = jax.random.split(jax.random.key(i), pairs)
        restart, episodes = begin_episodes(keys, episodes, **settings)
        episodes = episodes._replace(age=episodes.age + settings["window"])
        restarts.append(restart)
        ages.append(episodes.age)
    return np.asarray(restarts), np.asarray(ages)


@pytest.mark.parametrize(("pairs", "length", "window"), [(8, 16, 2), (10, 200, 20), (49, 98, 2)])
def test_staggered_pairs_cover_all_ages(pairs, length, window):
    """As many pairs as windows: in floating point, shares of 10 or 49 lose some."""
    restarts, ages = run_episodes(2 * pairs, pairs, length=length, window=window, stagger=True)
    assert restarts[0].all()
    for row in ages[pairs:]:
        assert sorted(row) == list(range(window, length + 1, window))
    assert (restarts[pairs:].sum(axis=1) == 1).all()


def test_without_stagger_all_begin_together_and_none_never_restarts():
    restarts, ages = run_episodes(12, length=8, window=2, stagger=False)
    assert (restarts.all(axis=1) == (np.arange(12) % 4 == 0)).all()
    assert ages.max() == 8
    restarts, _ = run_episodes(12, length=None, window=2, stagger=False)
    assert restarts[0].all()
    assert not restarts[1:].any()


def test_drawn_lengths_are_log_uniform_and_whole_windows():
    draw = log_uniform(10, 1000)
    lengths = np.asarray(jax.vmap(draw)(jax.random.split(jax.random.key(0), 20_000)))
    assert lengths.min() == 10
    assert 990 <= lengths.max() <= 1000
    middle = np.mean(lengths <= 100)
    assert middle == pytest.approx(0.5, abs=5 * 0.5 / np.sqrt(20_000))
    restarts, ages = run_episodes(300, length=draw, window=20, stagger=True)
    ended = ages[:-1][restarts[1:]]
    assert (ended % 20 == 0).all()
    assert ended.max() <= 1000
    assert len(set(ended)) > 10


def test_staggered_lengths_do_not_overflow():
    pairs, length = 5_000, 1_000_000
    keys = jax.random.split(jax.random.key(0), pairs)
    _, episodes = begin_episodes(keys, no_episodes(pairs), length=length, window=1, stagger=True)
    expected = -(-length * np.arange(1, pairs + 1, dtype=np.int64) // pairs)
    np.testing.assert_array_equal(episodes.length, expected)


def test_a_length_that_is_not_an_integer_is_refused():
    settings = dict(window=2, stagger=False)
    with pytest.raises(ValueError, match="`length` returned float32"):
        run_episodes(1, length=lambda key: 4.5, **settings)
    _, ages = run_episodes(3, length=lambda key: 0, **settings)
    assert (ages == 2).all()  # one window at least
