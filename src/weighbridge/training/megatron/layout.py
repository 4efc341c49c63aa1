"""Layers of each stage of the pipeline: how many layers each part of the model has, in order.

    even      16 layers, 2 stages of 2 chunks                4 4 4 4
    ends      decoder_last_pipeline_num_layers=2             the other stages split 14 others
    accounts  the embedding, or the loss, counts as a layer  one layer fewer in that part
    layout    Et*3|(tt|)*2tL                                 3 2 2 1

Part i belongs to stage i modulo the stages. What Megatron refuses raises UsageError: layers that
the stages do not divide. Source: Megatron-LM d98e8a6 core/transformer/transformer_block.py
get_num_layers_to_build, core/transformer/pipeline_parallel_layer_layout.py.
"""

import re
from collections.abc import Mapping
from typing import Any

from weighbridge.base.errors import TriedError, UnsupportedError, UsageError
from weighbridge.base.sentences import sentence

FIRST, LAST = "decoder_first_pipeline_num_layers", "decoder_last_pipeline_num_layers"
EMBEDDING = "account_for_embedding_in_pipeline_split"
LOSS = "account_for_loss_in_pipeline_split"
LAYOUT = "pipeline_model_parallel_layout"
GROUP = re.compile(r"\(([^()]*)\)(?:\*(\d{1,4}))?|([A-Za-z|])\*(\d{1,4})")
LAYERS = re.compile(r"E?t*(?:\|t*)*(m*)L?")  # a written-out layout that is supported
LONGEST = 1 << 14  # most characters of a layout, written out


def parts(layers: int, stages: int, chunks: int, asked: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the number of layers of each model part; there are chunks x stages parts. Raises
    UsageError."""
    if stages == 1:
        return (layers,)
    if LAYOUT in asked:
        return _layers_of_layout_text(asked, layers, stages)
    ends = [asked.get(FIRST), asked.get(LAST)]
    if ends == [None, None]:
        return _layers_if_ends_count(layers, stages, chunks, asked)
    if EMBEDDING in asked or LOSS in asked:
        raise TriedError(
            sentence("megatron.accounts", embedding=EMBEDDING, loss=LOSS, first=FIRST),
            seen="megatron/training/arguments.py, validate_args: an assertion",
        )
    numbers = [n for n in ends if n is not None]
    middle, left = layers - sum(numbers), stages - len(numbers)
    if middle < 0 or (middle % left if left else middle):
        raise UsageError(
            sentence(
                "megatron.ends", first=FIRST, last=LAST, stages=left, middle=middle, layers=layers
            )
        )
    each = [middle // left if left else 0] * stages
    first, last = ends
    each[0] = each[0] if first is None else first
    each[-1] = each[-1] if last is None else last
    if any(n % chunks for n in each):
        raise UsageError(
            sentence(
                "megatron.chunks",
                chunks=chunks,
                layers=" and ".join(f"{n}" for n in sorted(set(each))),
            )
        )
    return tuple(n // chunks for n in each) * chunks


def _layers_if_ends_count(
    layers: int, stages: int, chunks: int, asked: Mapping[str, Any]
) -> tuple[int, ...]:
    beside = [int(bool(asked.get(name))) for name in (EMBEDDING, LOSS)]
    whole = layers + sum(beside)
    if whole % (stages * chunks):
        by = "megatron.stages" if chunks == 1 else "megatron.stages_of"
        counted = "megatron.layers" if whole == layers else "megatron.layers_and"
        by = sentence(by, stages=stages, chunks=chunks)
        counted = sentence(counted, layers=layers, more=whole - layers)
        raise TriedError(
            sentence("megatron.uneven", by=by, counted=counted, first=FIRST, last=LAST),
            seen="megatron-core 0.16 transformer_config.py: number of layers should be "
            "divisible by the pipeline parallel size",
        )
    each = [whole // stages // chunks] * stages * chunks
    each[0] -= beside[0]
    each[-1] -= beside[1]
    return tuple(each)


def _layers_of_layout_text(asked: Mapping[str, Any], layers: int, stages: int) -> tuple[int, ...]:
    """Return the layers per part of a layout string: E embedding, t layer, m one that predicts a
    further token, L loss, | ends a part; (x)*n is x n times."""
    text = str(asked[LAYOUT])
    written = re.sub(r"[\s,]", "", text)
    while match := GROUP.search(written):
        once, times = match[1] or match[3] or "", int(match[2] or match[4] or 1)
        if len(written) + len(once) * times > LONGEST:
            break
        written = written[: match.start()] + once * times + written[match.end() :]
    known = LAYERS.fullmatch(written)
    if known is None or len(known[1]) != asked.get("predicts", 0):
        raise UnsupportedError(sentence("megatron.layout", name=LAYOUT, text=text))
    counts = tuple(part.count("t") for part in written.split("|"))
    if len(counts) % stages or sum(counts) != layers:
        raise UsageError(
            sentence(
                "megatron.layout_layers",
                name=LAYOUT,
                sum=sum(counts),
                parts=len(counts),
                layers=layers,
                stages=stages,
            )
        )
    return counts
