"""One file per family: the tensors of its classes, and TYPES, a record for each of its model
types."""
