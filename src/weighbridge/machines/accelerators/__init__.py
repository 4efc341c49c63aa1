"""Accelerators: what each is sold as, what its driver shows, and what a process can have of it.

parts.py    records of parts.jsonl and instances.jsonl, and MIG slices
rules.py    intervals for the figures that nobody has published
names.py    what people type -> one part and a count (spelling.py: what two spellings share)
listing.py  parts that have what is wanted, in an order: by the numbers they multiply, by memory
budget.py   a part, a count and a headroom -> the bytes that a verdict is about
seen.py     what facts say of a card is noted: cards that are alike share what is made of it
detected/   what this machine's own programs tell of its accelerators
local.py    --gpu local: those devices as parts, with what was measured
ram.py      host memory: as it was typed, or of this machine
"""
