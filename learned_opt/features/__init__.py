"""Input features of per-parameter update rules: pure functions of one tensor.

A *feature* is an array [inputs, *extent] whose extent broadcasts to the tensor's shape: of the
shape itself, or 1 along the axes it is constant on. What is the same for a whole row, column or
tensor is kept as small as it is.
"""
