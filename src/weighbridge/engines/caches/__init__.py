"""What each engine allocates to remember: its blocks, padding, slack and formats, by version."""
