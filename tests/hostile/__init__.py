"""Files, servers and requests as a stranger may make them, and what an answer to them may be."""
