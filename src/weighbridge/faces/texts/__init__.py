"""Screens about texts that people paste: run files, messages and out-of-memory logs."""
