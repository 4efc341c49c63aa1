"""Faces of an answer: the typed API, the command line, pages, charts, tools for agents, scans."""
