"""The report of an evaluation: JSON values, and what is drawn of them."""
