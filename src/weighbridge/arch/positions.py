"""Whether positions are rows of a learned table: a longer text is an error of its index.

The table is told by its name in the part for language and by its rows: as many as the model was
made for, or a few more, which are for padding (RoBERTa has two, OPT and BART an offset of two).

Source: transformers 5.23 models/{gpt2,bert,opt,bart,gpt_neo}/modeling_*.py.
"""

from weighbridge.arch.blueprint import Blueprint

NAMES = frozenset(("wpe", "embed_positions", "position_embeddings", "positions_embed"))
SPARE = 8  # rows


def learned(plan: Blueprint, longest: int | None) -> bool:
    return longest is not None and any(
        longest <= p.shape[0] <= longest + SPARE
        for p in plan.counted
        if p.kind == "embedding" and _named(p.name) and plan.part(p.name) == plan.part("")
    )


def _named(name: str) -> bool:
    return name.removesuffix(".weight").rpartition(".")[2] in NAMES
