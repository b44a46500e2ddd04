"""Unrolled problems."""
