"""How vLLM and SGLang spread a model over devices. See `weighbridge.engines.servers.shards`."""
