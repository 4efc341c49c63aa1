"""Zamba and Zamba 2: Mamba layers, and one or two transformer blocks that many layers share.

    a hybrid layer: the shared block (its tensors owned by the first layer that uses it),
    linear D x D, and a Mamba layer; the block attends over the state beside the embedding, 2D wide
    Zamba 2: low-rank adapters of the shared block, a pair for each use of it

Source: transformers 5.23 models/{zamba,zamba2}/modeling_*.py.
"""

from collections.abc import Iterator

from weighbridge.arch.blueprint import Buffer, Family, Param, Params, conv, gated_mlp, linear, norm
from weighbridge.arch.config import Config
from weighbridge.arch.decoder import Names, kinds, stack
from weighbridge.arch.heads import DECODER_HEADS
from weighbridge.arch.mamba import Mamba2, expanded, mamba2, step_rank
from weighbridge.arch.rotary import frequencies

NAMES = Names(final="final_layernorm")


def shared(params: Params, here: str, owner: str) -> Iterator[Param]:
    """The tensors of a block below `here`, whose storage the block below `owner` holds."""
    for p in params:
        yield p if here == owner else p._replace(tied=owner + p.name.removeprefix(here))


def ties(c: Config) -> bool:
    """The blocks are shared as words are: untied, the class holds a copy for each layer."""
    return c.flag("tie_word_embeddings", default=True)


def wide_attention(c: Config, at: str, wide: int, size: int) -> Iterator[Param]:
    heads = c.num("num_attention_heads")
    kv = c.num("num_key_value_heads", default=heads)
    yield from linear(f"{at}q_proj", heads * size, wide)
    yield from linear(f"{at}k_proj", kv * size, wide)
    yield from linear(f"{at}v_proj", kv * size, wide)
    yield from linear(f"{at}o_proj", c.num("hidden_size"), heads * size)


# Zamba


def zamba_mixer(c: Config, at: str) -> Iterator[Param]:
    """Mamba 1 in heads of equal size."""
    width, state = c.num("hidden_size"), c.num("mamba_d_state")
    inner, heads = c.num("mamba_expand") * width, c.num("n_mamba_heads")
    size, rank = inner // max(1, heads), step_rank(c, "mamba_dt_rank")
    bias = c.flag("mamba_proj_bias")
    kernel = (inner, 1, c.num("mamba_d_conv"))
    yield from conv(f"{at}conv1d", kernel, bias=c.flag("mamba_conv_bias"))
    yield from linear(f"{at}in_proj", 2 * inner, width, bias=bias)
    yield Param(f"{at}x_proj_weight", (heads, rank + 2 * state, size), "other")
    yield Param(f"{at}dt_proj_weight", (heads, size, rank), "other")
    yield Param(f"{at}dt_proj_bias", (heads, size), "other")
    yield Param(f"{at}A_log", (heads, size, state), "other", "float32")
    yield Param(f"{at}D", (heads, size), "other")
    yield from linear(f"{at}out_proj", width, inner, bias=bias)


def zamba_block(c: Config, at: str) -> Iterator[Param]:
    width, heads = c.num("hidden_size"), c.num("num_attention_heads")
    wide = c.num("attention_hidden_size", default=2 * width)
    size = c.num("attention_head_dim", default=2 * width // max(1, heads))
    yield from wide_attention(c, f"{at}self_attn.", wide, size)
    yield from gated_mlp(f"{at}feed_forward", width, c.num("intermediate_size"))
    yield from norm(f"{at}input_layernorm", wide)
    yield from norm(f"{at}pre_ff_layernorm", width)


def zamba_kinds(c: Config) -> list[str]:
    period, offset = max(1, c.num("attn_layer_period")), c.num("attn_layer_offset")

    def rule(i: int) -> str:
        hybrid = i == 2 if i < 3 else (i - 3) % period == offset
        return "hybrid" if hybrid else "linear_attention"

    return kinds(c, "layers_block_type", rule)


def zamba_layer(c: Config, at: str) -> Iterator[Param]:
    yield from zamba_mixer(c, f"{at}mamba.")
    yield from norm(f"{at}input_layernorm", c.num("hidden_size"))


def zamba(c: Config, at: str) -> Iterator[Param]:
    found = zamba_kinds(c)
    owner = f"{at}layers.{found.index('hybrid') if 'hybrid' in found else 0}.shared_transf."

    def layer(c: Config, at: str, i: int) -> Iterator[Param]:
        if found[i] != "hybrid":
            yield from zamba_layer(c, at)
            return
        width, here = c.num("hidden_size"), f"{at}shared_transf."
        yield from shared(zamba_block(c, here), here, owner if ties(c) else here)
        yield from linear(f"{at}linear", width, width)
        yield from zamba_layer(c, f"{at}mamba_decoder.")

    yield from stack(c, at, layer, NAMES)


# Zamba 2


def zamba2_mixer(c: Config) -> Mamba2:
    return Mamba2(
        width=c.num("hidden_size"),
        inner=expanded(c, "mamba_expand"),
        heads=c.num("n_mamba_heads"),
        groups=c.num("mamba_ngroups"),
        state=c.num("mamba_d_state"),
        kernel=c.num("mamba_d_conv"),
        conv_bias=True,
        bias=c.flag("add_bias_linear"),
        out_bias=c.flag("add_bias_linear"),
    )


def adapter(path: str, inputs: int, rank: int, outputs: int) -> Iterator[Param]:
    yield from linear(f"{path}.0", rank, inputs)
    yield from linear(f"{path}.1", outputs, rank)


def zamba2_block(c: Config, at: str, uses: list[int]) -> Iterator[Param]:
    """`uses`: the hybrid layers, counted among themselves, that this block is for."""
    width, rank = c.num("hidden_size"), c.num("adapter_rank")
    inner = c.num("intermediate_size", default=4 * width)
    wide, heads = 2 * width, c.num("num_attention_heads")
    bias = c.flag("add_bias_linear")
    yield from wide_attention(c, f"{at}self_attn.", wide, wide // max(1, heads))
    yield from linear(f"{at}feed_forward.gate_up_proj", 2 * inner, width, bias=bias)
    yield from linear(f"{at}feed_forward.down_proj", width, inner, bias=bias)
    for i in uses:
        path = f"{at}feed_forward.gate_up_proj_adapter_list.{i}"
        yield from adapter(path, width, rank, 2 * inner)
        for name in "qkv" if c.flag("use_shared_attention_adapter") else "":
            yield from adapter(f"{at}self_attn.linear_{name}_adapter_list.{i}", wide, rank, wide)
    yield from norm(f"{at}input_layernorm", wide)
    yield from norm(f"{at}pre_ff_layernorm", width)


def zamba2_kinds(c: Config) -> list[str]:
    """The published pattern of 54 layers; a hybrid layer after each five of Mamba, then fewer."""
    hybrids = frozenset((6, 12, 18, 24, 30, 36, 42, 47, 51))
    return kinds(c, "layers_block_type", lambda i: "hybrid" if i in hybrids else "linear_attention")


def zamba2(c: Config, at: str) -> Iterator[Param]:
    m, blocks, found = zamba2_mixer(c), max(1, c.num("num_mem_blocks")), zamba2_kinds(c)
    hybrids = [i for i, kind in enumerate(found) if kind == "hybrid"]
    base = at

    def mamba(at: str) -> Iterator[Param]:
        yield from mamba2(f"{at}mamba.", m)
        yield from norm(f"{at}input_layernorm", m.width)

    def layer(c: Config, at: str, i: int) -> Iterator[Param]:
        if found[i] != "hybrid":
            yield from mamba(at)
            return
        turn = hybrids.index(i) % blocks
        here, owner = (f"{p}shared_transformer." for p in (at, f"{base}layers.{hybrids[turn]}."))
        uses = list(range(turn, len(hybrids), blocks))
        yield from shared(zamba2_block(c, here, uses), here, owner if ties(c) else here)
        yield from linear(f"{at}linear", m.width, m.width)
        yield from mamba(f"{at}mamba_decoder.")

    yield from stack(c, at, layer, NAMES)


def zamba2_buffers(c: Config, at: str) -> Iterator[Buffer]:
    if c.flag("use_mem_rope"):
        size = 2 * c.num("hidden_size") // max(1, c.num("num_attention_heads"))
        yield from frequencies(f"{at}rotary_emb.", size)


HEADS = {name: DECODER_HEADS[name] for name in ("ForCausalLM", "ForSequenceClassification")}
ZAMBA = Family(body=zamba, cls="ZambaForCausalLM", heads=HEADS)
ZAMBA_2 = Family(body=zamba2, cls="Zamba2ForCausalLM", heads=HEADS, buffers=zamba2_buffers)
