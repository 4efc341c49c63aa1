"""GLM-4 (9B, 32B): Llama with gate and up fused and half of each head rotated.

GLM-4-0414 has two more norms, after attention and after the MLP.
Source: transformers 5.23 models/{glm,glm4}/modeling_*.py.
"""

from collections.abc import Callable

from weighbridge.arch.blueprint import Family
from weighbridge.arch.config import Config
from weighbridge.arch.decoder import BEFORE
from weighbridge.arch.heads import DECODER_HEADS
from weighbridge.arch.llama import LlamaSwitches, decoder
from weighbridge.arch.model_types import MlxFacts, ModelType, TrainingFacts, VllmFacts
from weighbridge.arch.modules import Decoder, fused_gated
from weighbridge.arch.rotary import partly_rotary

FOUR = (*BEFORE, "post_self_attn_layernorm", "post_mlp_layernorm")


def glm(norms: tuple[str, ...]) -> Callable[[Config], Decoder]:
    def read(c: Config) -> Decoder:
        one = LlamaSwitches(qkv_bias=c.flag("attention_bias"), mlp=fused_gated, norms=norms)
        return decoder(c, one)

    return read


GLM = Family(
    tree=glm(BEFORE), cls="GlmForCausalLM", heads=DECODER_HEADS, buffers=partly_rotary(0.5)
)
GLM4 = Family(
    tree=glm(FOUR), cls="Glm4ForCausalLM", heads=DECODER_HEADS, buffers=partly_rotary(0.5)
)

TYPES = {
    "glm": ModelType(GLM, training=TrainingFacts(net="decoders.glm"), mlx=MlxFacts(has_class=True)),
    "glm4": ModelType(
        GLM4,
        training=TrainingFacts(net="decoders.glm4"),
        vllm=VllmFacts(tied_head="shared", not_float16=True),
        mlx=MlxFacts(has_class=True),
    ),
}
