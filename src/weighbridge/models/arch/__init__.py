"""From a config alone to the model's tensors: one family a file, one row a model type.

A family (`families/`) says which tensors its classes hold, under the names that checkpoints use, in
the words of the modules that stand beside that folder. Nothing here opens a file, imports torch, or
guesses: a model type that is not in `types.json` is an error.
"""
