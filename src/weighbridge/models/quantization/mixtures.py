"""The file types of llama-quantize (mixtures.toml): a default type, and rules that give some
roles another.

    Q4_K_M = Q4_K; attn_v and ffn_down Q6_K in the first and last eighth and every third layer; ...

Source: llama.cpp 007dbbf3f src/llama-quant.cpp:llama_tensor_get_type_impl.
"""

import tomllib
from collections.abc import Callable, Mapping
from typing import Any

from weighbridge.base.parsed import text_beside
from weighbridge.base.records import NamedTuple


class TensorPlace(NamedTuple):
    """A tensor's place among others: number `nth` of `among` in its role, in a model with `gqa`
    query heads per KV head and `experts` routed experts."""

    role: str
    nth: int
    among: int
    gqa: int
    experts: int


Rule = Callable[[TensorPlace], str | None]  # a type, or None: the default stays


def _is_in_middle(place: TensorPlace) -> bool:
    """Return whether a layer is in neither the first nor the last eighth."""
    return place.among // 8 <= place.nth < 7 * place.among // 8


CONDITIONS: Mapping[str, Callable[[TensorPlace], bool]] = {
    "first8": lambda place: place.nth < place.among // 8,
    "first16": lambda place: place.nth < place.among // 16,
    "opening2": lambda place: place.nth < 2,
    "opening4": lambda place: place.nth < 4,
    "more": lambda place: not _is_in_middle(place) or (place.nth - place.among // 8) % 3 == 2,
    "middle": _is_in_middle,
    "grouped": lambda place: place.gqa >= 4,
    "sparse": lambda place: place.experts >= 4,
    "eight": lambda place: place.experts == 8,
}


def _rule(text: str) -> Rule:
    """Return the rule of one role as mixtures.toml writes it."""
    clauses = [clause.split() for clause in text.split(";")]

    def rule(place: TensorPlace) -> str | None:
        for *conditions, name in clauses:
            if all(CONDITIONS[one](place) for one in conditions):
                return None if name == "-" else name
        return None

    return rule


class Mixture(NamedTuple):
    """A file type. `tiny`: one of the smallest, which has special rules for values and keys."""

    default: str
    rules: Mapping[str, Rule]
    output: str = "Q6_K"
    embedding: str = ""
    tiny: bool = False


def _mixture(row: dict[str, Any]) -> Mixture:
    own = {name: row.pop(name) for name in Mixture._fields if name in row}
    return Mixture(rules={role: _rule(text) for role, text in row.items()}, **own)


_WRITTEN = tomllib.loads(text_beside(__file__, "mixtures.toml"))
MIXTURES = {name: _mixture(row) for name, row in _WRITTEN["types"].items()}
FALCON = {
    name: {role: _rule(text) for role, text in row.items()}
    for name, row in _WRITTEN["falcons_own"].items()
}
ALIASES = {"Q5_K": "Q5_K_M", "Q4_K": "Q4_K_M", "Q3_K": "Q3_K_M"}

# What Ollama does otherwise: its own quantizer, which made the files of its library, and its
# converter, which leaves the rest of gpt-oss in 16 bits. A type by a tensor's name, kind and role,
# or None: llama.cpp's rules stay.
# Source: ollama 0.23 server/quantization.go (qwen3LinearAttnQuantType, getTensorNewType); 0.30 and
# later start llama-quantize, with flags for the latter (llamaQuantizeArgs). gpt-oss:
# convert/convert_gptoss.go.
OllamaRules = Callable[[str, str, str], str | None]
EXPERTS = ("expert", "experts")
LATENT_MATRICES = ("q_a_proj.", "q_b_proj.", "kv_a_proj_with_mqa.", "kv_b_proj.")


def _of_delta_rule(name: str, kind: str, role: str) -> str | None:
    """Return the type for Qwen3-Next and Qwen3.5: down projections of experts get more bits in
    every layer."""
    if role == "down" and (kind in EXPERTS or "shared_expert" in name):
        return "Q6_K"
    if role == "v":
        return "Q4_K" if "qkv" in name else "Q6_K"
    return "Q4_K" if role == "out" else None


def _of_latents(name: str, kind: str, role: str) -> str | None:
    """Return the type for GLM-4.7-Flash: 8 bits for the small matrices of its MLA."""
    return "Q8_0" if any(word in name for word in LATENT_MATRICES) else None


def _beside_mxfp4(name: str, kind: str, role: str) -> str | None:
    """Return the type for gpt-oss: MXFP4 for experts, 16 bits for all others."""
    return None if kind in EXPERTS else "BF16"


KS = ("Q4_K_M", "Q4_K_S")
OLLAMA: tuple[tuple[tuple[str, ...], tuple[str, ...], OllamaRules], ...] = (  # of classes, in types
    (("Qwen3Next", "Qwen3_5"), KS, _of_delta_rule),
    (("Glm4MoeLite",), KS, _of_latents),
    (("GptOss",), ("MXFP4_MOE",), _beside_mxfp4),
)


def ollama_rules(cls: str, name: str) -> OllamaRules | None:
    """Return Ollama's rules for a transformers class in a file type; None if they are
    llama.cpp's."""
    return next(
        (rules for of, kinds, rules in OLLAMA if cls.startswith(of) and name in kinds), None
    )
