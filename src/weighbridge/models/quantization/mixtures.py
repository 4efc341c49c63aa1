"""The file types of llama-quantize: a default type, and rules that give some roles another.

    Q4_K_M = Q4_K; attn_v and ffn_down Q6_K in the first and last eighth and every third layer; ...

Source: llama.cpp 007dbbf3f src/llama-quant.cpp:llama_tensor_get_type_impl.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from weighbridge.base.records import NamedTuple


class TensorPlace(NamedTuple):
    """The place of a tensor: the `nth` of `among` in its role, in a model with `gqa` query heads
    per KV head and `experts` routed experts."""

    role: str
    nth: int
    among: int
    gqa: int
    experts: int


Rule = Callable[[TensorPlace], str | None]  # a type, or None: the default stays


def always(name: str) -> Rule:
    return lambda place: name


def more_bits(name: str, otherwise: str | None = None) -> Rule:
    """Return a rule for the first and last eighth, and every third between: `use_more_bits`."""

    def rule(place: TensorPlace) -> str | None:
        nth, among = place.nth, place.among
        more = nth < among // 8 or nth >= 7 * among // 8 or (nth - among // 8) % 3 == 2
        return name if more else otherwise

    return rule


def first(share: int, name: str, otherwise: Rule | None = None) -> Rule:
    """Return a rule for the first 1/share of the layers."""

    def rule(place: TensorPlace) -> str | None:
        if place.nth < place.among // share:
            return name
        return otherwise(place) if otherwise else None

    return rule


def opening(count: int, name: str, otherwise: str | None = None) -> Rule:
    return lambda place: name if place.nth < count else otherwise


def grouped(name: str, otherwise: str | None = None) -> Rule:
    """Return a rule for four or more query heads per KV head."""
    return lambda place: name if place.gqa >= 4 else otherwise


def grouped_or_sparse(name: str, otherwise: str) -> Rule:
    return lambda place: name if place.gqa >= 4 or place.experts >= 4 else otherwise


def middle(name: str) -> Rule:
    return lambda place: name if place.among // 8 <= place.nth < 7 * place.among // 8 else None


def of_eight(name: str, otherwise: Rule | None = None) -> Rule:
    """Return a rule for models of exactly eight experts."""

    def rule(place: TensorPlace) -> str | None:
        if place.experts == 8:
            return name
        return otherwise(place) if otherwise else None

    return rule


def _iq3_m_down(place: TensorPlace) -> str | None:
    early = place.nth < place.among // 8
    return "Q4_K" if early or (place.experts == 8 and more_bits("Q4_K")(place)) else None


NO_RULES: Mapping[str, Rule] = MappingProxyType({})


class Mixture(NamedTuple):
    """A file type. `tiny`: one of the smallest, with its own rules for values and keys."""

    default: str
    rules: Mapping[str, Rule] = NO_RULES
    output: str = "Q6_K"
    embedding: str = ""
    tiny: bool = False


def _tiny(default: str, *, attention: str, values: str, early: str, embedding: str) -> Mixture:
    rules = {
        "v": grouped_or_sparse("Q4_K", values),
        "k": of_eight("Q4_K"),
        "down": first(8, early),
        "out": of_eight("Q5_K", always(attention)),
    }
    return Mixture(default, rules, output="Q5_K", embedding=embedding, tiny=True)


Q5_OF_EIGHT = {"out": of_eight("Q5_K")}
IQ4 = {"v": grouped("Q5_K"), "down": first(8, "Q5_K"), **Q5_OF_EIGHT}

_ALIKE = "F32 F16 BF16 Q6_K Q5_0 Q5_1 Q4_0 Q4_1"  # all matrices in one type, but for the output
MIXTURES: dict[str, Mixture] = {
    **{name: Mixture(name) for name in _ALIKE.split()},
    "Q8_0": Mixture("Q8_0", output="Q8_0"),
    "Q5_K_M": Mixture("Q5_K", {"v": more_bits("Q6_K"), "down": more_bits("Q6_K")}),
    "Q5_K_S": Mixture("Q5_K"),
    "Q4_K_M": Mixture("Q4_K", {"v": more_bits("Q6_K"), "down": more_bits("Q6_K"), **Q5_OF_EIGHT}),
    "Q4_K_S": Mixture("Q4_K", {"v": opening(4, "Q5_K"), "down": first(8, "Q5_K"), **Q5_OF_EIGHT}),
    "Q3_K_L": Mixture(
        "Q3_K",
        {
            "v": always("Q5_K"),
            "down": always("Q5_K"),
            "out": lambda place: None if place.experts == 8 else "Q5_K",
        },
    ),
    "Q3_K_M": Mixture(
        "Q3_K",
        {
            "v": opening(2, "Q5_K", "Q4_K"),
            "down": first(16, "Q5_K", always("Q4_K")),
            "out": of_eight("Q5_K", always("Q4_K")),
        },
    ),
    "Q3_K_S": Mixture("Q3_K", Q5_OF_EIGHT),
    "Q2_K": Mixture(
        "Q2_K",
        {
            "v": grouped("Q4_K", "Q3_K"),
            "down": always("Q3_K"),
            "out": of_eight("Q5_K", always("Q3_K")),
        },
    ),
    "Q2_K_S": Mixture("Q2_K", {"v": grouped("Q4_K"), "down": first(8, "Q4_K")}),
    "IQ4_NL": Mixture("IQ4_NL", IQ4),
    "IQ4_XS": Mixture("IQ4_XS", IQ4),
    "IQ3_M": Mixture(
        "IQ3_S",
        {"v": always("Q4_K"), "down": _iq3_m_down, "out": of_eight("Q5_K", always("Q4_K"))},
    ),
    "IQ3_S": Mixture("IQ3_S", {"v": grouped("Q4_K"), **Q5_OF_EIGHT}),
    "IQ3_XS": Mixture(
        "IQ3_S",
        {
            "v": grouped("Q4_K"),
            "k": always("IQ3_XXS"),
            "q": always("IQ3_XXS"),
            "gate": middle("IQ3_XXS"),
            "up": middle("IQ3_XXS"),
            **Q5_OF_EIGHT,
        },
    ),
    "IQ3_XXS": Mixture(
        "IQ3_XXS",
        {
            "v": grouped("Q4_K"),
            "k": always("IQ2_S"),
            "q": always("IQ2_S"),
            "out": of_eight("Q5_K", always("IQ3_S")),
        },
        output="Q5_K",
        embedding="IQ3_S",
    ),
    "IQ2_M": _tiny("IQ2_S", attention="IQ3_S", values="IQ3_S", early="IQ3_S", embedding="IQ3_S"),
    "IQ2_S": _tiny("IQ2_XS", attention="IQ3_S", values="IQ3_S", early="IQ3_S", embedding="IQ3_S"),
    "IQ2_XS": _tiny("IQ2_XS", attention="IQ2_XS", values="Q2_K", early="Q2_K", embedding="Q2_K"),
    "IQ2_XXS": _tiny("IQ2_XXS", attention="IQ2_XXS", values="Q2_K", early="Q2_K", embedding="Q2_K"),
    "IQ1_M": _tiny("IQ1_M", attention="IQ2_XXS", values="Q2_K", early="Q2_K", embedding="Q2_K"),
    "IQ1_S": _tiny("IQ1_S", attention="IQ2_XXS", values="Q2_K", early="Q2_K", embedding="Q2_K"),
    "TQ1_0": Mixture("TQ1_0", embedding="Q4_K"),
    "TQ2_0": Mixture("TQ2_0", embedding="Q4_K"),
    "Q2_0": Mixture("Q2_0", embedding="Q4_K"),
    "MXFP4_MOE": Mixture("Q8_0", output="Q8_0"),
}
ALIASES = {"Q5_K": "Q5_K_M", "Q4_K": "Q4_K_M", "Q3_K": "Q3_K_M"}

# Falcon's own rules for these roles in these types; its output matrix is always Q8_0.
FALCON: dict[str, dict[str, Rule]] = {
    "Q3_K_M": {"down": first(16, "Q5_K", more_bits("Q4_K"))},
    "Q3_K_L": {"down": always("Q4_K"), "out": always("Q4_K")},
    "Q4_K_M": {"down": first(16, "Q6_K", more_bits("Q5_K", "Q4_K"))},
    "Q4_K_S": {"down": lambda place: None},
}

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
    """Return the type for Qwen3-Next and Qwen3.5: down projections of all experts have more bits in
    every layer."""
    if role == "down" and (kind in EXPERTS or "shared_expert" in name):
        return "Q6_K"
    if role == "v":
        return "Q4_K" if "qkv" in name else "Q6_K"
    return "Q4_K" if role == "out" else None


def _of_latents(name: str, kind: str, role: str) -> str | None:
    """Return the type for GLM-4.7-Flash: eight bits for the small matrices of its MLA."""
    return "Q8_0" if any(word in name for word in LATENT_MATRICES) else None


def _beside_mxfp4(name: str, kind: str, role: str) -> str | None:
    """Return the type for gpt-oss: experts stay in MXFP4, all else in 16 bits."""
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
