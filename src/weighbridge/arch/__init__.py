"""From a config alone to the model's tensors: one family a file, one row a model type.

A family says which tensors its classes hold, under the names that checkpoints use. Nothing here
opens a file, imports torch, or guesses: a model type that is not in `families.py` is an error.
"""
