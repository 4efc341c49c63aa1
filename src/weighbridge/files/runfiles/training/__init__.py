"""Kinds of run files that train, a module each."""
