"""Which way each module is split, by its name in the checkpoint: `cut(site)`.

    vocab     rows, padded                  embeddings and heads
    query     outputs, by head              keys     outputs, by key-value head
    fused     both, one after the other     column   outputs
    row       inputs; its bias is whole     whole    nothing: every rank has all of it
    states    Mamba's and delta nets' inputs and convolutions, by heads and groups

A name is looked up with the one before it ("mlp.w2"), then alone ("w2").

Source: the ColumnParallelLinear, RowParallelLinear, QKVParallelLinear and ReplicatedLinear of
vllm 0.33 and 0.19 model_executor/models/*.py, model_executor/layers/mamba/*.py, layers/mla.py;
sglang 0.5.23 srt/models/*.py.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import assert_never

from weighbridge.arch.blueprint import Param
from weighbridge.arch.mixers import (
    Attention,
    Compressed,
    CrossAttention,
    GatedDelta,
    GatedRecurrence,
    KimiDelta,
    Latent,
    LinearAttention,
    Mamba1,
    Mamba2,
    Mixer,
    Rwkv,
    Shared,
    ShortConv,
)
from weighbridge.engines.parallel.cuts import Cut, Part, Unit, even
from weighbridge.errors import UnsupportedError

ROLES: Mapping[str, str] = {
    "vocab": """
        embed_tokens lm_head wte word_embeddings tok_embeddings word_embedding embed_in embed_out
        output_layer transformer.ff_out embed_tokens_per_layer shared token_embd model.embed
        output head embed embeddings linear wte.embedding
    """,
    "query": """
        q_proj self_attn.q q query query_proj q_lin linear_q q_b_proj wq_b attn_q wq
        index_q_proj q_attn output_gate g_proj b_proj sinks attn_sink attention_sink_bias
    """,
    "keys": """
        k_proj v_proj k v key value key_proj value_proj k_lin v_lin linear_k linear_v
        attn_k attn_v wk wv
    """,
    "fused": """
        qkv_proj query_key_value Wqkv wqkv c_attn W_pack att_proj qkv in_proj_weight attn_qkv
    """,
    "column": """
        gate_proj up_proj gate_up_proj fc1 c_fc fc_in dense_h_to_4h w1 w3 v1 wi wi_0 wi_1 lin1
        intermediate.dense intermediate_dense ff_proj mlp.w2 kv_b_proj input_linear Wi
        ffn_gate ffn_up f_b_proj g_b_proj wo_a conv.in_proj
        q_conv1d k_conv1d v_conv1d conv.conv dt_proj linear_fc1 layer_1 mlp.fc0 merger.mlp
        fc11 fc12 ffn
    """,
    "row": """
        o_proj out_proj down_proj fc2 c_proj fc_out dense_4h_to_h w2 wo lin2 attn_out ff_out
        output.dense output_dense attention.dense self_attn.dense self_attention.dense
        output_linear o linear_out out_lin attn_output ffn_down wo_b x_proj mlp.dense Wo
        linear_fc2 layer_2 attention.output attn.proj ffn_output
    """,
    "states": """
        mixer.in_proj mamba.in_proj mixer.conv1d mamba.conv1d linear_attn.conv1d
        in_proj_qkvz in_proj_ba in_proj_qkv in_proj_z in_proj_a in_proj_b A_log dt_bias D
    """,
    "whole": """
        q_a_proj kv_a_proj_with_mqa f_a_proj g_a_proj indexer.wq_b indexer.wk
        indexer.weights_proj index_k_proj wq_a wkv attn.wkv compressor.wkv compressor.wgate
        shared_expert_gate fc1_latent_proj fc2_latent_proj per_layer_input_gate
        per_layer_projection per_layer_model_projection pooler.dense classifier score
        classifier.dense classifier.out_proj lm_head.dense transform.dense qa_outputs
        lora_A.vision lora_A.speech lora_B.vision lora_B.speech
        predictions.dense input_proj embedding_hidden_mapping_in eh_proj
        key_global query_global value_global rel_pos_bias relative_attention_bias
        head.dense embeddings_project project_in project_out vocab_transform
    """,
}
ROLE_OF = {name: role for role, names in ROLES.items() for name in names.split()}
# Of adapters that are stored in the checkpoint, and of towers that clip their inputs
WRAPPERS = ("base_layer", "linear")
NEVER = ("norm", "router")  # kinds that every rank has whole
# Of the modules that mix tokens, in a path's parts
MIXES = re.compile(r"attn|attention|mixer|mamba|(?:^|\.)(?:conv|temporal_block)\.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A parameter where it stands: what its layer mixes by, and whether a tower holds it."""

    param: Param
    mixers: Sequence[Mixer] = ()
    hidden: int = 0
    tower_heads: int = 0  # of the tower that it belongs to; 0 is the language model
    tower: bool = False

    @property
    def outputs(self) -> int:
        shape = self.param.shape
        return shape[-1] if self.param.kind == "conv1d" else (shape or (1,))[0]

    @property
    def inputs(self) -> int:
        shape = self.param.shape
        return shape[0] if self.param.kind == "conv1d" else (shape or (1,))[-1]

    @property
    def bias(self) -> bool:
        return self.param.kind == "bias"

    def heads(self) -> tuple[int, int]:
        """(query heads, key-value heads); zeros where the layer has neither."""
        if self.tower:
            return self.tower_heads, self.tower_heads
        crossing = any(word in self.param.name for word in ("cross", "encoder_attn", "EncDec"))
        first: type[Mixer] = CrossAttention if crossing else Attention
        for m in sorted(self.mixers, key=lambda m: not isinstance(m, first)):
            if (found := heads_of(m)) is not None:
                return found
        return 0, 0


def heads_of(m: Mixer) -> tuple[int, int] | None:
    """(query heads, key-value heads) that weights are split by; None of what has neither."""
    match m:
        case Attention() | CrossAttention():
            return m.heads, m.kv_heads
        case Latent() | Compressed() | KimiDelta() | LinearAttention():
            return m.heads, m.heads
        case Shared() | Mamba1() | Mamba2() | GatedDelta():
            return None
        case ShortConv() | Rwkv() | GatedRecurrence():
            return None
        case _:
            assert_never(m)


def mixes(name: str) -> bool:
    """Whether a module of attention, or what stands for it, holds the parameter."""
    return MIXES.search(name) is not None


def module(name: str) -> str:
    """ "a.b.q_proj.base_layer.weight" -> "a.b.q_proj"."""
    path = name.removesuffix(".weight").removesuffix(".bias").split(".")
    if path[-1] in WRAPPERS and len(path) > 1 and not path[-2].isdigit():
        path.pop()
    return ".".join(path)


def role(name: str) -> str | None:
    parts = [part for part in module(name).split(".") if not part.isdigit()]
    if not parts:
        return None
    last = parts[-1].removesuffix("_bias") if parts[-1] not in ROLE_OF else parts[-1]
    return ROLE_OF.get(".".join([*parts[-2:-1], last])) or ROLE_OF.get(last)


def cut(site: Site) -> Cut | None:
    """None: whole on every rank. Raises UnsupportedError for a matrix whose name is not known."""
    if site.param.kind in NEVER:
        return None
    found = role(site.param.name)
    if found is not None:
        return CUTS[found](site)
    if site.tower or site.param.kind not in ("linear", "conv1d", "expert", "experts"):
        return None
    raise UnsupportedError(
        f"{site.param.name}: how several devices share it is not in our tables; ask for one device"
    )


def _vocab(site: Site) -> Cut | None:
    if site.param.kind not in ("embedding", "linear", "bias", "other") or site.tower:
        return None
    return even("out", site.outputs, site.outputs, "rows of the vocabulary", "pad")


def _query(site: Site) -> Cut | None:
    heads = site.heads()[0]
    if not heads:
        return _column(site)
    return even("out", site.outputs, heads, "attention heads")


def _keys(site: Site) -> Cut | None:
    heads = site.heads()[1]
    if not heads:
        return _column(site)
    return even("out", site.outputs, heads, "key-value heads", "repeat")


def _fused(site: Site) -> Cut | None:
    heads, kv_heads = site.heads()
    if not heads:
        return _column(site)
    size = site.outputs // (heads + 2 * kv_heads)
    return Cut(
        "out",
        (
            Part(heads * size, Unit(heads, "attention heads")),
            Part(site.outputs - heads * size, Unit(kv_heads, "key-value heads", "repeat")),
        ),
    )


def _column(site: Site) -> Cut | None:
    return even("out", site.outputs, site.outputs, f"outputs of {_last(site)}")


def _row(site: Site) -> Cut | None:
    if site.bias:
        return None
    return even("in", site.inputs, site.inputs, f"inputs of {_last(site)}")


def _states(site: Site) -> Cut | None:
    """Mamba 2 holds z, x, B, C and dt in one weight; delta nets divide by heads throughout."""
    for m in site.mixers:
        if isinstance(m, Mamba2):
            return _mamba2(site, m)
        if isinstance(m, GatedDelta):
            return even("out", site.outputs, m.key_heads, "heads of the delta net")
    return _column(site)


def _mamba2(site: Site, m: Mamba2) -> Cut:
    heads = Unit(m.heads, "heads of Mamba 2")
    groups = 2 * m.groups * m.state
    if site.outputs <= groups:  # a number a head
        return Cut("out", (Part(site.outputs, heads),))
    return Cut(
        "out",
        (
            Part(site.outputs - groups, heads),
            Part(groups, Unit(m.groups, "groups of Mamba 2", "repeat")),
        ),
    )


def _whole(_: Site) -> Cut | None:
    return None


def _last(site: Site) -> str:
    return module(site.param.name).rpartition(".")[2]


CUTS: Mapping[str, Callable[[Site], Cut | None]] = {
    "vocab": _vocab,
    "query": _query,
    "keys": _keys,
    "fused": _fused,
    "column": _column,
    "row": _row,
    "states": _states,
    "whole": _whole,
}
