"""transformers as the engine."""
