"""How vLLM and SGLang spread a model over devices; `weighbridge.engines.shards` puts it together."""
