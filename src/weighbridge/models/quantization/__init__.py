"""Formats of weights, both ways: what a format stores of a parameter (`schemes`), and which
parameters are behind stored tensors (`packed`)."""
