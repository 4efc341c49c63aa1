"""GGUF: the type of each tensor in a file type such as Q4_K_M, and its bytes.

    bytes = rows x inputs / block x bytes of a block            (types: base.dtypes.GGML)

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
from collections.abc import Callable, Iterable, Mapping

from weighbridge.base.dtypes import FLOAT16, FLOAT32, GGML_BY_NAME, DType
from weighbridge.base.errors import UnsupportedError
from weighbridge.base.records import NamedTuple, dataclass, replace
from weighbridge.base.sentences import sentence
from weighbridge.models.arch.blueprint import Param
from weighbridge.models.arch.roles import below_number, role_of, unnumbered
from weighbridge.models.quantization.mixtures import (
    ALIASES,
    EXPERTS,
    FALCON,
    MIXTURES,
    Mixture,
    OllamaRules,
    Rule,
    TensorPlace,
    ollama_rules,
)
from weighbridge.models.quantization.scheme import (
    LoaderFacts,
    Matrix,
    Pack,
    PackedPiece,
    Scheme,
    Takes,
    in_tower,
    is_weight,
    matrix,
    module,
    width,
)

# ---- Roles. llama.cpp knows them by its own tensor names (attn_v, ffn_down, ...), gguf-py says
# which module names become those (gguf 0.19 gguf/tensor_mapping.py; llama.cpp src/llama-quant.cpp,
# tensor_get_category).

# llama.cpp's role -> ours; attn_qkv is chosen as attn_v is, and the indexer's attn_k as that of
# the attention. What stands behind the layers of an encoder is counted with the ways down.
OURS: Mapping[str, str] = {
    "output": "head",
    "q": "q",
    "k": "k index_k",
    "v": "v qkv states_qkv",
    "out": "o",
    "down": "down pooler dense",
    "up": "up gate_up",
    "gate": "gate",
}
THEIRS = {ours: theirs for theirs, roles in OURS.items() for ours in roles.split()}
# Names of tensors with the default type: of classes that llama.cpp lacks, and of a few (T5,
# Granite's experts) whose files we have not compared
_UNREAD = """
    q k v o qkv wqkv proj output wi wi_0 wi_1 v1 fc0 fc11 fc12 ffn ffn_output mlp
    query_proj key_proj value_proj linear_q linear_k linear_v linear_out linear_fc1 linear_fc2
    intermediate_dense output_dense layer_1 layer_2 input_linear output_linear output_layer
    attn_q attn_k attn_v attn_qkv attn_output ffn_gate ffn_up ffn_down linear base_layer
"""
UNREAD = frozenset(_UNREAD.split())


def ggml_role(param: Param) -> str:
    """Return llama.cpp's role of a parameter: v, k, q, out, down, up, gate, output, embedding; ""
    for others."""
    if param.kind == "embedding":
        return "embedding"
    word = param.name.removesuffix(".weight").rpartition(".")[2]
    unread = word in UNREAD or word.isdigit() or word.endswith("bias")
    return "" if unread else THEIRS.get(role_of(param), "")


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
PASSED_BY = ("altup", "laurel", "per_layer_model_projection", "indexer.k_proj", "indexer.q_proj")
PER_LAYER = "embed_tokens_per_layer"  # Ollama's quantizer passes it by
# Released with quantized experts: the converter takes them as they are, and llama-quantize refuses
# to convert them again ("requantizing from type mxfp4 is disabled").
KEPT = {"GptOss": "MXFP4"}
POSITIONS = ("position", "wpe", "token_type", "pos_emb")
QUANTIZED = ("linear", "conv1d", "expert", "experts", "embedding")
LATENT = "kv_b_proj.weight"
MANY = 128
MIXTRAL_EXPERTS = 8
LLAMA_70B_LAYERS = 80  # LLM_TYPE_70B: 80 layers and grouped queries


class MixtureFacts(NamedTuple):
    """Facts about a model that llama-quantize's rules depend on."""

    layers: int
    values: int  # tensors in the role of attn_v
    gqa: int
    experts: int
    tied: bool
    of_falcon: bool
    expert_type: str = ""  # type in which the experts were trained and which they keep
    ollama: OllamaRules | None = None  # Ollama's rules, if its quantizer makes the file

    @property
    def llama_70b(self) -> bool:
        return self.layers == LLAMA_70B_LAYERS and self.gqa > 1


@dataclass(frozen=True, slots=True, eq=False)
class _Alike:
    """Facts that parameters share if their names differ only in layer and expert numbers."""

    text: bool  # in the language model
    role: str
    plain: DType | None  # dtype of a parameter that the mixture skips, else None
    matrix: Matrix


def _alike(facts: LoaderFacts, maker: str) -> Callable[[Param], _Alike]:
    known: dict[tuple[str, tuple[int, ...], str, str], _Alike] = {}
    size = width(facts.plan)

    def alike(param: Param) -> _Alike:
        key = (unnumbered(param.name), param.shape, param.kind, facts.plan.part(param.name))
        if key not in known:
            plain = left_alone(facts, param, maker)
            view = matrix(param, size) if plain is None else Matrix(0, 0)
            known[key] = _Alike(not in_tower(facts.plan, param), ggml_role(param), plain, view)
        return known[key]

    return alike


def mixture_facts(
    facts: LoaderFacts, likes: Mapping[str, _Alike], ollama: OllamaRules | None = None
) -> MixtureFacts:
    by_role: dict[str, Param] = {}
    values, last, experts, latent = 0, 0, 1, False
    for p in facts.plan.counted:
        like = likes.get(p.name)
        if like is None or not like.text or p.tied:
            continue
        if len(p.shape) > 1:
            by_role.setdefault(like.role, p)
        values += like.role == "v"
        last = max(last, _layer(p) or 0)
        experts = max(experts, p.routed[1])
        latent |= p.name.endswith(LATENT)
    return MixtureFacts(
        layers=1 + last,
        values=values,
        gqa=query_groups(by_role, latent=latent),
        experts=experts,
        tied="output" not in by_role,
        of_falcon=facts.plan.cls.startswith("Falcon"),
        expert_type=next(
            (kind for cls, kind in KEPT.items() if facts.plan.cls.startswith(cls)), ""
        ),
        ollama=ollama,
    )


def _layer(param: Param) -> int | None:
    numbered = below_number(param.name)
    return numbered.number if numbered else None


def query_groups(by_role: Mapping[str, Param], *, latent: bool) -> int:
    """Return the query heads per KV head, from the first attention layer's shapes. The output
    projection is as wide as the queries, whose matrix may include a gate. MLA has one KV head for
    all."""
    if latent:
        return MANY
    out, keys, values = by_role.get("out"), by_role.get("k"), by_role.get("v")
    if out is None:
        return 1
    queries = matrix(out, 0).inputs
    if keys is not None:
        return queries // max(1, keys.shape[0])
    if values is None:
        return 1
    fused = matrix(values, 0).outputs  # rows beyond the queries are keys and values
    return 2 * queries // max(1, fused - queries)


def _rules(name: str, known: MixtureFacts) -> Mapping[str, Rule]:
    """Return the mixture's rules, by role."""
    rules = MIXTURES[name].rules
    return {**rules, **FALCON.get(name, {})} if known.of_falcon else rules


def _has_rule(name: str) -> Takes | None:
    """Return a test for parameters whose type depends on a rule, and so perhaps on the layer; None
    if the mixture has no rules."""
    roles = MIXTURES[name].rules.keys() | FALCON.get(name, {}).keys()
    return (lambda p: ggml_role(p) in roles) if roles else None


def _type_before_fallback(
    param: Param, weight: Matrix, name: str, place: TensorPlace, known: MixtureFacts
) -> str:
    """Return a matrix's GGML type, before its row length is considered."""
    if known.expert_type and param.kind in EXPERTS:
        return known.expert_type
    by_ollama = None if known.ollama is None else known.ollama(param.name, param.kind, place.role)
    if by_ollama is not None:
        return by_ollama
    return (
        MIXTURES[name].default
        if name in PLAIN
        else _type_by_rules(param, weight, name, place, known)
    )


def _type_by_rules(
    param: Param, weight: Matrix, name: str, place: TensorPlace, known: MixtureFacts
) -> str:
    """Return a matrix's GGML type by the rules of the file type `name`."""
    if place.role == "output" or (place.role == "embedding" and known.tied):
        return _type_of_output(weight, MIXTURES[name], known)
    if name == "MXFP4_MOE":
        return "MXFP4" if param.kind in EXPERTS else "Q8_0"
    if place.role == "embedding":
        return MIXTURES[name].embedding or MIXTURES[name].default
    return _type_in_layer(name, place, known)


def _type_of_output(weight: Matrix, mixture: Mixture, known: MixtureFacts) -> str:
    """Return the GGML type of the output layer, which may be the embedding."""
    whole = weight.inputs % GGML_BY_NAME[mixture.default].block == 0
    return mixture.output if whole and not known.of_falcon else "Q8_0"


def _type_in_layer(name: str, place: TensorPlace, known: MixtureFacts) -> str:
    """Return the GGML type of a matrix in a layer. Keys and values get more bits in Mixtral, where
    they are small next to its eight experts, and in Llama 70B, next to its 64 heads."""
    mixture = MIXTURES[name]
    if place.role in ("v", "k") and known.experts == MIXTRAL_EXPERTS and not mixture.tiny:
        return "Q8_0"
    rule = _rules(name, known).get(place.role)
    chosen = (rule(place) if rule else None) or mixture.default
    larger = (
        place.role == "v" and known.llama_70b and not mixture.tiny and chosen in ("Q3_K", "Q4_K")
    )
    return "Q5_K" if larger else chosen


def fitting(name: str, param: Param, inputs: int) -> str:
    """Return the type `name`, or its fallback if its block does not divide the row of `inputs`
    elements."""
    if inputs % GGML_BY_NAME[name].block == 0:
        return name
    if name not in FALLBACK:
        raise UnsupportedError(
            sentence(
                "ggml_blocks",
                form=name,
                name=param.name,
                inputs=inputs,
                block=GGML_BY_NAME[name].block,
            )
        )
    other = FALLBACK[name]
    return other if inputs % GGML_BY_NAME[other].block == 0 else "F16"


def left_alone(facts: LoaderFacts, param: Param, maker: str = "") -> DType | None:
    """Return the dtype of a parameter that the file type does not quantize; None if it does."""
    if in_tower(facts.plan, param):
        return FLOAT16 if len(param.shape) > 1 else FLOAT32
    passed_by = (*PASSED_BY, PER_LAYER) if maker else PASSED_BY
    if any(word in param.name for word in passed_by) and len(param.shape) > 1:
        return facts.dtype
    positions = param.kind == "embedding" and any(word in param.name for word in POSITIONS)
    gate = param.name.endswith("shared_expert_gate.weight")
    unquantized = param.kind not in QUANTIZED or not is_weight(param)
    return FLOAT32 if unquantized or positions or gate else None


def _loader(name: str, maker: str = "") -> Callable[[LoaderFacts], Pack]:
    def loader(facts: LoaderFacts) -> Pack:
        alike = _alike(facts, maker)
        likes = {p.name: alike(p) for p in facts.plan.counted if not p.tied}
        known = mixture_facts(facts, likes, ollama_rules(facts.plan.cls, name) if maker else None)
        shapes = {p.name: p.shape for p in facts.plan.counted}
        rules = _rules(name, known)
        seen: Counter[str] = Counter()  # tensors of a role so far: the index of the next
        settled: dict[_Alike, Ends] = {}  # roles without a rule are alike in all layers

        def typed(param: Param, like: _Alike) -> str:
            role = like.role
            index = _layer(param) if known.experts > 1 and role != "v" else seen[role]
            count = known.values if role == "v" else known.layers
            place = TensorPlace(role, index or 0, count, known.gqa, known.experts)
            return _type_before_fallback(param, like.matrix, name, place, known)

        def ends(param: Param, like: _Alike) -> Ends:
            if like in settled:
                return settled[like]
            kind, halves = typed(param, like), latent_halves(param, like.matrix, shapes)
            pieces = tuple(_file_tensor(param, end, half, kind) for end, half in halves.items())
            if like.role not in rules and len(pieces) == 1:
                settled[like] = pieces
            return pieces

        def pack(param: Param) -> Iterable[PackedPiece]:
            like = likes.get(param.name) or alike(param)
            if like.plain is not None:
                return (PackedPiece(param.name, like.plain, param.shape),)
            pieces = ends(param, like)
            seen[like.role] += 1
            return [
                PackedPiece(f"{module(param)}{end}", dtype, shape) for end, dtype, shape in pieces
            ]

        return pack

    return loader


Ends = tuple[tuple[str, DType, tuple[int, ...]], ...]  # behind the module's name


def _file_tensor(
    param: Param, end: str, weight: Matrix, kind: str
) -> tuple[str, DType, tuple[int, ...]]:
    """Return (name's ending, dtype, shape) of a tensor in a file; GGUF's rows run along the inputs,
    whatever the class's order."""
    dtype = GGML_BY_NAME[kind if kind in PLAIN else fitting(kind, param, weight.inputs)]
    return end, dtype, (*weight.stack, weight.outputs, weight.inputs)


def latent_halves(
    param: Param, weight: Matrix, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Matrix]:
    """Return the matrices of kv_b_proj by name's ending: k_b, transposed, with rows of a head's
    unrotated size, and v_b; other parameters as one matrix. [convert_hf_to_gguf.py, DeepSeek-V2 and
    V3]

    Sizes come from the layer's other shapes: o_proj takes all heads' values, kv_a_proj's rows are
    rank + rotated size, and the queries' are heads x (unrotated + rotated).
    """
    attention = param.name.removesuffix(LATENT)
    if attention == param.name:
        return {param.name.removeprefix(module(param)): weight}
    near = [f"{attention}{name}.weight" for name in ("o_proj", "kv_a_proj_with_mqa", "q_b_proj")]
    if near[2] not in shapes:
        near[2] = f"{attention}q_proj.weight"
    if not all(name in shapes for name in near):
        return {param.name.removeprefix(module(param)): weight}
    out, down, queries = (shapes[name] for name in near)
    unrotated = weight.outputs - out[1]
    heads = (queries[0] - unrotated) // (down[0] - weight.inputs)
    keys = Matrix(weight.inputs, unrotated // heads, (heads,))
    return {".k_b.weight": keys, ".v_b.weight": Matrix(out[1], weight.inputs)}


def _scheme(name: str) -> Scheme:
    file_type = ALIASES.get(name, name)
    return Scheme(
        engine="llama.cpp",
        by_layer=_has_rule(file_type),
        name=name,
        loader=_loader(file_type),
        left="norms, biases, routers, convolutions and positions are F32, vision and audio parts "
        "F16; the mixture's rules give the rest",
        source="llama.cpp src/llama-quant.cpp:llama_tensor_get_type_impl",
    )


def by_ollama(form: Scheme) -> Scheme:
    """Return the file type `form` as Ollama's own quantizer makes it."""
    return replace(
        form, maker="ollama", loader=_loader(ALIASES.get(form.name, form.name), "ollama")
    )


NAMES = (*MIXTURES, *ALIASES)
SCHEMES: dict[str, Scheme] = {name: _scheme(name) for name in NAMES}
