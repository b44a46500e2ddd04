"""Problems of sequences: their targets by loops, and what a model that knows nothing loses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks import get_family, parametric_families
from tasks.sequences.addition import marked_numbers
from tasks.sequences.memory import ANSWERS, GO, memory_sequences
from tasks.sequences.recall import KEYS, VALUES, pairs_and_question


@pytest.mark.parametrize(
    ("answer", "said"), [("copy", list), ("reversal", lambda s: s[::-1]), ("sorting", sorted)]
)
def test_what_is_to_be_said_after_the_delay(answer, said):
    symbols = np.asarray([[3, 1, 8], [2, 2, 1]])
    length = 12
    for delay in (0, 2, 5):
        inputs, targets = memory_sequences(symbols, ANSWERS[answer](symbols), delay, length)
        for row in range(2):
            blanks = [0] * (length - 3 - delay - 1)
            assert list(inputs[row]) == [*symbols[row], *[0] * delay, GO, *blanks]
            spoken = [0] * (3 + delay + 1) + list(said(list(symbols[row])))
            assert list(targets[row]) == spoken + [0] * (length - len(spoken))


def test_copies_differ_in_their_delay_and_in_the_symbols_in_use():
    family = parametric_families()["sequence_copies"].member(0)
    drawn = jax.vmap(family.sample)(jax.random.split(jax.random.key(0), 400))
    assert set(np.asarray(drawn["delay"])) == set(range(2, 11))
    assert set(np.asarray(drawn["used"])) == set(range(2, 9))
    batch = family.batch(jax.random.key(1), family.load()["train"])
    assert batch["drawn"].shape == (32, 3)
    assert 700 < batch["drawn"].max() < 840
    # An answer that says each symbol with its own probability loses what a uniform one does.
    cfg = {"delay": jnp.int32(2), "used": jnp.int32(8), "init_scale": jnp.float32(1)}
    task = family.build(cfg)

    @jax.jit
    def loss(key):
        params, state = task.init(key)
        params = {**params, "answer": jax.tree.map(jnp.zeros_like, params["answer"])}
        return task.loss(params, state, key, batch)[0]

    assert float(loss(jax.random.key(0))) == pytest.approx(np.log(9))


def test_sums_of_the_marked_numbers():
    batch = jax.tree.map(np.asarray, marked_numbers(jax.random.key(0), 200, 10))
    numbers, marks = batch["input"][..., 0], batch["input"][..., 1]
    places = set()
    for row in range(200):
        first, second = np.flatnonzero(marks[row])
        places |= {first, second}
        assert first < 5 <= second
        assert batch["target"][row] == pytest.approx(numbers[row, first] + numbers[row, second])
    assert places == set(range(10))
    assert set(np.unique(marks)) == {0, 1}
    assert (numbers.min(), numbers.max()) == pytest.approx((0, 1), abs=0.01)
    assert np.mean(np.square(marked_numbers(jax.random.key(1), 4000, 10)["target"])) == (
        pytest.approx(7 / 6, rel=0.05)
    )


def test_the_value_that_came_with_the_key():
    batch = jax.tree.map(np.asarray, pairs_and_question(jax.random.key(0), 200, 3))
    tokens, labels = np.argmax(batch["input"], axis=2), batch["label"]
    assert (batch["input"].sum(axis=2) == 1).all()
    asked = set()
    for row, label in zip(tokens, labels, strict=True):
        keys, values = list(row[0:6:2]), row[1:6:2]
        assert len(set(keys)) == 3
        assert max(keys) < KEYS <= min(values)
        asked.add(keys.index(row[-1]))
        assert label == values[keys.index(row[-1])] - KEYS
    assert asked == {0, 1, 2}
    assert set(labels) == set(range(VALUES))


def test_families_of_sequences_say_what_they_are():
    family = get_family("associative_recall_gru32")
    assert family.metadata.domain == "synthetic sequences"
    assert family.metadata.initial_loss == pytest.approx(np.log(8))
    assert family.metadata.data == "synthetic, 5 places"
