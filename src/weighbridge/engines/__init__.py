"""Engines: their versions, their defaults, the order in which each of them places things."""
