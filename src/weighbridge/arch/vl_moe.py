"""Mixture-of-experts decoders that exist only beside a tower: Qwen3-VL-MoE's.

    a sparse block: router E x D, gate_up_proj E x D x 2F, down_proj E x F x D in one each

Source: transformers 5.23 models/qwen3_vl_moe/modeling_qwen3_vl_moe.py and conversion_mapping.py.
"""

from functools import partial

from weighbridge.arch.blueprint import Family
from weighbridge.arch.config import Config
from weighbridge.arch.heads import DECODER_HEADS
from weighbridge.arch.model_types import ModelType, VllmFacts
from weighbridge.arch.modules import Submodule, submodule
from weighbridge.arch.qwen_moe import choice, qwen3_attention
from weighbridge.arch.rotary import rotary
from weighbridge.arch.sparse import Parts, by_step, fed, router, sparse_decoder, stacked_pair


def moe(c: Config) -> Submodule:
    e, width = choice(c), c.num("hidden_size")
    return submodule(
        router("mlp.gate", e.count, width),
        stacked_pair("mlp.experts", width, e, transposed=True),
        feed=fed(e),
    )


QWEN3 = Parts(attention=qwen3_attention, moe=moe, sparse=by_step)
QWEN3_VL_MOE_TEXT = Family(
    tree=partial(sparse_decoder, parts=QWEN3),
    cls="Qwen3VLMoeTextModel",
    heads=DECODER_HEADS,
    buffers=rotary,
)

TYPES = {
    "qwen3_vl_moe_text": ModelType(
        QWEN3_VL_MOE_TEXT,
        computes=("repeated_experts",),
        gguf="qwen3vlmoe",
        vllm=VllmFacts(every_stage="both"),
    ),
}
