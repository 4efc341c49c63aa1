"""What vLLM and SGLang do alike: ranks that share a model, and a share of each card."""
