"""What changed from version to version of transformers, as far as memory sees it.

    legacy caches    tuples of tensors: a step holds the old ones of all layers beside the new ones
    whole logits     of every token of the prompt, though only the last is needed
    float logits     a float32 copy of them before they are handed out
    rotary tables    cosines and sines of every position, in each layer's own module
    repeated heads   key-value heads are copied for all query heads before the kernel
    copied prompt    the cache joins the prompt's keys to an empty tensor, which copies them

Read from the sources of 4.30 to 5.23: generation/utils.py, cache_utils.py,
integrations/sdpa_attention.py, modeling_flash_attention_utils.py and models/*/modeling_*.py. A
model type stands under the first version whose class has the property.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from weighbridge.engines.caches.transformers import LATENT_SINCE, SLIDING_SINCE
from weighbridge.errors import UsageError

Version = tuple[int, int]
NEVER: Version = (99, 0)

# Types whose generate used tuples of tensors for longer than others (`_supports_cache_class`);
# all have caches since 4.55, and DynamicCache is generate's default since 4.42.
DYNAMIC_CACHE: Mapping[Version, str] = {
    (4, 43): "chameleon whisper",
    (4, 44): "bloom gemma2 llava llava_next nemotron paligemma vipllava",
    (4, 45): """
        codegen falcon git gpt_neo gpt_neox gpt_neox_japanese gptj granite granitemoe idefics
        llava_onevision mllama olmoe qwen2_vl
    """,
    (4, 46): "longt5 mt5 switch_transformers t5 udop umt5",
    (4, 51): "blip-2 opt instructblip",
    (4, 53): """
        bart biogpt blenderbot blenderbot-small gpt2 m2m_100 marian mbart pegasus
    """,
    (4, 55): """
        ctrl fsmt gpt_bigcode led mpt openai-gpt prophetnet rembert seamless_m4t seamless_m4t_v2
        speech_to_text speecht5 trocr xglm
    """,
}

# The head takes `logits_to_keep`, and generate asks for the last one. Others since they exist.
LOGITS_TO_KEEP: Mapping[Version, str] = {
    (4, 46): "idefics3",
    (4, 47): "falcon",
    (4, 48): "granite",
    (4, 50): "aya_vision gpt_neox",
    (4, 53): "fuyu gpt2 granitemoe internvl",
    (4, 55): "gpt_oss qwen2_5_vl",
    (5, 0): """
        bart biogpt blenderbot blenderbot-small bloom codegen ctrl falcon_mamba git gpt_bigcode
        gpt_neo gpt_neox_japanese gptj idefics kosmos-2 m2m_100 mamba mamba2 marian mbart mpt
        openai-gpt opt pegasus qwen2_vl recurrent_gemma rembert rwkv xglm xlm xlnet
    """,
    (99, 0): "whisper prophetnet trocr t5 mt5 umt5",
}

# `scaled_dot_product_attention` is the default where the class supports it, else eager. Others
# since they exist; what came with 5 only, and what has no such form in 5.23 (sinks, softcapping,
# biases by position, old code), is eager in 4.
SDPA: Mapping[Version, str] = {
    (4, 37): "mistral mixtral qwen2",
    (4, 38): "gemma",
    (4, 40): "cohere dbrx olmo phi stablelm starcoder2",
    (4, 41): "bert data2vec-audio deit dpr hubert jetmoe phi3 sew unispeech vit wav2vec2",
    (4, 42): "gpt2 gpt_neox",
    (4, 43): "clip siglip",
    (4, 45): """
        albert biogpt camembert dinov2 m2m_100 mbart mllama olmoe qwen2_vl roberta xlm-roberta
        xlm-roberta-xl
    """,
    (4, 46): "distilbert idefics2 llava llava_next opt vipllava",
    (4, 48): "beit",
    (4, 53): """
        blenderbot blenderbot-small blip-2 fuyu instructblip kosmos-2 marian pegasus persimmon
    """,
    (5, 0): """
        data2vec-text data2vec-vision electra ernie mobilebert roc_bert
    """,
    (5, 1): """
        ctrl layoutlm mt5 nomic_bert recurrent_gemma seamless_m4t seamless_m4t_v2 segformer swin t5
        umt5 zamba
    """,
    (99, 0): """
        big_bird bloom codegen deberta deberta-v2 deepseek_v4 fsmt funnel gemma2 gpt_neox_japanese
        gpt_oss gptj granite_swa led longformer longt5 mimo_v2_flash mpnet mpt openai-gpt
        prophetnet squeezebert switch_transformers vaultgemma xglm xlm xlnet
    """,
}

# Modules that hold cosines and sines for `max_position_embeddings` positions: [since, until).
ROTARY_TABLES: Mapping[str, tuple[Version, Version]] = {
    "llama": ((4, 30), (4, 41)),
    "mistral": ((4, 34), (4, 42)),
    "mixtral": ((4, 36), (4, 48)),
    "qwen2": ((4, 37), (4, 45)),
    "qwen2_moe": ((4, 40), (4, 45)),
    "falcon": ((4, 34), (4, 45)),
    "gpt_neox": ((4, 30), (4, 45)),
    "persimmon": ((4, 34), (4, 45)),
    "phi": ((4, 36), (4, 45)),
    "stablelm": ((4, 38), (4, 45)),
    "starcoder2": ((4, 39), (4, 45)),
    "olmo": ((4, 40), (4, 41)),
}

# The flash_attention_2 classes that repeated key-value heads, until attention became one
# interface in 4.48.
FLASH_REPEATS = (
    "jamba",
    "mistral",
    "mixtral",
    "phi3",
    "phimoe",
    "qwen2",
    "qwen2_moe",
    "starcoder2",
)
ONE_INTERFACE: Version = (4, 48)
BATCHED_SINCE: Version = (5, 0)  # generation/utils.py, _optimize_model_for_decode
INNER_BATCHED_SINCE: Version = (5, 14)  # ... of a language model inside another class
TOWERS_KEPT_SINCE: Version = (5, 19)  # generation/utils.py, mm_encoder_outputs; 5.16 has it not


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What holds for one class in one version."""

    version: Version
    legacy_cache: bool
    outputs_kept: bool  # the prompt's logits live through the first step behind it
    whole_logits: bool
    float_logits: bool
    rotary_tables: bool
    flash_repeats: bool  # flash_attention_2
    sdpa_repeats: bool  # always; since 4.55 only under a mask
    sdpa_copies: bool  # queries, keys and values made contiguous
    packs_queries: bool  # a single query attends without repeated heads
    copied_prompt: bool
    sliding_cache: bool  # a layer with a window keeps no more than it
    stacked_experts: bool
    latent_cache: bool
    scores_returned: bool  # eager attention hands its scores to the layer
    batched_experts: bool  # generate multiplies by copies of the experts that were picked
    towers_kept: bool  # generate has the output of a tower for images to its end
    attention: str  # the default: sdpa or eager

    @property
    def written(self) -> str:
        return ".".join(map(str, self.version))


def rules(version: Version, model_type: str, *, inner: bool = False) -> Rules:
    """`model_type` of the language model; parts of one ("gemma3_text") are as their whole. `inner`:
    it is part of a class that sees or hears."""
    kind = model_type.removesuffix("_text")
    start, end = ROTARY_TABLES.get(kind, (NEVER, NEVER))
    old_kernel = version < ONE_INTERFACE
    return Rules(
        version=version,
        legacy_cache=version < _since(DYNAMIC_CACHE, kind, (4, 42)),
        outputs_kept=version < (4, 42),
        whole_logits=version < _since(LOGITS_TO_KEEP, kind, (4, 45)),
        float_logits=version < (4, 46),
        rotary_tables=start <= version < end,
        flash_repeats=old_kernel and kind in FLASH_REPEATS,
        sdpa_repeats=version < (4, 55),
        sdpa_copies=ONE_INTERFACE <= version < (4, 55),
        packs_queries=version >= (5, 14),
        copied_prompt=version >= (4, 56),
        sliding_cache=version >= SLIDING_SINCE,
        stacked_experts=version >= (5, 0),
        latent_cache=version >= LATENT_SINCE,
        scores_returned=not old_kernel,
        batched_experts=version >= (INNER_BATCHED_SINCE if inner else BATCHED_SINCE),
        towers_kept=version >= TOWERS_KEPT_SINCE,
        attention="sdpa" if version >= _since(SDPA, kind, (4, 36)) else "eager",
    )


def _since(table: Mapping[Version, str], kind: str, otherwise: Version) -> Version:
    return next((since for since, kinds in table.items() if kind in kinds.split()), otherwise)


ATTENTIONS = ("flash", "efficient", "cudnn", "math", "eager")


def kernel(chosen: str | None, default: str) -> str:
    """The attention that runs: sdpa takes its flash kernel where it can."""
    if chosen is not None and chosen not in ATTENTIONS:
        raise UsageError(f"--attention {chosen!r} is not known; use {', '.join(ATTENTIONS)}")
    return chosen or default
