"""The graphs that llama.cpp builds for a step, by architecture."""
