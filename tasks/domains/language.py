"""Language models of bytes and of words."""

from functools import partial

from tasks.architectures import ModelName
from tasks.base import TaskFamily
from tasks.catalogue import AdamTarget, ParametricFamily, Row
from tasks.text.families import text_family
from tasks.text.names import listed_text_family
from tasks.text.sources import EMBEDDED
from tasks.text.variations import VARIED


def _row(name: str, rate: float, steps: int, share: float, offline: bool = True) -> Row:
    """A task ``DATASET_bytesL_MODEL`` or ``DATASET_wordsL_MODEL`` of an embedded or known set."""
    make = partial(listed_text_family, name)
    return Row(name, make, AdamTarget(rate, steps, share), offline)


_ONLINE = (
    "imdb_reviews_bytes32_rnn32",
    "imdb_reviews_bytes64_lstm64",
    "imdb_reviews_bytes64_transformer32x2",
    "imdb_reviews_words16_gru32",
    "ag_news_subset_bytes32_gru32",
    "ag_news_subset_bytes64_lstm32x32",
    "ag_news_subset_words16_rnn32",
    "ag_news_subset_words16_transformer32x1",
    "lm1b_bytes32_gru64",
    "lm1b_bytes32_conv32x32x32",
    "lm1b_words16_lstm32",
    "lm1b_words16_transformer32x2",
    "wiki40b_en_bytes64_gru64",
    "wiki40b_en_bytes64_transformer48x2",
    "wiki40b_en_words16_lstm32",
    "wiki40b_de_bytes32_lstm64",
    "tiny_shakespeare_bytes32_rnn32x32",
    "tiny_shakespeare_words16_gru32",
)

ROWS = (
    _row("shakespeare_bytes32_rnn32", 1e-2, 40, 0.75),
    _row("shakespeare_bytes32_rnn64", 1e-2, 40, 0.75),
    _row("shakespeare_bytes32_rnn32x32", 1e-2, 40, 0.75),
    _row("shakespeare_bytes16_gru32", 1e-2, 40, 0.75),
    _row("shakespeare_bytes32_gru64", 1e-2, 40, 0.75),
    _row("shakespeare_bytes32_lstm32", 1e-2, 40, 0.75),
    _row("shakespeare_bytes32_lstm64", 1e-2, 40, 0.75),
    _row("shakespeare_bytes32_conv32x32x32", 1e-2, 40, 0.75),
    _row("shakespeare_bytes16_transformer16x1", 1e-2, 40, 0.75),
    _row("shakespeare_bytes32_transformer32x1", 1e-2, 40, 0.75),
    _row("shakespeare_bytes32_transformer32x2", 1e-2, 40, 0.75),
    _row("shakespeare_bytes32_transformer32x2_relu", 1e-2, 40, 0.75),
    _row("shakespeare_words8_rnn32", 1e-2, 40, 0.8),
    _row("shakespeare_words16_gru32", 1e-2, 40, 0.8),
    _row("shakespeare_words16_lstm32", 1e-2, 40, 0.8),
    _row("shakespeare_words16_transformer32x1", 1e-2, 40, 0.8),
    *(_row(name, 1e-2, 40, 0.8, offline=False) for name in _ONLINE),
)


def _member(name: str, model: str, widths: list[int], unit: str, length: int) -> TaskFamily:
    parts = ModelName(model, tuple(widths), "")
    return text_family(name, EMBEDDED["shakespeare"], unit, length, parts, variation=VARIED)


_RECURRENT = (
    *((model, [width], "bytes", 16) for model in ("rnn", "gru", "lstm") for width in (16, 32, 64)),
    *((model, [32, 32], "bytes", 32) for model in ("rnn", "gru", "lstm")),
    ("gru", [32], "words", 8),
)
_TRANSFORMERS = (
    *(("transformer", [width, 1], "bytes", 16) for width in (16, 32, 48)),
    *(("transformer", [width, 2], "bytes", 32) for width in (16, 32)),
    ("transformer", [32, 1], "words", 8),
)


def _family(
    name: str, summary: str, shapes: tuple[tuple[str, list[int], str, int], ...]
) -> ParametricFamily:
    fields = ("model", "widths", "unit", "length")
    keywords = tuple(dict(zip(fields, shape, strict=True)) for shape in shapes)
    return ParametricFamily(name, summary, keywords, _member, AdamTarget(1e-2, 40, 0.85))


FAMILIES = (
    _family(
        "shakespeare_recurrent",
        "recurrent language models; the initial scale and noise in the text vary",
        _RECURRENT,
    ),
    _family(
        "shakespeare_transformers",
        "language models with attention; the initial scale and noise in the text vary",
        _TRANSFORMERS,
    ),
)
