"""A model as it is published: where it is kept, its files, its config, its tensors."""
