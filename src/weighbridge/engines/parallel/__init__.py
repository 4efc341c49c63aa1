"""Shares of a model's tensors, as vLLM and SGLang cut them (`engines/servers/shards.py` asks)."""
