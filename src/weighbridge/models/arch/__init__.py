"""The tensors and layers of a model, from its config alone: one file per family, one record per
model type.

A family (`families/`) describes the tensors of its classes, under the names that checkpoints use,
by the functions of the modules next to that folder. Nothing here opens a file, imports torch, or
guesses: a model type that is not in `types.json` is an error.
"""
