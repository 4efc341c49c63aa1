"""The only I/O: a source lists files and reads ranges of them. Nothing here knows a format."""
