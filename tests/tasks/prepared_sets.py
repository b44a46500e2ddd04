"""A small TFDS set of our own, prepared as a user's would be."""

import subprocess
import sys

# A set of our own, prepared as a user's would be: PNG images, labels, array_record, no TensorFlow.
BUILDER = """
import sys
import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

class Shapes(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.2.0")
    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict({
                "image": tfds.features.Image(shape=(None, None, 3)),
                "label": tfds.features.ClassLabel(num_classes=5),
            }),
            supervised_keys=("image", "label"),
        )
    def _split_generators(self, dl_manager):
        ranges = {"train": (0, 50), "test": (50, 20), "validation": (70, 10)}
        return {split: self._generate_examples(*r) for split, r in ranges.items()}
    def _generate_examples(self, first, count):
        for i in range(first, first + count):
            image = np.random.default_rng(i).integers(0, 256, (12 + i % 2, 10, 3), np.uint8)
            hidden = sys.argv[3] == "hidden" and 50 <= i < 70
            yield i, {"image": Image.fromarray(image), "label": -1 if hidden else i % 5}

Shapes.pkg_dir_path = "."
Shapes(data_dir=sys.argv[1], file_format=sys.argv[2]).download_and_prepare()
assert "tensorflow" not in sys.modules
"""


def prepare(directory, labels="shown"):
    (directory / "build.py").write_text(BUILDER)
    command = [sys.executable, "build.py", str(directory), "array_record", labels]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return directory
