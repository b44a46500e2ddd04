"""Data of the tasks: the embedded sets, any TFDS set of images or text, and the rules of splits."""
