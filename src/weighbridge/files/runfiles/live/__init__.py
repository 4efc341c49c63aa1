"""Objects of a Python session, read like the files that would have made them."""
