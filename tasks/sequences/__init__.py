"""Problems of sequences that are drawn by key, for any model of `tasks.text.architectures`."""
