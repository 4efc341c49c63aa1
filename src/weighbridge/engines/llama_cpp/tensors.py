"""The model's tensors by GGUF name, from a GGUF file's headers or from the class as converted.

    a file       as its headers have it
    a class      what the format's rules make of each parameter; experts joined to one tensor a
                 layer and role; gate and up apart; of a tied pair one, of a tower none (mmproj)

Source: llama.cpp 0c1e57098 conversion/ (modify_tensors of each architecture).

From checkpoint names to GGUF's: what the converter calls each tensor, and which it joins.

    layers.3.self_attn.q_proj.weight         blk.3.attn_q.weight
    layers.3.mlp.experts.17.up_proj.weight   a slice of blk.3.ffn_up_exps.weight
    experts.gate_up_proj                     ffn_gate_exps and ffn_up_exps, half each

Source: gguf 0.19 gguf/tensor_mapping.py; llama.cpp 0c1e57098 conversion/.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from math import prod
from typing import TypeVar

from weighbridge.arch.mixers import GatedDelta, Latent, Layer, Mamba2, Mixer
from weighbridge.arch.roles import below_layer, role
from weighbridge.checkpoint.model import ModelPart
from weighbridge.components.weights import FormatChoice
from weighbridge.dtypes import FLOAT32, GGML_BY_NAME, DType
from weighbridge.engines.interface import Subject
from weighbridge.engines.llama_cpp.graphs.network import Weight
from weighbridge.quantization.scheme import Scheme
from weighbridge.quantization.schemes import StoredTensor, scheme, stored
from weighbridge.records import replace

PLAIN = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
SPLIT = {
    "ffn_gate_up_exps": ("ffn_gate_exps", "ffn_up_exps"),
    "ffn_gate_up_shexp": ("ffn_gate_shexp", "ffn_up_shexp"),
}
DROPPED = ("pooler",)
M = TypeVar("M", bound=Mixer)
# Of a layer: our role -> GGUF's name
BY_ROLE: Mapping[str, str] = {
    "q": "attn_q",
    "k": "attn_k",
    "v": "attn_v",
    "qkv": "attn_qkv",
    "o": "attn_output",
    "q_norm": "attn_q_norm",
    "k_norm": "attn_k_norm",
    "q_a": "attn_q_a",
    "q_b": "attn_q_b",
    "kv_a": "attn_kv_a_mqa",
    "kv_b": "attn_kv_b",
    "sinks": "attn_sinks",
    "gate": "ffn_gate",
    "up": "ffn_up",
    "gate_up": "ffn_up",
    "down": "ffn_down",
    "router": "ffn_gate_inp",
    "shared_gate": "ffn_gate_inp_shexp",
}

# Of a model: the last part of the name -> GGUF's
WHOLE: Mapping[str, str] = {
    **dict.fromkeys(
        ("embed_tokens", "wte", "embeddings", "word_embeddings", "embed_in", "word_embedding",
         "tok_embeddings", "embedding", "shared"), "token_embd"),
    **dict.fromkeys(("lm_head", "embed_out", "output_layer", "output"), "output"),
    **dict.fromkeys(
        ("norm", "norm_f", "ln_f", "final_layer_norm", "final_layernorm",
         "encoder.final_layernorm", "final_norm"), "output_norm"),
    "embedding_norm": "token_embd_norm",
    "word_embeddings_layernorm": "token_embd_norm",
    **dict.fromkeys(("emb_ln", "embeddings.LayerNorm", "embeddings.norm"), "token_embd_norm"),
    **dict.fromkeys(("wpe", "position_embeddings", "embed_positions"), "position_embd"),
    "token_type_embeddings": "token_types",
    "embed_tokens_per_layer": "per_layer_token_embd",
    "per_layer_model_projection": "per_layer_model_proj",
    "per_layer_projection_norm": "per_layer_proj_norm",
}  # fmt: skip

# Of a layer, what has no role there: how the name ends -> GGUF's. The longest ending decides.
ENDS: Mapping[str, str] = {
    # attention
    "q_a_layernorm": "attn_q_a_norm",
    "kv_a_layernorm": "attn_kv_a_norm",
    "k_b": "attn_k_b",
    "v_b": "attn_v_b",
    "self_attn.attn_sub_norm": "attn_sub_norm",
    "mlp.ffn_sub_norm": "ffn_sub_norm",
    # norms
    **dict.fromkeys(
        ("input_layernorm", "ln_1", "attention_norm", "operator_norm", "ln_attn", "temporal_norm",
         "pre_attention_norm"), "attn_norm"),
    "norm": "attn_norm",
    "post_self_attn_layernorm": "post_attention_norm",
    "post_mlp_layernorm": "post_ffw_norm",
    **dict.fromkeys(
        ("post_attention_layernorm", "ln_2", "ffn_norm", "pre_ff_layernorm",
         "pre_feedforward_layernorm", "pre_mlp_layernorm", "post_mixer_norm",
         "mlp_norm"), "ffn_norm"),
    "post_feedforward_layernorm": "post_ffw_norm",
    **dict.fromkeys(("attention.output.LayerNorm", "sa_layer_norm"), "attn_output_norm"),
    **dict.fromkeys(("output.LayerNorm", "output_layer_norm"), "layer_output_norm"),
    # feed-forwards
    "shared_mlp.input_linear": "ffn_gate_up",
    "e_score_correction_bias": "exp_probs_b.bias",
    **dict.fromkeys(("expert_bias", "moe_statics.e_score_correction_bias"), "exp_probs_b.bias"),
    # recurrences
    "in_proj": "ssm_in",
    "conv1d": "ssm_conv1d",
    "x_proj": "ssm_x",
    "dt_proj": "ssm_dt",
    "dt_bias": "ssm_dt.bias",
    "A_log": "ssm_a",
    "D": "ssm_d",
    **dict.fromkeys(("mixer.norm", "mamba.norm", "linear_attn.norm"), "ssm_norm"),
    **dict.fromkeys(("mixer.out_proj", "mamba.out_proj", "linear_attn.out_proj"), "ssm_out"),
    "dt_layernorm": "ssm_dt_norm",
    "b_layernorm": "ssm_b_norm",
    "c_layernorm": "ssm_c_norm",
    "in_proj_qkv": "attn_qkv",
    "in_proj_z": "attn_gate",
    "in_proj_b": "ssm_beta",
    "in_proj_a": "ssm_alpha",
    "in_proj_ba": "ssm_ba",
    "conv.conv": "shortconv.conv",
    "conv.in_proj": "shortconv.in_proj",
    "conv.out_proj": "shortconv.out_proj",
    # Gemma 3n and 4
    "per_layer_input_gate": "inp_gate",
    "per_layer_projection": "proj",
    "post_per_layer_input_norm": "post_norm",
}  # fmt: skip
EXPERTS: Mapping[str, str] = {
    "w1": "ffn_gate_exps",
    "w2": "ffn_down_exps",
    "w3": "ffn_up_exps",
    "gate_proj": "ffn_gate_exps",
    "up_proj": "ffn_up_exps",
    "down_proj": "ffn_down_exps",
    "gate_up_proj": "ffn_gate_up_exps",
    "input_linear": "ffn_gate_up_exps",
    "output_linear": "ffn_down_exps",
}
BARE = ("ssm_a", "ssm_d", "exp_probs_b.bias", "ssm_dt.bias")


def tensors(subject: Subject) -> tuple[Weight, ...]:
    if subject.part.library == "gguf":
        return tuple(of_file(subject.part))
    return tuple(of_class(subject.part, form(subject.choice), subject.choice.dtype, subject.layers))


def of_file(part: ModelPart) -> Iterator[Weight]:
    for t in part.stored:
        yield Weight(t.name, t.dtype, tuple(reversed(t.shape)), t.nbytes)


def form(choice: FormatChoice) -> Scheme:
    """GGUF types alone; another library's format is taken as unpacked by the converter."""
    if choice.scheme is not None and choice.scheme.engine == "llama.cpp":
        return choice.scheme
    return scheme(PLAIN.get(choice.dtype.name, "BF16"))


def of_class(
    part: ModelPart, form: Scheme, dtype: DType, layers: tuple[Layer, ...]
) -> Iterator[Weight]:
    alike = {p.name: count for p, count in part.blueprint.distinct()}
    first = tuple(p for p, _ in part.blueprint.distinct())
    near = siblings_of([p.name for p in first])
    known: dict[object, list[Weight]] = {}  # of a layer, as every other one has them
    for t in stored(replace(part.blueprint, params=first), form, dtype=dtype):
        if part.blueprint.part(t.source) != "language model":
            continue
        name, count = gguf_name(t.name, near), alike[t.source]
        at = name[: name.find(".", 4) + 1] if name.startswith("blk.") else ""
        key = name[len(at) :], t.dtype.name, t.shape, count
        if key not in known:
            known[key] = [
                replace(w, name=w.name[len(at) :]) for w in _converted(t, name, count, layers)
            ]
        for w in known[key]:
            yield Weight(at + w.name, w.dtype, w.ne, w.nbytes)
    yield from _buffers(part)


def _converted(
    tensor: StoredTensor, name: str, count: int, layers: tuple[Layer, ...]
) -> Iterator[Weight]:
    """Yield what the converter makes of a tensor of that name, of `count` like experts."""
    kind = GGML_BY_NAME[PLAIN.get(tensor.dtype.name, tensor.dtype.name)]
    for piece, ne in _apart(name, _shape(tensor.shape), layers):
        full = _stacked(piece, _folded(piece, ne, layers), count)
        if not piece.startswith(DROPPED):
            yield Weight(piece, kind, full, kind.rows(full[0] if full else 1, prod(full)))


def _shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """ggml's order; a convolution's single input channel is left out."""
    ne = tuple(reversed(shape))
    if len(ne) == 3 and ne[1] == 1:
        return ne[0], ne[2]
    return ne


def _stacked(name: str, ne: tuple[int, ...], count: int) -> tuple[int, ...]:
    """Experts of a layer and role are one tensor."""
    return (*ne, count) if "_exps.weight" in name and len(ne) == 2 else ne


def _apart(
    name: str, ne: tuple[int, ...], layers: tuple[Layer, ...]
) -> Iterable[tuple[str, tuple[int, ...]]]:
    """A tensor that the converter splits, in its pieces."""
    for both, halves in SPLIT.items():
        start, _, tail = name.partition(both)
        if tail:
            return tuple((f"{start}{one}{tail}", _halved(name, ne)) for one in halves)
    if name.endswith("in_proj_qkvz.weight"):
        return _qkvz(name, ne, layers)
    return ((name, ne),)


def _folded(name: str, ne: tuple[int, ...], layers: tuple[Layer, ...]) -> tuple[int, ...]:
    """Matrices of heads and norms of groups have an axis of their own."""
    if name.endswith("attn_v_b.weight"):
        m = _first(layers, Latent)
        return ne[0], m.value_dim, m.heads
    if name.endswith("ssm_norm.weight") and any(isinstance(m, Mamba2) for m in _mixers(layers)):
        groups = _first(layers, Mamba2).groups
        return ne[0] // groups, groups
    return ne


def _mixers(layers: tuple[Layer, ...]) -> Iterator[Mixer]:
    return (m for la in layers for m in la.mixers)


def _first(layers: tuple[Layer, ...], kind: type[M]) -> M:
    return next(m for m in _mixers(layers) if isinstance(m, kind))


def _halved(name: str, ne: tuple[int, ...]) -> tuple[int, ...]:
    if name.endswith(".bias"):
        return (ne[0] // 2, *ne[1:])
    return (ne[0], ne[1] // 2, *ne[2:])


def _qkvz(
    name: str, ne: tuple[int, ...], layers: tuple[Layer, ...]
) -> Iterable[tuple[str, tuple[int, ...]]]:
    m = _first(layers, GatedDelta)
    start = ".".join(name.split(".")[:2])
    values = m.value_heads * m.value_dim
    return (
        (f"{start}.attn_qkv.weight", (ne[0], m.channels)),
        (f"{start}.attn_gate.weight", (ne[0], values)),
    )


def _buffers(part: ModelPart) -> Iterator[Weight]:
    """Biases that choose experts are buffers of the class, and tensors of the file."""
    for b in part.blueprint.buffers:
        if b.persistent and b.name.endswith(("e_score_correction_bias", "expert_bias")):
            ne = tuple(reversed(b.shape))
            yield Weight(gguf_name(b.name), GGML_BY_NAME["F32"], ne, FLOAT32.size(prod(ne)))


# GGUF's names


@lru_cache(maxsize=1 << 15)
def gguf_name(name: str, siblings: frozenset[str] = frozenset()) -> str:
    """`siblings` are the endings of the layer's other tensors: a norm's name says what it is only
    beside them. A name that is not in our tables keeps its own."""
    path, ending = _ending(name)
    position = below_layer(path)
    if position is None:
        return _whole(path, ending)
    base = _of_layer(position.below, siblings)
    return f"blk.{position.number}.{base}{'' if base in BARE else ending}"


def _ending(name: str) -> tuple[str, str]:
    for ending in (".weight", ".bias"):
        if name.endswith(ending):
            return name.removesuffix(ending), ending
    if name.endswith("_bias") and "proj" in name:
        return name.removesuffix("_bias"), ".bias"  # gpt-oss's experts
    return name, ".weight"


def _whole(path: str, ending: str) -> str:
    parts = path.split(".")
    for name in (".".join(parts[-2:]), parts[-1]):
        if name in WHOLE:
            return WHOLE[name] + ending
    return path + ending


def _of_layer(tail: str, siblings: frozenset[str]) -> str:
    if "experts." in tail and "shared_experts" not in tail:
        return EXPERTS.get(tail.rpartition(".")[2], tail)
    if tail == "post_attention_layernorm" and "post_feedforward_layernorm" in siblings:
        return "post_attention_norm"
    if "block_sparse_moe" in tail and tail.endswith("_linear"):
        return EXPERTS[tail.rpartition(".")[2]]
    parts = tail.split(".")
    base = _by_ending(parts) or BY_ROLE.get(role(tail), tail)
    shared = any("shared_expert" in p or p == "shared_mlp" for p in parts[:-1])
    return f"{base}_shexp" if shared and base.startswith("ffn_") else base


def _by_ending(parts: Sequence[str]) -> str | None:
    """The longest ending decides."""
    endings = (".".join(parts[-count:]) for count in (3, 2, 1))
    return next((ENDS[ending] for ending in endings if ending in ENDS), None)


def siblings_of(names: list[str]) -> frozenset[str]:
    """Modules that stand in layers themselves."""
    positions = (below_layer(_ending(n)[0]) for n in names)
    return frozenset(
        position.below
        for position in positions
        if position is not None and "." not in position.below
    )
