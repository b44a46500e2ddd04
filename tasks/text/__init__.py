"""Tasks on sequences of tokens: any text with any model of `tasks.text.architectures`."""
