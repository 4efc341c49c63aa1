"""The composition: a model and a workload in, a report out."""
