"""Formulas: a model and a workload in, components out."""
