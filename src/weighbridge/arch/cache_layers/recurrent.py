"""Layers whose memory does not grow: Mamba, delta nets, lightning attention, short convolutions,
RWKV, RG-LRU; and the hybrids that have attention in some layers or beside them."""

from collections.abc import Sequence

from weighbridge.arch import griffin, kimi_linear, lfm2, mamba, mamba_hybrid, mixtral, rwkv, zamba
from weighbridge.arch.cache_layers.attention import Sizes, attention, grouped, heads
from weighbridge.arch.cache_layers.latent import latent
from weighbridge.arch.config import Config
from weighbridge.arch.decoder import kinds
from weighbridge.arch.mixers import (
    GatedDelta,
    GatedRecurrence,
    KimiDelta,
    Layer,
    LinearAttention,
    Mamba1,
    Mamba2,
    Mixer,
    Rwkv,
    ShortConv,
)
from weighbridge.arch.windows import FULL, SLIDING

LINEAR = "linear_attention"


def by_kind(found: Sequence[str], table: dict[str, tuple[Mixer, ...]]) -> tuple[Layer, ...]:
    return tuple(Layer(mixers=table.get(kind, ())) for kind in found)


def either(found: Sequence[str], linear: Mixer, other: Mixer) -> tuple[Layer, ...]:
    """`linear` where the kind is linear, `other` elsewhere."""
    return tuple(Layer(mixers=(linear if kind == LINEAR else other,)) for kind in found)


# Mamba


def first(m: mamba.Mamba1) -> Mamba1:
    return Mamba1(inner=m.inner, state=m.state, kernel=m.kernel)


def second(m: mamba.Mamba2) -> Mamba2:
    return Mamba2(inner=m.inner, heads=m.heads, groups=m.groups, state=m.state, kernel=m.kernel)


def mamba1(c: Config) -> tuple[Layer, ...]:
    one = Mamba1(inner=mamba.inner_size(c), state=c.num("state_size"), kernel=c.num("conv_kernel"))
    return (Layer(mixers=(one,)),) * c.layers("num_hidden_layers")


def mamba2(c: Config) -> tuple[Layer, ...]:
    one = Mamba2(
        inner=mamba.expanded(c, "expand"),
        heads=c.num("num_heads"),
        groups=c.num("n_groups"),
        state=c.num("state_size"),
        kernel=c.num("conv_kernel"),
    )
    return (Layer(mixers=(one,)),) * c.layers("num_hidden_layers")


def jamba(c: Config) -> tuple[Layer, ...]:
    every, offset = max(1, c.num("attn_layer_period")), c.num("attn_layer_offset")
    found = [FULL if i % every == offset else LINEAR for i in range(c.layers("num_hidden_layers"))]
    return either(found, first(mamba_hybrid.jamba_mixer(c)), attention(c, grouped(c)))


def bamba(c: Config) -> tuple[Layer, ...]:
    own = frozenset(c.nums("attn_layer_indices"))
    found = kinds(c, "layer_types", lambda i: FULL if i in own else LINEAR)
    return either(found, second(mamba_hybrid.prefixed_mixer(c)), attention(c, grouped(c)))


def falcon_h1(c: Config) -> tuple[Layer, ...]:
    """Return layers that each have attention and Mamba at once."""
    both = (second(mamba_hybrid.falcon_h1_mixer(c)), attention(c, grouped(c)))
    return (Layer(mixers=both),) * c.layers("num_hidden_layers")


def granite_hybrid(c: Config) -> tuple[Layer, ...]:
    found = kinds(c, "layer_types", lambda _: LINEAR)
    if "multihead_latent_attention" in found:
        raise c.error("layer_types", "may hold mamba and attention")
    return either(found, second(mamba_hybrid.prefixed_mixer(c)), attention(c, grouped(c)))


def nemotron_h(c: Config) -> tuple[Layer, ...]:
    """Layers of experts, or an MLP, remember nothing."""
    size = c.num("head_dim", "attention_head_dim", default=grouped(c).dim)
    sizes = Sizes(heads(c), grouped(c).kv_heads, size)
    table: dict[str, tuple[Mixer, ...]] = {
        LINEAR: (second(mamba_hybrid.nemotron_mixer(c)),),
        FULL: (attention(c, sizes),),
    }
    return by_kind(mamba_hybrid.nemotron_kinds(c), table)


def zamba1(c: Config) -> tuple[Layer, ...]:
    width, n = c.num("hidden_size"), heads(c)
    dim = c.num("attention_head_dim", default=2 * width // max(1, n))
    own = Mamba1(
        inner=c.num("mamba_expand") * width,
        state=c.num("mamba_d_state"),
        kernel=c.num("mamba_d_conv"),
    )
    kv = c.num("num_key_value_heads", default=n)
    both = (own, attention(c, Sizes(n, kv, dim)))
    return by_kind(zamba.zamba_kinds(c), {LINEAR: (own,), "hybrid": both})


def zamba2(c: Config) -> tuple[Layer, ...]:
    """The shared block attends over the state beside the embedding: twice the width."""
    n, own = heads(c), second(zamba.zamba2_mixer(c))
    kv = c.num("num_key_value_heads", default=n)
    both = (own, attention(c, Sizes(n, kv, 2 * c.num("hidden_size") // max(1, n))))
    return by_kind(zamba.zamba2_kinds(c), {LINEAR: (own,), "hybrid": both})


# Delta nets


def delta(c: Config) -> GatedDelta:
    return GatedDelta(
        key_heads=c.num("linear_num_key_heads"),
        value_heads=c.num("linear_num_value_heads"),
        key_dim=c.num("linear_key_head_dim"),
        value_dim=c.num("linear_value_head_dim"),
        kernel=c.num("linear_conv_kernel_dim"),
    )


def qwen_next(c: Config) -> tuple[Layer, ...]:
    every = max(1, c.num("full_attention_interval", default=4))
    found = kinds(c, "layer_types", lambda i: LINEAR if (i + 1) % every else FULL)
    return either(found, delta(c), attention(c, grouped(c)))


def kimi(c: Config) -> tuple[Layer, ...]:
    own = c.sub("linear_attn_config") if c.has("linear_attn_config") else Config({})
    linear = KimiDelta(
        heads=own.maybe("num_heads") or c.num("linear_num_heads"),
        dim=own.maybe("head_dim") or c.num("linear_head_dim"),
        kernel=own.maybe("short_conv_kernel_size") or c.num("linear_conv_kernel_dim"),
    )
    return either(kimi_linear.kimi_kinds(c), linear, latent(c))


def bailing(c: Config) -> tuple[Layer, ...]:
    linear = KimiDelta(
        heads=c.num("linear_num_heads", "num_attention_heads"),
        dim=c.num("linear_head_dim", "head_dim"),
        kernel=c.num("linear_conv_kernel_dim", "short_conv_kernel_size"),
    )
    return either(kimi_linear.bailing_kinds(c), linear, latent(c))


# Lightning attention, convolutions, RWKV, RG-LRU


def minimax(c: Config) -> tuple[Layer, ...]:
    linear = LinearAttention(heads=heads(c), dim=grouped(c).dim)
    return either(mixtral.minimax_kinds(c), linear, attention(c, grouped(c)))


def minimax_m1(c: Config) -> tuple[Layer, ...]:
    linear = LinearAttention(heads=heads(c), dim=grouped(c).dim)
    return either(mixtral.minimax_m1_kinds(c), linear, attention(c, grouped(c)))


def short_convs(c: Config) -> tuple[Layer, ...]:
    own = ShortConv(width=c.num("hidden_size"), kernel=c.num("conv_L_cache"))
    return by_kind(lfm2.lfm2_kinds(c), {"conv": (own,), FULL: (attention(c, grouped(c)),)})


def rwkv4(c: Config) -> tuple[Layer, ...]:
    one = Rwkv(width=c.num("hidden_size"), inner=rwkv.attention_size(c), head_dim=0)
    return (Layer(mixers=(one,)),) * c.layers("num_hidden_layers")


def rwkv5(c: Config) -> tuple[Layer, ...]:
    inner = rwkv.attention_size(c)
    one = Rwkv(width=c.num("hidden_size"), inner=inner, head_dim=c.num("head_size"))
    return (Layer(mixers=(one,)),) * c.layers("num_hidden_layers")


def recurrent_gemma(c: Config) -> tuple[Layer, ...]:
    """Attention is always local."""
    width = c.num("lru_width", default=c.num("hidden_size"))
    own = GatedRecurrence(width=width, kernel=c.num("conv1d_width"))
    n = heads(c)
    sizes = Sizes(n, c.num("num_key_value_heads", default=n), griffin.head_size(c))
    local = attention(Config({"sliding_window": c.num("attention_window_size")}), sizes, SLIDING)
    table: dict[str, tuple[Mixer, ...]] = {"recurrent": (own,), "attention": (local,)}
    return by_kind(griffin.pattern(c), table)
