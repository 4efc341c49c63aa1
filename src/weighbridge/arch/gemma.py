"""Gemma 1 to 3 (text), VaultGemma: Llama with a norm after each block and one scaled embedding.

    layer: attention, gated MLP, and norms     Gemma 1 and VaultGemma: 2     Gemma 2 and 3: 4

Gemma 3 normalises queries and keys, and has rotary frequencies for each kind of layer.
Source: transformers 5.23 models/{gemma,gemma2,gemma3,vaultgemma}/modeling_*.py.
"""

from collections.abc import Callable, Iterator

from weighbridge.arch import windows
from weighbridge.arch.blueprint import Buffer, Family
from weighbridge.arch.config import Config
from weighbridge.arch.decoder import BEFORE
from weighbridge.arch.heads import DECODER_HEADS
from weighbridge.arch.llama import LlamaSwitches, decoder
from weighbridge.arch.model_types import (
    NEVER,
    LlamaCppFacts,
    MlxFacts,
    ModelType,
    SglangFacts,
    TrainingFacts,
    TransformersFacts,
    VllmFacts,
)
from weighbridge.arch.modules import Decoder
from weighbridge.arch.rotary import layered_rotary, rotary

AROUND = (*BEFORE, "pre_feedforward_layernorm", "post_feedforward_layernorm")


def tree(norms: tuple[str, ...], *, qk_norm: bool = False) -> Callable[[Config], Decoder]:
    """Biases of attention are the config's to choose; the MLP has none."""

    def read(c: Config) -> Decoder:
        biased = c.flag("attention_bias")
        own = LlamaSwitches(qkv_bias=biased, o_bias=biased, norms=norms, qk_norm=qk_norm)
        return decoder(c, own)

    return read


def scale(path: str) -> Buffer:
    """The square root of the hidden size, rounded as the model's dtype rounds it."""
    return Buffer(f"{path}.embed_scale", (), "")


def buffers(c: Config, at: str) -> Iterator[Buffer]:
    yield scale(f"{at}embed_tokens")
    yield from rotary(c, at)


def gemma3_buffers(c: Config, at: str) -> Iterator[Buffer]:
    yield scale(f"{at}embed_tokens")
    yield from layered_rotary(c, at, period=c.num("sliding_window_pattern", default=6))


GEMMA = Family(tree=tree(BEFORE), cls="GemmaForCausalLM", heads=DECODER_HEADS, buffers=buffers)
GEMMA2 = Family(tree=tree(AROUND), cls="Gemma2ForCausalLM", heads=DECODER_HEADS, buffers=buffers)
VAULTGEMMA = Family(
    tree=tree(("input_layernorm", "pre_feedforward_layernorm")),
    cls="VaultGemmaForCausalLM",
    heads=DECODER_HEADS,
    buffers=buffers,
)
GEMMA3 = Family(
    tree=tree(AROUND, qk_norm=True),
    cls="Gemma3ForCausalLM",
    heads=DECODER_HEADS,
    buffers=gemma3_buffers,
)

TYPES = {
    "gemma": ModelType(
        GEMMA,
        training=TrainingFacts(
            net="decoders.gemma", lora=("q_proj", "v_proj"), litgpt="unit_norms", gguf="gemma"
        ),
        transformers=TransformersFacts(sdpa=(4, 38)),
        vllm=VllmFacts(every_stage="both"),
        mlx=MlxFacts(has_class=True),
    ),
    "gemma2": ModelType(
        GEMMA2,
        windows=windows.period(2),
        training=TrainingFacts(
            net="decoders.gemma", lora=("q_proj", "v_proj"), litgpt="unit_norms", gguf="gemma2"
        ),
        transformers=TransformersFacts(caches=(4, 44), sdpa=NEVER),
        vllm=VllmFacts(every_stage="both", not_float16=True),
        llama_cpp=LlamaCppFacts(windows=True),
        mlx=MlxFacts(has_class=True, capped=True),
    ),
    "gemma3_text": ModelType(
        GEMMA3,
        windows=windows.period(6, "sliding_window_pattern"),
        positions="stretched",
        computes=("rotary_by_window",),
        gguf="gemma3",
        training=TrainingFacts(lora=("q_proj", "v_proj"), gguf="gemma3"),
        vllm=VllmFacts(every_stage="both", tied_head="freed", not_float16=True),
        sglang=SglangFacts(whole_embedding=True),
        llama_cpp=LlamaCppFacts(windows=True),
        mlx=MlxFacts(has_class=True, own_caches=True, windows="always"),
    ),
    "vaultgemma": ModelType(
        VAULTGEMMA,
        windows=windows.period(2),
        gguf="llama",
        transformers=TransformersFacts(sdpa=NEVER),
    ),
}
