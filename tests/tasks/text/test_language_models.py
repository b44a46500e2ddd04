"""Models of sequences: causal, and what their equations say; the batches of language models."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks import UnknownTaskError, get_family, parameter_count, rows
from tasks.augmentations.cast import cast
from tasks.text.architectures import make_model, parse_model
from tasks.text.families import draw_sequences, language_model, spread_sequences
from tasks.text.variations import NOISE_SHARES, VARIED, noised

VOCABULARY, LENGTH = 7, 6
MODELS = ("rnn5", "gru5x4", "lstm5", "transformer32x2", "transformer5x1_relu", "conv4x4x4_tanh")


def compiled(name):
    """(logits(params, tokens), params) of a model of tokens."""
    model = make_model(parse_model(name))
    network = hk.without_apply_rng(
        hk.transform(lambda tokens: language_model(tokens, VOCABULARY, model))
    )

    @jax.jit
    def init(key):
        params = network.init(key, jnp.zeros((2, LENGTH), jnp.int32))
        # Biases that are zero at first would hide what they do.
        return jax.tree.map(lambda p: p + 0.1 * jax.random.normal(key, p.shape), params)

    return jax.jit(network.apply), init(jax.random.key(0))


@pytest.mark.parametrize("name", MODELS)
def test_no_model_sees_what_comes_later_and_all_see_what_came_before(name):
    logits, params = compiled(name)
    tokens = jax.random.randint(jax.random.key(2), (1, LENGTH), 0, VOCABULARY)
    changed = (tokens + jnp.eye(LENGTH, dtype=jnp.int32)) % VOCABULARY  # row t: token t
    before, after = (logits(params, t) for t in (jnp.repeat(tokens, LENGTH, 0), changed))
    moved = np.abs(before - after).max(axis=2)  # [changed token, place]
    np.testing.assert_array_equal(moved[np.tril_indices(LENGTH, -1)], 0)
    assert (moved[np.triu_indices(LENGTH)] > 1e-6).all()


def test_an_elman_cell_is_its_equation():
    logits, params = compiled("rnn5")
    tokens = np.asarray([[3, 0, 6]])
    w, b = (np.asarray(params["elman_cell/linear"][k], float) for k in "wb")
    embedding, bias = (np.asarray(params["~"][k], float) for k in ("embedding", "bias"))
    hidden, expected = np.zeros(5), []
    for token in tokens[0]:
        hidden = np.tanh(np.concatenate([np.sqrt(5) * embedding[token], hidden]) @ w + b)
        expected.append(embedding @ hidden + bias)
    np.testing.assert_allclose(logits(params, tokens)[0], expected, rtol=1e-5, atol=1e-5)


def test_causal_convolutions_are_loops_over_places():
    logits, params = compiled("conv4x4x4_tanh")
    tokens = np.asarray([[3, 0, 6, 1, 2, 2]])
    embedding, bias = (np.asarray(params["~"][k], float) for k in ("embedding", "bias"))
    x = 2 * embedding[tokens[0]]
    for i in range(3):
        w, b = (np.asarray(params[f"conv_{i}"][k], float) for k in "wb")
        before = [x[t - 2**i] if t >= 2**i else np.zeros(4) for t in range(LENGTH)]
        x = np.tanh(np.concatenate([before, x], axis=1) @ w + b)
    expected = x @ embedding.T + bias
    np.testing.assert_allclose(logits(params, tokens)[0], expected, rtol=1e-5, atol=1e-5)


def test_attention_is_a_loop_over_heads_and_places():
    from tasks.text.transformers import causal_attention

    network = hk.without_apply_rng(hk.transform(causal_attention))
    x = np.asarray(jax.random.normal(jax.random.key(0), (1, 4, 32)))
    params = jax.tree.map(np.asarray, jax.jit(network.init)(jax.random.key(1), x))
    joined = x[0] @ params["query_key_value"]["w"] + params["query_key_value"]["b"]
    query, key, value = np.split(joined.astype(float), 3, axis=1)
    mixed = np.zeros((4, 32))
    for head in (slice(0, 16), slice(16, 32)):
        for place in range(4):
            weights = np.exp(key[: place + 1, head] @ query[place, head] / 4)
            mixed[place, head] = weights @ value[: place + 1, head] / weights.sum()
    expected = mixed @ params["output"]["w"] + params["output"]["b"]
    np.testing.assert_allclose(jax.jit(network.apply)(params, x)[0], expected, rtol=1e-4, atol=1e-5)


def test_a_batch_is_pieces_of_the_text():
    text = np.arange(100, dtype=np.uint8)
    batch = draw_sequences(jax.random.key(0), {"tokens": text}, size=500, length=7)
    starts = np.asarray(batch["input"][:, 0])
    np.testing.assert_array_equal(batch["input"], starts[:, None] + np.arange(7))
    np.testing.assert_array_equal(batch["target"], batch["input"] + 1)
    assert set(starts) == set(range(93))  # the last target is the last token
    assert batch["input"].dtype == batch["target"].dtype == jnp.int32
    for limit, count in ((5, 5), (500, 14)):
        scored = spread_sequences({"tokens": text}, limit, length=7)
        assert scored["input"].shape == (count, 7)
        assert len(set(np.asarray(scored["target"]).ravel())) == 7 * count


def test_an_untrained_model_knows_nothing():
    for name in ("shakespeare_bytes16_lstm16", "shakespeare_words8_transformer16x1"):
        family = get_family(name)
        task = family.build({})
        params, state = jax.jit(task.init)(jax.random.key(0))
        scored = family.examples(family.load()["test"], 50)
        loss, (_, metrics) = jax.jit(task.loss)(params, state, jax.random.key(1), scored)
        assert float(loss) == pytest.approx(family.metadata.initial_loss, rel=0.03)
        assert float(metrics["accuracy"]) < 0.2
    assert family.metadata.initial_loss == pytest.approx(np.log(1001))


def test_noise_replaces_a_share_of_the_tokens_by_those_of_the_next_text():
    tokens = jnp.broadcast_to(jnp.arange(40)[:, None], (40, 500))
    network = hk.transform(lambda share: noised(share, tokens))
    noisy = np.asarray(network.apply({}, jax.random.key(0), 0.1))
    replaced = noisy != np.asarray(tokens)
    assert replaced.mean() == pytest.approx(0.1, abs=5 * np.sqrt(0.09 / 20_000))
    np.testing.assert_array_equal(noisy[replaced], (np.asarray(tokens)[replaced] - 1) % 40)
    drawn = jax.vmap(VARIED.sample)(jax.random.split(jax.random.key(1), 300))
    assert NOISE_SHARES[0] <= drawn["noise"].min()
    assert NOISE_SHARES[1] * 0.97 < drawn["noise"].max() <= NOISE_SHARES[1]
    assert 0.5 <= drawn["init_scale"].min() < 0.52


def test_a_varied_model_starts_from_scaled_weights():
    family = get_family("shakespeare_recurrent.3")

    @jax.jit
    def init(scale):
        task = family.build({"init_scale": scale, "noise": jnp.float32(0)})
        return task.init(jax.random.key(0))[0]

    once, twice = init(1.0), init(2.0)
    np.testing.assert_array_equal(once["~"]["embedding"], twice["~"]["embedding"])
    for name in ("w_i", "w_h"):
        np.testing.assert_allclose(2 * once["gru"][name], twice["gru"][name], rtol=1e-6)


def test_models_run_in_half_precision():
    for name in ("shakespeare_bytes16_gru8", "shakespeare_bytes16_transformer8x1"):
        family = cast(get_family(name), "bfloat16")
        task = family.build({})
        key, shape = jax.random.key(0), jax.eval_shape
        params, state = shape(task.init, key)
        batch = shape(family.batch, key, family.load()["train"])
        (loss, _), gradient = shape(task.value_and_gradient, params, state, key, batch)
        assert loss.dtype == jnp.float32
        assert {leaf.dtype for leaf in jax.tree.leaves(gradient)} == {np.dtype("float32")}


def test_names_of_language_models():
    family = get_family("shakespeare_bytes24_gru6x5", batch_size=3)
    assert family.metadata.batch_size == 3
    assert family.metadata.widths == (6, 5)
    batch = family.batch(jax.random.key(0), family.load()["train"])
    assert batch["input"].shape == (3, 24)
    cells = sum(3 * width * (read + width + 1) for read, width in ((5, 6), (6, 5)))
    assert parameter_count(family) == 77 * (5 + 1) + cells
    for name in (
        "shakespeare_bytes0_gru6",
        "shakespeare_bytes2000_gru6",
        "shakespeare_bytes16_gru",
        "shakespeare_bytes16_transformer32",
        "shakespeare_bytes16_gru32_relu",
        "shakespeare_letters16_gru32",
    ):
        with pytest.raises(UnknownTaskError, match="DATASET_wordsL_MODEL, L the length"):
            get_family(name)


def test_online_tasks_are_listed_without_data(monkeypatch, tmp_path):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    online = [
        row.make()
        for row in rows().values()
        if not row.offline and row.make().metadata.domain == "language modelling"
    ]
    assert len(online) >= 14
    assert {family.metadata.initial_loss for family in online} == {np.log(256), np.log(1001)}
