"""GGUF: the type of each tensor in a file type such as Q4_K_M, and its bytes.

    bytes = rows x inputs / block x bytes of a block            (types: weighbridge.dtypes.GGML)

A file type is a mixture: it has a default type, and rules that give some roles more bits, in the
first eighth of the layers, say. Norms, biases, routers, convolutions and all else that is not a
matrix are F32; a row that the block does not divide falls back to another type. Vision and audio
parts are a file of their own (mmproj), in F16. Without an importance matrix, save for the types
that need one.

llama.cpp holds a tied output matrix twice, once on the host; a file, and this, have it once.
Source: llama.cpp 007dbbf3f src/llama-quant.cpp (llama_tensor_get_type_impl, tensor_type_fallback,
tensor_allows_quantization); gguf-py and convert_hf_to_gguf.py for what is F32.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from weighbridge.arch.blueprint import Param
from weighbridge.dtypes import FLOAT16, FLOAT32, GGML_BY_NAME, DType
from weighbridge.errors import UnsupportedError
from weighbridge.quantization.gguf_names import layer, role
from weighbridge.quantization.scheme import (
    Matrix,
    Pack,
    Piece,
    Scheme,
    Setting,
    in_tower,
    matrix,
    module,
    width,
)


class Place(NamedTuple):
    """Where a tensor stands: the `index`-th of `count`, in a model with so many query heads to a
    key head (`gqa`) and so many routed experts."""

    index: int
    count: int
    gqa: int
    experts: int


Rule = Callable[[Place], str | None]  # a type, or None: the default stays


def always(name: str) -> Rule:
    return lambda at: name


def more_bits(name: str, otherwise: str | None = None) -> Rule:
    """The first and last eighth, and every third between: `use_more_bits`."""

    def rule(at: Place) -> str | None:
        i, n = at.index, at.count
        more = i < n // 8 or i >= 7 * n // 8 or (i - n // 8) % 3 == 2
        return name if more else otherwise

    return rule


def first(share: int, name: str, otherwise: Rule | None = None) -> Rule:
    """The first 1/share of the layers."""

    def rule(at: Place) -> str | None:
        if at.index < at.count // share:
            return name
        return otherwise(at) if otherwise else None

    return rule


def opening(count: int, name: str, otherwise: str | None = None) -> Rule:
    return lambda at: name if at.index < count else otherwise


def grouped(name: str, otherwise: str | None = None) -> Rule:
    """Where four or more query heads share a value head."""
    return lambda at: name if at.gqa >= 4 else otherwise


def grouped_or_sparse(name: str, otherwise: str) -> Rule:
    return lambda at: name if at.gqa >= 4 or at.experts >= 4 else otherwise


def middle(name: str) -> Rule:
    return lambda at: name if at.count // 8 <= at.index < 7 * at.count // 8 else None


def of_eight(name: str, otherwise: Rule | None = None) -> Rule:
    """In models of exactly eight experts."""

    def rule(at: Place) -> str | None:
        if at.experts == 8:
            return name
        return otherwise(at) if otherwise else None

    return rule


def _iq3_m_down(at: Place) -> str | None:
    early = at.index < at.count // 8
    return "Q4_K" if early or (at.experts == 8 and more_bits("Q4_K")(at)) else None


@dataclass(frozen=True, slots=True)
class Mixture:
    """A file type. `tiny`: the lowest ones, which have their own rules for values and keys."""

    default: str
    rules: Mapping[str, Rule] = field(default_factory=dict)
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
TERNARY = {"embedding": "Q4_K"}

MIXTURES: dict[str, Mixture] = {
    "F32": Mixture("F32"),
    "F16": Mixture("F16"),
    "BF16": Mixture("BF16"),
    "Q8_0": Mixture("Q8_0", output="Q8_0"),
    "Q6_K": Mixture("Q6_K"),
    "Q5_0": Mixture("Q5_0"),
    "Q5_1": Mixture("Q5_1"),
    "Q4_0": Mixture("Q4_0"),
    "Q4_1": Mixture("Q4_1"),
    "Q5_K_M": Mixture("Q5_K", {"v": more_bits("Q6_K"), "down": more_bits("Q6_K")}),
    "Q5_K_S": Mixture("Q5_K"),
    "Q4_K_M": Mixture("Q4_K", {"v": more_bits("Q6_K"), "down": more_bits("Q6_K"), **Q5_OF_EIGHT}),
    "Q4_K_S": Mixture("Q4_K", {"v": opening(4, "Q5_K"), "down": first(8, "Q5_K"), **Q5_OF_EIGHT}),
    "Q3_K_L": Mixture(
        "Q3_K",
        {
            "v": always("Q5_K"),
            "down": always("Q5_K"),
            "out": lambda at: None if at.experts == 8 else "Q5_K",
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
    "TQ1_0": Mixture("TQ1_0", **TERNARY),
    "TQ2_0": Mixture("TQ2_0", **TERNARY),
    "Q2_0": Mixture("Q2_0", **TERNARY),
    "MXFP4_MOE": Mixture("Q8_0", output="Q8_0"),
}
ALIASES = {"Q5_K": "Q5_K_M", "Q4_K": "Q4_K_M", "Q3_K": "Q3_K_M"}
NAMES = (*MIXTURES, *ALIASES)

# Falcon's own rules for these roles in these types; its output matrix is always Q8_0.
FALCON: dict[str, dict[str, Rule]] = {
    "Q3_K_M": {"down": first(16, "Q5_K", more_bits("Q4_K"))},
    "Q3_K_L": {"down": always("Q4_K"), "out": always("Q4_K")},
    "Q4_K_M": {"down": first(16, "Q6_K", more_bits("Q5_K", "Q4_K"))},
    "Q4_K_S": {"down": lambda at: None},
}
# What takes the place of a type whose block does not divide the row; F16 where that does not
# either. Other types have no fallback: llama-quantize stops.
FALLBACK = {
    **dict.fromkeys(("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S"), "IQ4_NL"),
    **dict.fromkeys(("IQ3_XXS", "IQ3_S", "IQ4_XS"), "IQ4_NL"),
    **dict.fromkeys(("Q2_0", "Q2_K", "Q3_K", "TQ1_0", "TQ2_0"), "Q4_0"),
    "Q4_K": "Q5_0",
    "Q5_K": "Q5_1",
    "Q6_K": "Q8_0",
}
PLAIN = ("F32", "F16", "BF16")
# In the source's own 16 bits: small matrices that llama-quantize passes by.
PASSED_BY = ("altup", "laurel", "per_layer_model_projection", "indexer.wq_b", "indexer.wk")
POSITIONS = ("position", "wpe", "token_type", "pos_emb")
QUANTIZED = ("linear", "conv1d", "expert", "experts", "embedding")
LLAMA_70B_LAYERS = 80  # LLM_TYPE_70B: 80 layers and grouped queries


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the rules ask of a model."""

    layers: int
    values: int  # tensors in the role of attn_v
    gqa: int
    experts: int
    tied: bool
    falcon: bool

    @property
    def llama_70b(self) -> bool:
        return self.layers == LLAMA_70B_LAYERS and self.gqa > 1


def facts(s: Setting) -> Facts:
    text = [p for p in s.plan.params if not p.tied and not in_tower(s.plan, p)]
    by_role: dict[str, Param] = {}
    for p in text:
        by_role.setdefault(role(p), p)
    latent = any(p.name.endswith("kv_b_proj.weight") for p in text)
    return Facts(
        layers=1 + max((layer(p) or 0 for p in text), default=0),
        values=sum(role(p) == "v" for p in text),
        gqa=text_heads(by_role, latent=latent),
        experts=max((p.routed[1] for p in text), default=1),
        tied="output" not in by_role,
        falcon=s.plan.cls.startswith("Falcon"),
    )


def text_heads(by_role: Mapping[str, Param], *, latent: bool) -> int:
    """Query heads to a key head, from the shapes of the first layer. Latent attention is many
    to one."""
    if latent:
        return 128
    queries = by_role.get("q")
    if queries is not None and "k" in by_role:
        return queries.shape[0] // max(1, by_role["k"].shape[0])
    if "v" in by_role and "out" in by_role:  # fused: what is not queries is keys and values
        fused, inner = by_role["v"], by_role["out"].shape[-1]
        rows = fused.shape[1] if fused.kind == "conv1d" else fused.shape[0]
        return 2 * inner // max(1, rows - inner)
    return 1


def _type(p: Param, m: Matrix, name: str, at: Place, known: Facts) -> str:
    """The type that the rules of `name` choose, before the row is looked at."""
    mix, part = MIXTURES[name], role(p)
    rules = {**mix.rules, **FALCON.get(name, {})} if known.falcon else mix.rules
    if part == "output" or (part == "embedding" and known.tied):
        whole = m.inputs % GGML_BY_NAME[mix.default].block == 0
        return mix.output if whole and not known.falcon else "Q8_0"
    if name == "MXFP4_MOE":
        return "MXFP4" if p.kind in ("expert", "experts") else "Q8_0"
    if part == "embedding":
        return mix.embedding or mix.default
    if part in ("v", "k") and known.experts == 8 and not mix.tiny:
        return "Q8_0"
    rule = rules.get(part)
    chosen = (rule(at) if rule else None) or mix.default
    small = part == "v" and known.llama_70b and not mix.tiny and chosen in ("Q3_K", "Q4_K")
    return "Q5_K" if small else chosen


def fitting(name: str, p: Param, inputs: int) -> str:
    """`name`, or the type that takes its place where its block does not divide the row."""
    if inputs % GGML_BY_NAME[name].block == 0:
        return name
    if name not in FALLBACK:
        raise UnsupportedError(
            f"{name}: {p.name} has rows of {inputs} values, which are not whole blocks of "
            f"{GGML_BY_NAME[name].block}; llama-quantize refuses it"
        )
    other = FALLBACK[name]
    return other if inputs % GGML_BY_NAME[other].block == 0 else "F16"


def left_alone(s: Setting, p: Param) -> DType | None:
    """The dtype of what a mixture does not reach; None for what it does."""
    if in_tower(s.plan, p):
        return FLOAT16 if len(p.shape) > 1 else FLOAT32
    if any(word in p.name for word in PASSED_BY) and len(p.shape) > 1:
        return s.dtype
    positions = p.kind == "embedding" and any(word in p.name for word in POSITIONS)
    gate = p.name.endswith("shared_expert_gate.weight")
    return FLOAT32 if p.kind not in QUANTIZED or positions or gate else None


def _loader(name: str) -> Callable[[Setting], Pack]:
    def loader(s: Setting) -> Pack:
        known, size = facts(s), width(s.plan)
        seen: Counter[str] = Counter()  # tensors of a role so far: the index of the next

        def pack(p: Param) -> Iterator[Piece]:
            plain = left_alone(s, p)
            if plain is not None:
                return iter((Piece(p.name, plain, p.shape),))
            m, part = matrix(p, size), role(p)
            index = layer(p) if known.experts > 1 and part != "v" else seen[part]
            count = known.values if part == "v" else known.layers
            seen[part] += 1
            at = Place(index or 0, count, known.gqa, known.experts)
            if p.name.endswith("kv_b_proj.weight"):
                return _latent(s, p, m, name)
            kind = MIXTURES[name].default if name in PLAIN else _type(p, m, name, at, known)
            return iter((_piece(p, p.name, m, kind),))

        return pack

    return loader


def _piece(p: Param, name: str, m: Matrix, kind: str) -> Piece:
    """GGUF's row is along the inputs, whatever the class's order."""
    dtype = GGML_BY_NAME[kind if kind in PLAIN else fitting(kind, p, m.inputs)]
    return Piece(name, dtype, (*m.stack, m.outputs, m.inputs))


def _latent(s: Setting, p: Param, m: Matrix, name: str) -> Iterator[Piece]:
    """kv_b_proj becomes attn_k_b, turned (rows of the head's unrotated size), and attn_v_b; both
    in the default type. [convert_hf_to_gguf.py, DeepSeek-V2 and V3]"""
    kind = "Q8_0" if name == "MXFP4_MOE" else MIXTURES[name].default
    values, size = _latent_shape(s, p, m)
    at, turned = module(p), Matrix(m.inputs, size, ((m.outputs - values) // size,))
    yield _piece(p, f"{at}.k_b.weight", turned, kind)
    yield _piece(p, f"{at}.v_b.weight", Matrix(values, m.inputs), kind)


def _latent_shape(s: Setting, p: Param, m: Matrix) -> tuple[int, int]:
    """(rows of kv_b_proj that are values, unrotated size of a head), from the layer's others.

    o_proj takes all heads' values; kv_a_proj's rows are rank + rotated size; the queries' rows
    are heads x (unrotated + rotated).
    """
    at = module(p).removesuffix("kv_b_proj")
    shapes = {q.name.removeprefix(at): q.shape for q in s.plan.params if q.name.startswith(at)}
    values = shapes["o_proj.weight"][1]
    rotated = shapes["kv_a_proj_with_mqa.weight"][0] - m.inputs
    queries = shapes.get("q_b_proj.weight") or shapes["q_proj.weight"]
    heads = (queries[0] - (m.outputs - values)) // rotated
    return values, (m.outputs - values) // heads


def _scheme(name: str) -> Scheme:
    return Scheme(
        name=name,
        loader=_loader(ALIASES.get(name, name)),
        left="norms, biases, routers, convolutions and positions are F32, vision and audio parts "
        "F16; the mixture's rules give the rest",
        source="llama.cpp src/llama-quant.cpp:llama_tensor_get_type_impl",
    )


SCHEMES: dict[str, Scheme] = {name: _scheme(name) for name in NAMES}
