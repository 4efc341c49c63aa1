"""One family a file: the tensors of its classes, and TYPES, a record for each model type of it."""
