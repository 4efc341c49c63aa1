"""Ranks that share a run, and what one of them holds.

numbers.py   how many ranks of each kind, from flags and devices; what contradicts itself
ddp.py       buckets of gradients
fsdp2.py     parameters of a layer gathered when it runs, gradients scattered behind it
zero.py      DeepSpeed's stages
stages.py    layers of each stage of a pipeline
cut.py       shares of layers and matrices: tensor, pipeline, expert ranks
"""
