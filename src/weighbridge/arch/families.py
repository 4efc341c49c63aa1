"""The table: `model_type` -> the family that reads it, and the builder that they share.

A family is one line here and one record in its file. The file is imported when its first model
is met: a run that weighs a Llama reads no other family.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from itertools import islice
from typing import Any

from weighbridge.arch.blueprint import Blueprint, Body, Buffer, Family, Param
from weighbridge.arch.config import Config
from weighbridge.errors import BadFileError, UnsupportedError

MAX_TENSORS = 2_000_000  # Kimi-K2 has about 200,000; a config that asks for more is hostile

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
    "bitnet": "apertus:BITNET",
    "bloom": "bloom:BLOOM",
    "chatglm": "chatglm:CHATGLM",
    "codegen": "gptj:CODEGEN",
    "cohere": "cohere:COHERE",
    "cohere2": "cohere:COHERE2",
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
    "internlm3": "llama:LLAMA",
    "iquestcoder": "llama:LLAMA",
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
        blocks=tuple(name(b) for b in plan.blocks),
        parts=tuple((name(prefix), label) for prefix, label in plan.parts),
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
