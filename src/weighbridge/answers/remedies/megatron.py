"""Changes of a Megatron-core training question: its own arguments, and other rank counts on the
same devices."""

from collections.abc import Iterator, Mapping
from typing import Any

from weighbridge.answers.remedies import prices
from weighbridge.answers.remedies.case import Move, RemedyCase
from weighbridge.answers.remedies.training import (
    SAVED,
    STATES,
    STEPS,
    TRAINED,
    batches,
    checkpoints,
    lengths,
    segments,
)
from weighbridge.base.units import GIB
from weighbridge.settings.ranks import Ranks
from weighbridge.training.megatron import layout

TIMES = (2, 4, 8, 16)
SPLITS: Mapping[str, str] = {  # settings that split a model over more ranks
    "tensor_parallel_size": "tensor parallel training",
    "pipeline_parallel_size": "pipeline parallel training",
    "expert_parallel_size": "expert parallel training",
}
NODE = 8  # ranks: tensor parallelism stays within one machine's links
LEAST = 0.4  # surely remains of an equal part of what ranks share (assumed)
SEQUENCE = "sequence_parallel"
UNMASKED = ("no_create_attention_mask_in_dataloader", "dataloader_inter_document_masking")
RECOMPUTE = "recompute_granularity"
PARTED = (layout.FIRST, layout.LAST, layout.LAYOUT, layout.EMBEDDING, layout.LOSS)
FEWER = (1, 2, 3)  # layers moved off the fullest stage


def moves(case: RemedyCase) -> Iterator[Move]:
    """Yield every single change that Megatron supports."""
    yield from _distributed(case)
    yield from segments(case)
    yield from _arguments(case)
    yield from _again(case)
    yield from _stages(case)
    yield from checkpoints(case)
    yield from _splits(case)
    yield from batches(case)
    yield from lengths(case)


def _distributed(case: RemedyCase) -> Iterator[Move]:
    """Yield the distributed optimizer."""
    w = case.effective
    sharers = Ranks.of(w).among
    if case.free("shard") and w["shard"] != "zero1" and sharers > 1:
        yield Move(
            kind="sharding",
            change={"shard": "zero1"},
            cost=prices.CHANGES["distributed optimizer"],
            touches=STATES,
            leaves=dict.fromkeys(STATES, LEAST / sharers),
            keeps=dict.fromkeys(STATES, 1 / sharers),
        )


def _arguments(case: RemedyCase) -> Iterator[Move]:
    """Yield arguments that free memory without changing results."""
    ranks = case.effective["tensor_parallel_size"]
    if ranks > 1 and not _named(case, SEQUENCE):
        yield Move(
            kind="sequence",
            change=_with(case, SEQUENCE),
            cost=prices.CHANGES["sequence parallel"],
            touches=SAVED,
            leaves={"activations": 1 / ranks},
            keeps={"activations": LEAST + (1 - LEAST) / ranks},
        )
    if _mask(case) >= GIB:
        yield Move(
            kind="mask",
            change=_with(case, UNMASKED[0]),
            cost=prices.CHANGES["no mask"],
            touches=frozenset(("buffers",)),
            keeps={"buffers": 0.05},
        )
    if not _named(case, "cross_entropy_loss_fusion"):
        yield Move(
            kind="loss",
            change=_with(case, "cross_entropy_loss_fusion", "cross_entropy_fusion_impl=te"),
            cost=prices.CHANGES["fused loss"],
            touches=frozenset(("logits",)),
            keeps={"logits": 0.3},
        )


def _mask(case: RemedyCase) -> int:
    """Return the bytes of the attention mask of all token pairs that the data loader makes."""
    w = case.effective
    if w["attention"] == "math" or any(_named(case, name) for name in UNMASKED):
        return 0
    return int(w["batch_size"] * w["seq_len"] ** 2 // w["context_parallel_size"])


def _again(case: RemedyCase) -> Iterator[Move]:
    """Yield recomputation of single modules, if there is none yet."""
    if not case.free("checkpointing") or case.effective["checkpointing"] != "none":
        return
    if _named(case, RECOMPUTE) or _named(case, "recompute_activations"):
        return
    routed = case.report.model.active_parameters != case.report.model.parameters
    if routed:
        wide = "moe_act", prices.CHANGES["experts' activation again"]
    else:
        wide = "mlp", prices.again(case.report.derived["feed_forward_again"])
    for modules, cost, left in (
        ("layernorm", prices.CHANGES["norms again"], 0.9),
        (f"layernorm+{wide[0]}", wide[1], 0.6),
    ):
        yield Move(
            kind="recompute",
            change=_with(case, f"{RECOMPUTE}=selective", f"recompute_modules={modules}"),
            cost=cost,
            touches=SAVED,
            keeps={"activations": left},
            graded=True,
        )


def _stages(case: RemedyCase) -> Iterator[Move]:
    """Yield layouts in which the fullest stage, first or last, has fewer layers than the others."""
    even = list(case.report.derived["layers_by_part"])
    fullest, stages = case.report.derived["fullest_stage"], case.effective["pipeline_parallel_size"]
    middle = range(len(even) - 2, 0, -1)  # later stages hold fewer micro-batches at once
    if len(even) != stages or not middle or fullest in middle:
        return
    if any(_named(case, name) for name in (*PARTED, "mtp_num_layers")):
        return
    for fewer in FEWER:
        counts, each = even.copy(), even[fullest]
        if fewer >= each:
            return
        counts[fullest] -= fewer
        for i in range(fewer):
            counts[middle[i % len(middle)]] += 1
        written = "|".join("t" * n for n in counts)
        yield Move(
            kind="stages",
            change=_with(case, f"{layout.LAYOUT}=E{written}L"),
            cost=prices.CHANGES["uneven stages"],
            touches=TRAINED | STEPS,
            leaves=dict.fromkeys(TRAINED, LEAST),
            keeps=dict.fromkeys(TRAINED, 1 - fewer / each),
            graded=True,
        )


def _splits(case: RemedyCase) -> Iterator[Move]:
    """Yield splits of the model over more of the same devices."""
    w, facts = case.effective, case.report.model
    for name, price in SPLITS.items():
        tensor, experts = name == "tensor_parallel_size", name == "expert_parallel_size"
        if not case.free(name, "data_parallel_size"):
            continue
        if experts and facts.active_parameters == facts.parameters:
            continue
        for times in TIMES:
            if w["data_parallel_size"] % times or (tensor and times * w[name] > NODE):
                break
            change = {name: times * w[name], **(_with(case, SEQUENCE) if tensor else {})}
            yield Move(
                kind=name,
                change=change,
                cost=prices.CHANGES[price],
                touches=TRAINED | STEPS,
                leaves=dict.fromkeys(TRAINED, LEAST / times),
                keeps=dict.fromkeys(TRAINED, 1 / times),
                graded=True,
            )


def _named(case: RemedyCase, name: str) -> bool:
    arguments = case.effective["megatron_args"] or ()
    return any(word.partition("=")[0] == name for word in arguments)


def _with(case: RemedyCase, *words: str) -> dict[str, Any]:
    """Return the change that adds arguments to the user's."""
    arguments = case.effective["megatron_args"] or ()
    return {"megatron_args": (*arguments, *(word for word in words if word not in arguments))}
