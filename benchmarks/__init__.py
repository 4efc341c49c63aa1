"""How fast, and in how much memory? Whole processes, side by side with other tools (README.md)."""
