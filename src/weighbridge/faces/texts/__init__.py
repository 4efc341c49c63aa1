"""Screens about texts of other people: run files, pastes and out-of-memory messages."""
