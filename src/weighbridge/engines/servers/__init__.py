"""Rules that vLLM and SGLang have alike: ranks that share a model, and a share of each card.

flags.py                 settings that both spell alike
cache_formats.py         bytes of a token in a cache, and a rank's share of a layer
device_support.py        whether a server runs on the device, and in which 16 bits
shards.py                what each device holds of the model, and for a while as it loads
lora_and_speculation.py  slots for LoRA, what proposes tokens, shared prefixes
communication.py         buffers with which ranks talk to each other
"""
