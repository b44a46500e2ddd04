"""Tasks on tables of numbers: a few hundred rows, classes or a value to tell."""
