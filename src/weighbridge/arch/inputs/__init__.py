"""What an image or a sound becomes before a tower computes on it."""
