"""Procedural one-dimensional signals, drawn on the device."""
