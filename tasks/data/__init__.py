"""Data of the tasks: the embedded set, any TFDS image set, and the rule that splits them."""
