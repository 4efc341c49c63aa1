"""Shards of a model's tensors, as vLLM and SGLang split them (`engines/servers/shards.py` asks)."""
