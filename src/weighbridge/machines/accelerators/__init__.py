"""Accelerators: what each is sold as, what its driver shows, and what a process can use of it.

parts.py    records of parts.jsonl and instances.jsonl, and MIG slices
rules.py    intervals for figures that are not published
names.py    what people type -> one part and a count (spelling.py: what two spellings share)
listing.py  parts with given properties, in an order: by the dtypes they multiply, by memory
budget.py   a part, a count and a headroom -> the bytes that a verdict is about
seen.py     records which facts of a card an answer used, so that alike cards share it
detected/   what this machine's own programs report of its accelerators
local.py    --gpu local: those devices as parts, with what was measured
ram.py      host memory: as it was typed, or of this machine
"""
