"""Engines, a folder each: their versions, their defaults, the order in which they allocate."""
