"""GLM-4 (9B, 32B): Llama with gate and up fused and half of each head rotated.

GLM-4-0414 has two more norms, after attention and after the MLP.
Source: transformers 5.23 models/{glm,glm4}/modeling_*.py.
"""

from weighbridge.arch.blueprint import Family
from weighbridge.arch.config import Config
from weighbridge.arch.heads import DECODER_HEADS
from weighbridge.arch.llama import BEFORE
from weighbridge.arch.rotary import partly_rotary
from weighbridge.arch.written import Switches, body, fused_mlp

FOUR = (*BEFORE, "post_self_attn_layernorm", "post_mlp_layernorm")


def glm(c: Config) -> Switches:
    return Switches(qkv_bias=c.flag("attention_bias"), mlp=fused_mlp)


def glm4(c: Config) -> Switches:
    return Switches(qkv_bias=c.flag("attention_bias"), mlp=fused_mlp, norms=FOUR)


GLM = Family(body=body(glm), cls="GlmForCausalLM", heads=DECODER_HEADS, buffers=partly_rotary(0.5))
GLM4 = Family(
    body=body(glm4), cls="Glm4ForCausalLM", heads=DECODER_HEADS, buffers=partly_rotary(0.5)
)
