"""Texts of other people: run files, pastes, logs and messages."""
