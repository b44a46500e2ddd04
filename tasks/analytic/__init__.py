"""Losses in closed form, and what families of them share."""
