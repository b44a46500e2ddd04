"""Make the embedded data set: ``python -m tasks.data.embed_fashion_mnist``.

Reads Fashion-MNIST as TFDS prepared it (``TFDS_DATA_DIR``, array_record), averages it to
8×8 and writes the file that the package ships.
"""

from pathlib import Path

from absl import app, flags

from tasks.data.cache import write_image_set
from tasks.data.embedded import FASHION_MNIST_8X8
from tasks.data.tfds_images import load_tfds_images

OUTPUT = flags.DEFINE_string("output", str(FASHION_MNIST_8X8), "The file to write.")


def main(argv: list[str]) -> None:
    """Write the file named by ``--output``."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}")
    images = load_tfds_images("fashion_mnist", 8)
    write_image_set(Path(OUTPUT.value), images)
    held_out = len(images.test[1]) if images.test else 0
    print(f"{len(images.train[1])} + {held_out} images in {OUTPUT.value}")


if __name__ == "__main__":
    app.run(main)
