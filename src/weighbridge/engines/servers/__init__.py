"""Rules that vLLM and SGLang share: ranks that split a model, and a budgeted share of each card.

paged.py                 the order of work, over the rules that an engine fills in
flags.py                 settings that both spell alike
cache_formats.py         KV cache bytes per token, and a rank's share of a layer
device_support.py        whether a server runs on the device, and in which 16 bits; chips that share
                         the system's memory
replica.py               a model on the ranks of a server: distinct ranks, adapters, drafts
shards.py                what each device holds of the model, and temporarily while it loads
lora_and_speculation.py  LoRA slots, speculative decoding, shared prefixes
communication.py         communication buffers between ranks
layouts.py               usual parallel layouts over several cards, and what is sent in one
host.py                  host memory: processes, files, weights that are kept there
"""
