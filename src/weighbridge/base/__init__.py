"""Sizes, records, errors and words, which every room may use; it asks nothing of other wings."""
