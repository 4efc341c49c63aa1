"""Rules that vLLM and SGLang have alike: ranks that share a model, and a share of each card.

paged.py                 the order of work, over the rules that an engine fills in
flags.py                 settings that both spell alike
cache_formats.py         bytes of a token in a cache, and a rank's share of a layer
device_support.py        whether a server runs on the device, and in which 16 bits; chips that share
                         the system's memory
replica.py               a model on the ranks of a server: kinds of ranks, adapters, drafts
shards.py                what each device holds of the model, and for a while as it loads
lora_and_speculation.py  slots for LoRA, what proposes tokens, shared prefixes
communication.py         buffers with which ranks talk to each other
layouts.py               layouts that people run over several cards, and what is sent in one
host.py                  host memory: processes, files, weights that are kept there
"""
