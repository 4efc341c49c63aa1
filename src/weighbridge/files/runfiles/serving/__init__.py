"""Kinds of run files that serve, a module each."""
