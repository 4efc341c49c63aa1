"""The table: `model_type` -> the family that reads it, and the builder that they share.

A family is one line here and one record in its file. The file is imported when its first model
is met: a run that weighs a Llama reads no other family.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from itertools import islice
from typing import Any

from weighbridge.arch.blueprint import Blueprint, Body, Buffer, Family, Param
from weighbridge.arch.config import Config
from weighbridge.errors import BadFileError, UnsupportedError

MAX_TENSORS = 500_000  # Kimi-K2 has about 200,000; a config that asks for more is hostile

# model_type -> "module:RECORD" below weighbridge.arch
FAMILIES: dict[str, str] = {
    "bert": "bert:BERT",
    "ernie": "bert:ERNIE",
    "layoutlm": "bert:LAYOUTLM",
    "big_bird": "bert:BIG_BIRD",
    "electra": "bert:ELECTRA",
    "roformer": "bert:ROFORMER",
    "dpr": "bert:DPR",
    "roberta": "roberta:ROBERTA",
    "camembert": "roberta:CAMEMBERT",
    "xlm-roberta": "roberta:XLM_ROBERTA",
    "xlm-roberta-xl": "roberta:XLM_ROBERTA_XL",
    "longformer": "roberta:LONGFORMER",
    "mpnet": "roberta:MPNET",
    "deberta": "deberta:DEBERTA",
    "deberta-v2": "deberta:DEBERTA_V2",
    "distilbert": "small_encoders:DISTILBERT",
    "albert": "small_encoders:ALBERT",
    "mobilebert": "small_encoders:MOBILEBERT",
    "squeezebert": "small_encoders:SQUEEZEBERT",
    "modernbert": "modernbert:MODERNBERT",
    "nomic_bert": "modernbert:NOMIC_BERT",
    "xlnet": "xlnet:XLNET",
    "funnel": "xlnet:FUNNEL",
    "xlm": "xlm:XLM",
    "layoutlmv3": "layoutlmv3:LAYOUTLMV3",
    "t5": "t5:T5",
    "mt5": "t5:MT5",
    "umt5": "t5:UMT5",
    "longt5": "t5:LONGT5",
    "switch_transformers": "t5:SWITCH",
    "bart": "bart:BART",
    "mbart": "bart:MBART",
    "m2m_100": "bart:M2M_100",
    "marian": "bart:MARIAN",
    "pegasus": "bart:PEGASUS",
    "blenderbot": "bart:BLENDERBOT",
    "blenderbot-small": "bart:BLENDERBOT_SMALL",
    "led": "bart:LED",
    "fsmt": "bart:FSMT",
    "whisper": "whisper:WHISPER",
    "speech_to_text": "whisper:SPEECH_TO_TEXT",
    "wav2vec2": "wav2vec2:WAV2VEC2",
    "wav2vec2-conformer": "wav2vec2:CONFORMER",
    "hubert": "wav2vec2:HUBERT",
    "wavlm": "wav2vec2:WAVLM",
    "unispeech": "wav2vec2:UNISPEECH",
    "unispeech-sat": "wav2vec2:UNISPEECH_SAT",
    "encoder-decoder": "encoder_decoder:TEXT",
    "vision-encoder-decoder": "encoder_decoder:VISION",
    "speech-encoder-decoder": "encoder_decoder:SPEECH",
    "prophetnet": "prophetnet:PROPHETNET",
    "speecht5": "speecht5:SPEECHT5",
    "seamless_m4t": "seamless:SEAMLESS",
    "seamless_m4t_v2": "seamless:SEAMLESS_V2",
    "encodec": "codecs:ENCODEC",
    "mimi": "codecs:MIMI",
    "dac": "codecs:DAC",
    "llama": "llama:LLAMA",
    "mistral": "llama:MISTRAL",
    "qwen2": "llama:QWEN2",
    "qwen3": "llama:QWEN3",
    # dense text decoders
    "PanguEmbedded": "baichuan:PANGU",
    "RefinedWeb": "falcon:REFINED_WEB",
    "RefinedWebModel": "falcon:REFINED_WEB",
    "apertus": "apertus:APERTUS",
    "arcee": "llama:ARCEE",
    "baichuan": "baichuan:BAICHUAN",
    "biogpt": "early:BIOGPT",
    "bitnet": "apertus:BITNET",
    "bloom": "bloom:BLOOM",
    "chatglm": "chatglm:CHATGLM",
    "codegen": "gptj:CODEGEN",
    "cohere": "cohere:COHERE",
    "cohere2": "cohere:COHERE2",
    "ctrl": "early:CTRL",
    "cwm": "llama:CWM",
    "diffllama": "apertus:DIFFLLAMA",
    "ernie4_5": "llama:ERNIE4_5",
    "exaone": "exaone:EXAONE",
    "exaone4": "llama:EXAONE4",
    "falcon": "falcon:FALCON",
    "gemma": "gemma:GEMMA",
    "gemma2": "gemma:GEMMA2",
    "gemma3_text": "gemma:GEMMA3",
    "gemma3n_text": "gemma3n:GEMMA3N",
    "gemma4_text": "gemma4:GEMMA4",
    "gemma4_unified_text": "gemma4:GEMMA4_UNIFIED",
    "glm": "glm:GLM",
    "glm4": "glm:GLM4",
    "gpt2": "gpt2:GPT2",
    "gpt_bigcode": "gpt2:GPT_BIGCODE",
    "gpt_neo": "gpt_neo:GPT_NEO",
    "gpt_neox": "gpt_neox:GPT_NEOX",
    "gpt_neox_japanese": "gpt_neox:GPT_NEOX_JAPANESE",
    "gpt_neox_reward_model": "gpt_neox:GPT_NEOX_REWARD",
    "gptj": "gptj:GPTJ",
    "granite": "llama:GRANITE",
    "granite_swa": "llama:GRANITE_SWA",
    "helium": "llama:HELIUM",
    "hunyuan_v1_dense": "llama:HUNYUAN",
    "hyperclovax": "llama:HYPERCLOVAX",
    "internlm": "baichuan:INTERNLM",
    "internlm2": "baichuan:INTERNLM2",
    "internlm3": "llama:INTERNLM3",
    "iquestcoder": "llama:IQUEST_CODER",
    "jais2": "llama:JAIS2",
    "mimo": "mimo:MIMO",
    "minicpm": "minicpm:MINICPM",
    "minicpm3": "minicpm:MINICPM3",
    "ministral": "llama:MINISTRAL",
    "ministral3": "llama:MINISTRAL3",
    "mixformer-sequential": "phi:MIXFORMER",
    "moss": "gptj:MOSS",
    "mpt": "bloom:MPT",
    "nanochat": "apertus:NANOCHAT",
    "nemotron": "llama:NEMOTRON",
    "nemotron-nas": "deci:DECI",
    "olmo": "olmo:OLMO",
    "olmo2": "olmo:OLMO2",
    "olmo3": "olmo:OLMO3",
    "openai-gpt": "early:OPENAI_GPT",
    "opt": "opt:OPT",
    "orion": "baichuan:ORION",
    "persimmon": "gpt_neox:PERSIMMON",
    "phi": "phi:PHI",
    "phi-msft": "phi:PHI_MSFT",
    "phi3": "phi:PHI3",
    "phi4": "phi:PHI3",
    "qwen": "qwen:QWEN",
    "seed_oss": "llama:SEED_OSS",
    "smollm3": "llama:SMOLLM3",
    "stablelm": "stablelm:STABLELM",
    "stablelm_epoch": "stablelm:STABLELM",
    "starcoder2": "llama:STARCODER2",
    "vaultgemma": "gemma:VAULTGEMMA",
    "xglm": "opt:XGLM",
    "youtu": "minicpm:YOUTU",
    # images, and images beside text
    "beit": "vit:BEIT",
    "chinese_clip": "clip:CHINESE",
    "chinese_clip_text_model": "clip:CHINESE_TEXT",
    "chinese_clip_vision_model": "clip:CHINESE_VISION",
    "clip": "clip:CLIP",
    "clip_text_model": "clip:CLIP_TEXT",
    "clip_vision_model": "clip:CLIP_VISION",
    "convnext": "convnext:CONVNEXT",
    "convnextv2": "convnext:CONVNEXT_V2",
    "deit": "vit:DEIT",
    "dinov2": "vit:DINOV2",
    "dinov2_with_registers": "vit:DINOV2_REGISTERS",
    "dinov3_vit": "dinov3:DINOV3",
    "donut-swin": "swin:DONUT",
    "resnet": "resnet:RESNET",
    "sam": "sam:SAM",
    "sam_vision_model": "sam:SAM_VISION",
    "segformer": "segformer:SEGFORMER",
    "siglip": "clip:SIGLIP",
    "siglip_text_model": "clip:SIGLIP_TEXT",
    "siglip_vision_model": "clip:SIGLIP_VISION",
    "siglip2": "clip:SIGLIP2",
    "siglip2_text_model": "clip:SIGLIP_TEXT",
    "siglip2_vision_model": "clip:SIGLIP2_VISION",
    "swin": "swin:SWIN",
    "vit": "vit:VIT",
    "aya_vision": "llava:AYA_VISION",
    "cohere2_vision": "llava:COHERE2_VISION",
    "gemma3": "llava:GEMMA3",
    "internvl": "internvl:INTERNVL",
    "internvl_vision": "internvl:INTERNVL_VISION",
    "llava": "llava:LLAVA",
    "llava_llama": "llava:LLAVA_LLAMA",
    "llava_mistral": "llava:LLAVA_MISTRAL",
    "llava_next": "llava:LLAVA_NEXT",
    "llava_qwen": "llava:LLAVA_QWEN2",
    "llava_next_video": "llava:LLAVA_NEXT_VIDEO",
    "llava_onevision": "llava:LLAVA_ONEVISION",
    "mistral3": "llava:MISTRAL3",
    "paligemma": "llava:PALIGEMMA",
    "pixtral": "pixtral:PIXTRAL",
    "vipllava": "llava:VIPLLAVA",
    "qwen2_vl": "qwen_vl:QWEN2_VL",
    "qwen2_vl_text": "llama:QWEN2",
    "qwen2_vl_vision": "qwen_vl:VISION2",
    "qwen2_5_vl": "qwen_vl:QWEN2_5_VL",
    "qwen2_5_vl_text": "llama:QWEN2",
    "qwen2_5_vl_vision": "qwen_vl:VISION2_5",
    "qwen3_vl": "qwen_vl:QWEN3_VL",
    "qwen3_vl_text": "llama:QWEN3",
    "qwen3_vl_vision": "qwen_vl:VISION3",
    "qwen3_vl_moe": "qwen_vl:QWEN3_VL_MOE",
    "qwen3_vl_moe_vision": "qwen_vl:VISION3",
    "qwen3_vl_moe_text": "vl_moe:QWEN3_VL_MOE_TEXT",
    "qwen3_5": "qwen_vl:QWEN3_5",
    "qwen3_5_vision": "qwen_vl:VISION3_5",
    "qwen3_5_moe": "qwen_vl:QWEN3_5_MOE",
    "qwen3_5_moe_vision": "qwen_vl:VISION3_5",
    "gemma3n": "gemma3n_vl:GEMMA3N",
    "gemma3n_audio": "gemma3n_vl:GEMMA3N_AUDIO",
    "gemma3n_vision": "mobilenetv5:MOBILENETV5",
    "gemma4": "gemma4_vl:GEMMA4",
    "gemma4_audio": "gemma4_vl:GEMMA4_AUDIO",
    "gemma4_vision": "gemma4_vl:GEMMA4_VISION",
    "glm4v": "glm_vl:GLM4V",
    "glm4v_moe": "glm_vl:GLM4V_MOE",
    "glm4v_moe_text": "glm4_moe:GLM4_MOE",
    "glm4v_moe_vision": "glm_vl:GLM4V_VISION",
    "glm4v_text": "glm_vl:GLM4V_TEXT",
    "glm4v_vision": "glm_vl:GLM4V_VISION",
    "glm46v": "glm_vl:GLM46V",
    "intern_vit_6b": "internvl:INTERN_VIT",
    "internvl_chat": "internvl:INTERNVL_CHAT",
    "kimi_k25": "kimi_vl:KIMI_K25",
    "kimi_k25_vision": "kimi_vl:KIMI_K25_VISION",
    "kimi_vl": "kimi_vl:KIMI_VL",
    "moonvit": "kimi_vl:MOONVIT",
    "blip": "blip:BLIP",
    "blip_vision_model": "blip:BLIP_VISION",
    "blip-2": "blip2:BLIP2",
    "blip_2_qformer": "blip2:BLIP2_QFORMER",
    "blip_2_vision_model": "blip2:BLIP2_VISION",
    "granite_speech": "granite_speech:GRANITE_SPEECH",
    "granite_speech_encoder": "granite_speech:GRANITE_ENCODER",
    "instructblip": "blip2:INSTRUCTBLIP",
    "instructblip_vision_model": "blip2:INSTRUCT_VISION",
    "qwen2_audio": "audio_lm:QWEN2_AUDIO",
    "qwen2_audio_encoder": "audio_lm:ENCODER",
    "ultravox": "audio_lm:ULTRAVOX",
    "voxtral": "audio_lm:VOXTRAL",
    "voxtral_encoder": "audio_lm:ENCODER",
    "aria": "aria:ARIA",
    "aria_text": "aria:ARIA_TEXT",
    "colpali": "colpali:COLPALI",
    "colqwen2": "colpali:COLQWEN2",
    "florence2": "florence2:FLORENCE2",
    "florence_vision": "florence2:FLORENCE_VISION",
    "fuyu": "fuyu:FUYU",
    "git": "git:GIT",
    "git_vision_model": "clip:CLIP_VISION",
    "kosmos-2": "kosmos2:KOSMOS2",
    "lfm2_vl": "llava:LFM2_VL",
    "ovis2": "ovis2:OVIS2",
    "ovis2_vision": "ovis2:OVIS2_VISION",
    "ernie4_5_moe_vl": "ernie_vl:ERNIE_VL",
    "ernie4_5_vl_moe": "ernie_vl:ERNIE_VL",
    "ernie4_5_vl_moe_text": "ernie_vl:ERNIE_TEXT",
    "ernie4_5_vl_moe_vision": "ernie_vl:ERNIE_VISION",
    "idefics": "idefics1:IDEFICS",
    "minicpmv": "minicpmv:MINICPMV",
    "molmo": "molmo:MOLMO",
    "chameleon": "chameleon:CHAMELEON",
    "chameleon_vqgan": "vqgan:CHAMELEON_VQ",
    "emu3": "emu3:EMU3",
    "emu3_text_model": "llama:LLAMA",
    "emu3_vqgan": "emu3:EMU3_VQ",
    "janus": "janus:JANUS",
    "janus_vision_model": "janus:JANUS_VISION",
    "janus_vqgan": "vqgan:JANUS_VQ",
    "deepseek_vl_v2": "deepseek_vl:VL2",
    "phi3_v": "phi_vl:PHI3_V",
    "qwen2_5_omni": "qwen_omni:QWEN2_5_OMNI",
    "qwen2_5_omni_audio_encoder": "qwen_omni:AUDIO2_5",
    "qwen2_5_omni_talker": "qwen_omni:TALKER2_5",
    "qwen2_5_omni_text": "llama:QWEN2",
    "qwen2_5_omni_thinker": "qwen_omni:THINKER2_5",
    "qwen2_5_omni_token2wav": "omni_wave:TOKEN2WAV",
    "qwen2_5_omni_vision_encoder": "qwen_omni:VISION2_5",
    "qwen3_omni_moe": "qwen_omni:QWEN3_OMNI_MOE",
    "qwen3_omni_moe_audio_encoder": "qwen_omni:AUDIO3",
    "qwen3_omni_moe_code2wav": "omni_wave:CODE2WAV",
    "qwen3_omni_moe_talker": "qwen_omni:TALKER3",
    "qwen3_omni_moe_text": "qwen_moe:QWEN3_MOE",
    "qwen3_omni_moe_thinker": "qwen_omni:THINKER3",
    "qwen3_omni_moe_vision_encoder": "qwen_omni:VISION3",
    "phi4_multimodal": "phi_vl:PHI4_MULTIMODAL",
    "phi4mm": "phi_vl:PHI4MM",
    "paddleocr_vl": "paddleocr:PADDLEOCR_VL",
    "paddleocr_vl_text": "llama:ERNIE4_5",
    "paddleocr_vl_vision": "paddleocr:PADDLEOCR_VISION",
    "idefics2": "idefics:IDEFICS2",
    "idefics2_vision": "idefics:VISION_TOWER",
    "idefics3": "idefics:IDEFICS3",
    "idefics3_vision": "idefics:VISION_TOWER",
    "llama4": "llama4_vl:LLAMA4",
    "llama4_vision_model": "llama4_vl:LLAMA4_VISION",
    "mllama": "mllama:MLLAMA",
    "mllama_text_model": "mllama:MLLAMA_TEXT",
    "mllama_vision_model": "mllama:MLLAMA_VISION",
    "smolvlm": "idefics:SMOLVLM",
    "smolvlm_vision": "idefics:VISION_TOWER",
    # mixtures of experts, hybrids, state spaces
    "mixtral": "mixtral:MIXTRAL",
    "phimoe": "mixtral:PHIMOE",
    "minimax": "mixtral:MINIMAX",
    "minimax_m1": "mixtral:MINIMAX_M1",
    "minimax_text_01": "mixtral:MINIMAX_TEXT_01",
    "minimax_m2": "mixtral:MINIMAX_M2",
    "qwen2_moe": "qwen_moe:QWEN2_MOE",
    "qwen3_moe": "qwen_moe:QWEN3_MOE",
    "qwen3_next": "qwen_moe:QWEN3_NEXT",
    "qwen3_5_text": "qwen_moe:QWEN3_5",
    "qwen3_5_moe_text": "qwen_moe:QWEN3_5_MOE",
    "olmoe": "qwen_moe:OLMOE",
    "flex_olmo": "qwen_moe:FLEX_OLMO",
    "mellum": "qwen_moe:MELLUM",
    "deepseek": "deepseek:DEEPSEEK",
    "deepseek_v2": "deepseek:DEEPSEEK_V2",
    "deepseek_v3": "deepseek:DEEPSEEK_V3",
    "deepseek_v32": "deepseek:DEEPSEEK_V32",
    "kimi_k2": "deepseek:KIMI_K2",
    "glm4_moe_lite": "deepseek:GLM4_MOE_LITE",
    "glm_moe_dsa": "deepseek:GLM_MOE_DSA",
    "mistral4": "deepseek:MISTRAL_4",
    "longcat_flash": "deepseek:LONGCAT",
    "deepseek_v4": "deepseek_v4:DEEPSEEK_V4",
    "glm4_moe": "glm4_moe:GLM4_MOE",
    "dots1": "glm4_moe:DOTS1",
    "solar_open": "glm4_moe:SOLAR_OPEN",
    "exaone_moe": "glm4_moe:EXAONE_MOE",
    "hy_v3": "glm4_moe:HY_V3",
    "afmoe": "glm4_moe:AFMOE",
    "cohere2_moe": "glm4_moe:COHERE2_MOE",
    "ernie4_5_moe": "glm4_moe:ERNIE4_5_MOE",
    "hunyuan_v1_moe": "glm4_moe:HUNYUAN_V1_MOE",
    "mimo_v2_flash": "window_moe:MIMO_V2_FLASH",
    "laguna": "window_moe:LAGUNA",
    "step3p7_text": "window_moe:STEP3P7_TEXT",
    "gpt_oss": "stacked_moe:GPT_OSS",
    "llama4_text": "stacked_moe:LLAMA4_TEXT",
    "dbrx": "stacked_moe:DBRX",
    "jetmoe": "stacked_moe:JETMOE",
    "mamba": "mamba:MAMBA",
    "mamba2": "mamba:MAMBA_2",
    "falcon_mamba": "mamba:FALCON_MAMBA",
    "jamba": "mamba_hybrid:JAMBA",
    "bamba": "mamba_hybrid:BAMBA",
    "falcon_h1": "mamba_hybrid:FALCON_H1",
    "granitemoe": "mamba_hybrid:GRANITEMOE",
    "granitemoeshared": "mamba_hybrid:GRANITEMOESHARED",
    "granitemoehybrid": "mamba_hybrid:GRANITEMOEHYBRID",
    "nemotron_h": "mamba_hybrid:NEMOTRON_H",
    "zamba": "zamba:ZAMBA",
    "zamba2": "zamba:ZAMBA_2",
    "rwkv": "rwkv:RWKV",
    "rwkv5": "rwkv:RWKV_5",
    "recurrent_gemma": "griffin:RECURRENT_GEMMA",
    "lfm2": "lfm2:LFM2",
    "lfm2_moe": "lfm2:LFM2_MOE",
    "kimi_linear": "kimi_linear:KIMI_LINEAR",
    "bailing_hybrid": "kimi_linear:BAILING_HYBRID",
    "bailing_moe": "bailing:BAILING_MOE",
    "bailing_moe_v2": "bailing:BAILING_MOE_V2",
    "minimax_m3": "minimax_m3:MINIMAX_M3",
    "minimax_m3_vl_text": "minimax_m3:MINIMAX_M3",
}


def family(model_type: str) -> Family:
    """The record of `model_type`. Raises UnsupportedError when we have none."""
    try:
        module, record = FAMILIES[model_type].split(":")
    except KeyError:
        raise UnsupportedError(f"model type {model_type!r} is not in our tables") from None
    found = getattr(import_module(f"weighbridge.arch.{module}"), record)
    assert isinstance(found, Family)
    return found


def known(raw: Mapping[str, Any]) -> bool:
    return str(raw.get("model_type") or "") in FAMILIES


def blueprint(c: Config, *, base_model: bool = False) -> Blueprint:
    """All tensors of the class that the config names; with `base_model`, of its headless base."""
    kind = family(c.model_type)
    c.cls = c.cls or kind.cls
    _check_stem(kind, c)
    if not base_model:
        kind = next((k for ending, k in kind.classes.items() if c.cls.endswith(ending)), kind)
    suffix = "" if base_model else _head(kind, c)
    base = kind.bases.get(suffix, kind.base)
    at = f"{base}." if suffix and base else ""
    params = tied(c, kind, _bounded(c, _params(c, kind, at, kind.heads.get(suffix))))
    patterns = kind.blocks(c) if callable(kind.blocks) else kind.blocks
    plan = Blueprint(
        cls=c.cls,
        params=params,
        buffers=tuple(_buffers(c, kind, at)),
        blocks=tuple(f"{at}{pattern}" for pattern in patterns),
        parts=tuple((f"{at}{path}", label) for path, label in kind.parts),
    )
    return renamed(plan, kind.renames) if suffix and kind.renames else plan


def renamed(plan: Blueprint, pairs: Sequence[tuple[str, str]]) -> Blueprint:
    """The plan under other names: of `pairs` (old prefix, new prefix), the first that fits."""

    def name(old: str) -> str:
        pair = next((p for p in pairs if old.startswith(p[0])), ("", ""))
        return pair[1] + old[len(pair[0]) :]

    return replace(
        plan,
        params=tuple(p._replace(name=name(p.name), tied=name(p.tied)) for p in plan.params),
        buffers=tuple(replace(b, name=name(b.name)) for b in plan.buffers),
        blocks=tuple(name(f"{b}.").removesuffix(".") for b in plan.blocks),
        parts=tuple((name(prefix), label) for prefix, label in plan.parts),
    )


def stems(kind: Family) -> tuple[str, ...]:
    """How the names of all its classes begin."""
    return kind.stems or (re.split(r"For[A-Z]|Model|(With)?LMHead|DoubleHeads", kind.cls)[0],)


def _check_stem(kind: Family, c: Config) -> None:
    """A class of other authors under a model type of ours (a draft model that says `qwen3`) is
    another model: its name does not begin as those of the family do."""
    begins = tuple(name.casefold() for name in stems(kind))
    if c.cls not in kind.classes and not c.cls.casefold().startswith(begins):
        raise UnsupportedError(
            f"{c.where}: architectures names {c.cls!r}, which is not a class of {c.model_type!r}"
        )


def _head(kind: Family, c: Config) -> str:
    """The ending of the class that says which head it has; "" for the base model."""
    for suffix in kind.heads:
        if c.cls.endswith(suffix):
            return suffix
    if c.cls.endswith("Model"):
        return ""
    classes = ", ".join(f"*{suffix}" for suffix in (*kind.heads, *kind.classes, "Model"))
    raise UnsupportedError(
        f"{c.where}: architectures names {c.cls!r}, which is not in our tables ({classes})"
    )


def _params(c: Config, kind: Family, at: str, head: Body | None) -> Iterator[Param]:
    yield from kind.body(c, at)
    if head is not None:
        yield from head(c, "")


def _buffers(c: Config, kind: Family, at: str) -> Iterator[Buffer]:
    if kind.buffers is not None:
        yield from kind.buffers(c, at)


def _bounded(c: Config, params: Iterator[Param]) -> tuple[Param, ...]:
    found = tuple(islice(params, MAX_TENSORS + 1))
    if len(found) > MAX_TENSORS:
        raise BadFileError(f"{c.where}: asks for more than {MAX_TENSORS:,} tensors")
    return found


def tied(c: Config, kind: Family, params: tuple[Param, ...]) -> tuple[Param, ...]:
    """Mark the output projection as a view of the input embedding where the config ties them."""
    decide, name = kind.ties, "tie_word_embeddings"
    ties = decide(c) if callable(decide) else c.flag(name, default=decide)
    head = next((p.shape for p in params if p.name.endswith("lm_head.weight")), ())
    fits = (p for p in params if p.kind == "embedding" and p.shape == head)
    source = next(fits, None) if ties else None
    if source is None:
        return params
    return tuple(
        p._replace(tied=source.name)
        if p.name.endswith("lm_head.weight") and p.shape == source.shape and not p.tied
        else p
        for p in params
    )
