"""Texts: the embedded one, their splits, bytes and words, and prepared TFDS sets."""

import hashlib
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

import tasks.data.tfds_text as tfds_text
from tasks import DataUnavailableError, get_family
from tasks.data.cache import cache_dir
from tasks.data.embedded import load_shakespeare
from tasks.data.prepare import prepare
from tasks.data.text import (
    END,
    TextSet,
    encode_bytes,
    encode_words,
    split_text,
    split_words,
    vocabulary,
    words,
)
from tasks.text.sources import EMBEDDED, SHAKESPEARE_ALPHABET, token_splits

SHAKESPEARE_SHA256 = "0cc8b07bf5a1fda263a01d7717ce22544178ae2a7558cfedd8f80e1ca670926f"

BUILDER = """
import sys
import numpy as np
import tensorflow_datasets as tfds

class Tales(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("2.0.0")
    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict({
                "title": tfds.features.Text(),
                "text": tfds.features.Text(),
                "label": tfds.features.ClassLabel(num_classes=2),
            }),
        )
    def _split_generators(self, dl_manager):
        ranges = {"train": (0, 50), "test": (50, 10)}
        return {split: self._generate_examples(*r) for split, r in ranges.items()}
    def _generate_examples(self, first, count):
        for i in range(first, first + count):
            text = f"tale {i:03d} of " + "ä" * (20 + i % 7)
            yield i, {"title": "no", "text": text, "label": i % 2}

class Numbers(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")
    def _info(self):
        features = tfds.features.FeaturesDict({"value": np.float32})
        return tfds.core.DatasetInfo(builder=self, features=features)
    def _split_generators(self, dl_manager):
        return {"train": iter([(0, {"value": 0.0})])}
    def _generate_examples(self):
        yield from ()

for builder in (Tales, Numbers):
    builder.pkg_dir_path = "."
    builder(data_dir=sys.argv[1], file_format="array_record").download_and_prepare()
assert "tensorflow" not in sys.modules
"""
TALES = [f"tale {i:03d} of ".encode() + "ä".encode() * (20 + i % 7) + b"\0" for i in range(60)]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tfds")
    (directory / "build.py").write_text(BUILDER)
    command = [sys.executable, "build.py", str(directory)]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return directory


@pytest.fixture
def data_dir(prepared, tmp_path, monkeypatch):
    """A copy of the prepared sets that a test may damage, and a cache of its own."""
    for name in ("tales", "numbers"):
        shutil.copytree(prepared / name, tmp_path / "tfds" / name)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    monkeypatch.setenv("LEARNED_OPT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "tfds"


def test_the_embedded_text_is_the_megabyte():
    text = load_shakespeare().train
    assert len(text) == 2**20
    assert hashlib.sha256(text.tobytes()).hexdigest() == SHAKESPEARE_SHA256
    assert bytes(sorted(set(text.tolist()))) == SHAKESPEARE_ALPHABET
    splits = split_text(load_shakespeare())
    np.testing.assert_array_equal(
        np.concatenate([splits[s] for s in ("train", "inner_validation", "outer_validation")]
                       + [splits["test"]]), text,
    )  # fmt: skip
    shares = [len(part) / 2**20 for part in splits.values()]
    np.testing.assert_allclose(shares, [0.72, 0.09, 0.09, 0.1], atol=1e-4)
    assert all(part[-1] == ord("\n") for part in splits.values())


def test_bytes_are_their_places_in_the_alphabet():
    tokens = token_splits(EMBEDDED["shakespeare"], "bytes")["test"]["tokens"]
    again = bytes(SHAKESPEARE_ALPHABET[i] for i in tokens[:1000])
    assert again == split_text(load_shakespeare())["test"][:1000].tobytes()
    with pytest.raises(ValueError, match=r"`alphabet`=b'ab' lacks the bytes b'cd' of the text"):
        encode_bytes(np.frombuffer(b"abdca", np.uint8), b"ab")


def test_a_task_names_the_texts_to_prepare(data_dir, monkeypatch):
    made = prepare("tales_bytes8_gru16+batch:4", progress=False)
    assert (made.name, made.directory.parent) == ("tales", data_dir / "tales")
    assert "tales is prepared in" in made.in_words()
    monkeypatch.setattr(tfds_text, "open_prepared", None)  # the cached texts have to do
    assert get_family("tales_bytes8_gru16").load()["train"]["tokens"].size
    assert prepare("shakespeare_words8_gru16").in_words() == "shakespeare comes with the package"


def test_documents_are_whole_in_one_split():
    texts = [b"%d" % i * (1 + i % 5) + b"\0" for i in range(100)]
    text = np.frombuffer(b"".join(texts), np.uint8)
    splits = {split: part.tobytes() for split, part in split_text(TextSet("t", text, None)).items()}
    assert b"".join(splits.values()) == text.tobytes()
    parts = {split: part.split(b"\0")[:-1] for split, part in splits.items()}
    assert all(part.endswith(b"\0") for part in splits.values())
    assert sum(map(len, parts.values())) == 100
    assert not set(parts["train"]) & set(parts["test"])
    assert 0.7 * len(text) < len(splits["train"]) < 0.75 * len(text)
    own = split_text(TextSet("t", text, np.frombuffer(b"own\0", np.uint8)))
    assert own["test"].tobytes() == b"own\0"
    assert 0.79 * len(text) < len(own["train"]) < 0.82 * len(text)


def counted_by_hand(text):
    """The words of a text by a loop over its characters."""
    found, word = [], ""
    for i, character in enumerate(text.lower() + " "):
        inside = character == "'" and word and text[i + 1 : i + 2].isalnum()
        if character.isalnum() or character == "_" or inside:
            word += character
            continue
        found += [word] if word else []
        word = ""
        if not character.isspace():
            found.append(character)
    return found


def test_words_are_those_of_a_loop_over_characters():
    text = "O, that this too too solid flesh would melt!\n'Tis  o'er; 'twas\tHam.--ÜBER 3\0"
    raw = np.frombuffer(text.encode(), np.uint8)
    assert words(raw) == counted_by_hand(text)
    play = load_shakespeare().train[:20_000]
    assert words(play) == counted_by_hand(play.tobytes().decode())


def test_the_vocabulary_is_of_the_most_frequent_words_of_the_train_split():
    read = ["b", "a", "c", "a", "b", "d", "a"]
    assert vocabulary(read, 3) == {"a": 1, "b": 2, "c": 3}
    np.testing.assert_array_equal(
        encode_words(["d", "a", "x", "c"], vocabulary(read, 3)), [0, 1, 0, 3]
    )
    splits = split_words(load_shakespeare())
    train = words(split_text(load_shakespeare())["train"])
    counts = {}
    for word in train:
        counts[word] = counts.get(word, 0) + 1
    kept = sorted(counts, key=lambda word: (-counts[word], word))[:1000]
    assert splits["train"].max() == 1000
    assert all(splits[split].min() == 0 for split in splits)
    for place in (0, 7, 1234, 100_000):
        number = splits["train"][place]
        assert (kept[number - 1] if number else train[place] not in kept) in (train[place], True)
    test = words(split_text(load_shakespeare())["test"])
    unknown = sum(word not in kept for word in test) / len(test)
    assert (splits["test"] == 0).mean() == pytest.approx(unknown)


def test_a_prepared_set_is_read_whole_and_cached(data_dir, monkeypatch):
    family = get_family("tales_bytes16_gru4")
    texts = tfds_text.load_tfds_text("tales")
    assert sorted(texts.train.tobytes().split(b"\0")[:-1]) == sorted(t[:-1] for t in TALES[:50])
    assert sorted(texts.test.tobytes().split(b"\0")[:-1]) == sorted(t[:-1] for t in TALES[50:])
    assert family.metadata.initial_loss == pytest.approx(np.log(256))
    assert sum(len(part["tokens"]) for part in family.load().values()) == len(b"".join(TALES))
    (cached,) = (cache_dir() / "data").iterdir()
    assert re.fullmatch(r"tales-2\.0\.0-text-[0-9a-f]{12}\.npz", cached.name)
    shutil.rmtree(data_dir)
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)  # importing it fails
    np.testing.assert_array_equal(tfds_text.load_tfds_text("tales").test, texts.test)
    with pytest.raises(DataUnavailableError, match="'others' is not prepared under"):
        get_family("others_words8_gru4")


def test_of_a_large_set_the_first_bytes_are_read(data_dir, monkeypatch):
    monkeypatch.setattr(tfds_text, "LARGEST", 300)
    monkeypatch.setattr(tfds_text, "READ_AT_ONCE", 2)
    texts = tfds_text.load_tfds_text("tales")
    assert (len(texts.train), len(texts.test)) == (300, 300)
    assert {t + b"\0" for t in texts.train.tobytes().split(b"\0")[:-1]} <= set(TALES)
    assert END in texts.train


def test_a_set_without_texts_is_refused(data_dir):
    with pytest.raises(DataUnavailableError, match=r"'numbers' has no train split of texts.*value"):
        get_family("numbers_bytes16_gru4")


def test_a_text_shorter_than_a_sequence_is_refused(data_dir):
    with pytest.raises(DataUnavailableError, match=r"`length`=1024 and the token behind it"):
        get_family("tales_bytes1024_gru4").load()


def damage_records(directory):
    record = next(directory.glob("tales/2.0.0/*train*array_record*"))
    record.write_bytes(record.read_bytes()[: record.stat().st_size // 2])


def drop_a_row(directory):
    path = directory / "tales/2.0.0/dataset_info.json"
    info = json.loads(path.read_text())
    info["splits"][0]["shardLengths"] = ["51"]
    path.write_text(json.dumps(info))


@pytest.mark.parametrize("damage", [damage_records, drop_a_row])
def test_a_damaged_set_is_refused(data_dir, damage):
    damage(data_dir)
    with pytest.raises(DataUnavailableError, match=r"'tales' in .* cannot be read .* prepare it"):
        get_family("tales_bytes16_gru4")
