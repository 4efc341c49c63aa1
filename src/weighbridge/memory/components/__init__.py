"""Formulas: from a model and a workload to components of memory."""
