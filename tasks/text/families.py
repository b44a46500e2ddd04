"""Language models: a source of text, what its tokens are, and a model of sequences.

    logits_t = E h_t + b,    h = model(√d E[tokens])

with one matrix E for what is read and what is said: Press and Wolf, https://arxiv.org/abs/1608.05859.
"""

import math
from collections.abc import Mapping
from functools import partial

import haiku as hk
import jax
import jax.numpy as jnp

from tasks.architectures import ModelName
from tasks.base import Arrays, Batch, Configuration, Metrics, Task, TaskFamily, TaskMetadata
from tasks.data.prepared import DataUnavailableError
from tasks.haiku_task import haiku_task
from tasks.images.objectives import classification
from tasks.text.architectures import SequenceModel, hidden_widths, make_model
from tasks.text.sources import UNITS, TextSource, token_splits
from tasks.text.variations import PLAIN, Variation

BATCH_SIZE = 32
HORIZON = 200
EMBEDDING_SCALE = 0.5  # of an entry of an input, and of a logit where h has entries of size 1


def text_family(
    name: str,
    source: TextSource,
    unit: str,
    length: int,
    model: ModelName,
    *,
    variation: Variation = PLAIN,
    batch_size: int = BATCH_SIZE,
) -> TaskFamily:
    """A family of language models of one set, which is read when its data are loaded.

    Args:
      name: of the family.
      source: the text.
      unit: what a token is: a key of `UNITS`.
      length: tokens that are predicted of a sequence.
      model: the name of the model in its parts.
      variation: what its tasks differ in.
      batch_size: sequences of a minibatch.
    """
    made = make_model(model)
    vocabulary = UNITS[unit].vocabulary(source)
    example = {field: jnp.zeros((2, length), jnp.int32) for field in ("input", "target")}

    def loss(cfg: Configuration, batch: Batch) -> tuple[jax.Array, Metrics]:
        tokens = variation.inputs(cfg, batch["input"])
        logits = language_model(tokens, vocabulary, variation.model(cfg, made))
        flat = logits.reshape(-1, vocabulary)
        return classification(flat, {"label": batch["target"].reshape(-1)})

    def build(cfg: Configuration) -> Task:
        return haiku_task(partial(loss, cfg), example)

    return TaskFamily(
        name=name,
        metadata=TaskMetadata(
            domain="language modelling",
            architecture=model.architecture,
            activation=made.activation,
            data=f"{source.name} in {length} {unit}",
            widths=hidden_widths(model),
            batch_size=batch_size,
            horizon=HORIZON,
            initial_loss=math.log(vocabulary),
        ),
        load=partial(_load, source, unit, length),
        sample=variation.sample,
        build=build,
        batch=partial(draw_sequences, size=batch_size, length=length),
        examples=partial(spread_sequences, length=length),
    )


def language_model(tokens: jax.Array, vocabulary: int, model: SequenceModel) -> jax.Array:
    """Logits of the token behind each place. Shapes: integers [B, L] → [B, L, vocabulary]."""
    init = hk.initializers.TruncatedNormal(EMBEDDING_SCALE / math.sqrt(model.width))
    embedding = hk.get_parameter("embedding", [vocabulary, model.width], init=init)
    bias = hk.get_parameter("bias", [vocabulary], init=jnp.zeros)
    # A product, not a lookup: its gradient is one too, quick for many particles, and exact.
    read = jax.nn.one_hot(tokens, vocabulary, dtype=embedding.dtype) @ embedding
    return model.apply(math.sqrt(model.width) * read) @ embedding.T + bias.reshape(1, 1, -1)


def draw_sequences(key: jax.Array, arrays: Arrays, size: int, length: int) -> Batch:
    """``size`` sequences from places drawn with replacement: input, target [size, length]."""
    tokens = jnp.asarray(arrays["tokens"])
    return _sequences(tokens, jax.random.randint(key, (size,), 0, len(tokens) - length), length)


def spread_sequences(arrays: Arrays, limit: int, length: int) -> Batch:
    """At most ``limit`` sequences, spread over the split, with no target in common."""
    tokens = jnp.asarray(arrays["tokens"])
    count = min(limit, (len(tokens) - 1) // length)
    return _sequences(tokens, jnp.arange(count) * ((len(tokens) - 1) // count), length)


def _sequences(tokens: jax.Array, starts: jax.Array, length: int) -> Batch:
    drawn = tokens[starts[:, None] + jnp.arange(length + 1)[None]].astype(jnp.int32)
    return {"input": drawn[:, :-1], "target": drawn[:, 1:]}


def _load(source: TextSource, unit: str, length: int) -> Mapping[str, Arrays]:
    splits = token_splits(source, unit)
    for split, arrays in splits.items():
        if len(arrays["tokens"]) <= length:
            raise DataUnavailableError(
                f"the split {split!r} of the text {source.name!r} has {len(arrays['tokens'])} "
                f"{unit}, which hold no sequence of `length`={length} and the token behind it; "
                "choose a smaller length"
            )
    return splits
