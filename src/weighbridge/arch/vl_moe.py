"""Mixture-of-experts decoders that exist only beside a tower: Qwen3-VL-MoE's.

    a sparse block: router E x D, gate_up_proj E x D x 2F, down_proj E x F x D in one each

Source: transformers 5.23 models/qwen3_vl_moe/modeling_qwen3_vl_moe.py and conversion_mapping.py.
"""

from collections.abc import Iterator

from weighbridge.arch.blueprint import Family, Param
from weighbridge.arch.config import Config
from weighbridge.arch.heads import DECODER_HEADS
from weighbridge.arch.qwen_moe import qwen3_attention
from weighbridge.arch.rotary import rotary
from weighbridge.arch.sparse import (
    Parts,
    by_step,
    routed,
    router,
    sparse_decoder,
    stacked_pair,
)


def moe(c: Config, at: str) -> Iterator[Param]:
    e = routed(c, "num_experts", "moe_intermediate_size")
    yield from router(f"{at}gate", e.count, c.num("hidden_size"))
    yield from stacked_pair(f"{at}experts", c.num("hidden_size"), e, transposed=True)


QWEN3 = Parts(attention=qwen3_attention, moe=moe, sparse=by_step)


def qwen3(c: Config, at: str) -> Iterator[Param]:
    yield from sparse_decoder(c, at, QWEN3)


QWEN3_VL_MOE_TEXT = Family(
    body=qwen3, cls="Qwen3VLMoeTextModel", heads=DECODER_HEADS, buffers=rotary
)
