"""Parts that diffusion transformers share. `n` is a place in the module tree; names are diffusers'.

Source: diffusers 0.42 models/{normalization, embeddings, attention, activations}.py.
"""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, TypeVar, cast

from weighbridge.base.dtypes import FLOAT32
from weighbridge.pictures.config import ComponentConfig
from weighbridge.pictures.places import NetPlace
from weighbridge.pictures.values import ProgramRun, Sizes, Value, attend, cat, flat, headed

Turns = tuple[Value, Value]  # (cosines, sines) of rotary positions


# ---- inputs and embeddings


def width_of(c: ComponentConfig) -> tuple[int, int]:
    """Return (width, heads) of a stream."""
    heads: int = c.num_attention_heads
    return heads * c.attention_head_dim, heads


def packed(s: Sizes, patch: int = 2) -> int:
    """Return the number of latent tokens in a picture or video, with `patch` x `patch` latents
    each."""
    return s.frames * (s.height // patch) * (s.width // patch)


def latent(n: NetPlace, s: Sizes, channels: int, tokens: int) -> Value:
    """Return the latent tokens [batch, tokens, channels], which the pipeline made before the
    step."""
    return n.run.constant(s.batch, tokens, channels)


def framed(x: Value, frames: int) -> tuple[int, ...]:
    """Return the shape of `x`, [batch, channels, frames, height, width], with another number of
    frames."""
    return (*x.shape[:2], frames, *x.shape[3:])


def embed(
    n: NetPlace,
    x: Value,
    width: int,
    bias: bool = True,
    names: tuple[str, str] = ("linear_1", "linear_2"),
) -> Value:
    """Return `x` through TimestepEmbedding, PixArtAlphaTextProjection and the like: linear,
    activation, linear."""
    x = n.linear(names[0], x, width, bias)
    x = x.act()
    return n.linear(names[1], x, width, bias)


def timestep(n: NetPlace, b: int, width: int, bias: bool = True, inputs: int = 256) -> Value:
    """Timesteps and TimestepEmbedding."""
    return embed(n, n.run.new(b, inputs), width, bias)


def vector(
    n: NetPlace, b: int, d: int, pooled: int = 0, *, guidance: bool = False, bias: bool = True
) -> Value:
    """Return the conditioning of CombinedTimestep(Guidance)TextProjEmbeddings, [b, d]."""
    temb = timestep(n / "timestep_embedder", b, d, bias)
    if guidance:
        temb = temb + timestep(n / "guidance_embedder", b, d, bias)
    if pooled:
        temb = temb + embed(n / "text_embedder", n.run.constant(b, pooled), d, bias)
    return temb


def turns_of(run: ProgramRun, *shape: int) -> Turns:
    """Return cosines and sines in float32, which live as long as the blocks."""
    return run.new(*shape, dtype=FLOAT32), run.new(*shape, dtype=FLOAT32)


def turned(x: Value, turns: Turns) -> Value:
    """Return apply_rotary_emb of [b, tokens, heads, head]: (x cos + rotated sin) in float32."""
    cos, sin = (t.part(1, t.shape[0], 1, t.shape[1]) for t in turns)
    half = x.resized(*x.shape[:-1], x.shape[-1] // 2)
    x_rotated = cat([half, half], -1)
    del half
    return (x.float() * cos + x_rotated.float() * sin).like(x)


def spun(x: Value, freqs: Value) -> Value:
    """Return apply_rotary_emb by complex numbers: view_as_complex(x.float()) * freqs."""
    return (x.float() * freqs).like(x)


# ---- norms and modulation


def norm(n: NetPlace, x: Value, *, wide: bool = False) -> Value:
    """Return a LayerNorm of `x` without weights."""
    return n.layer_norm("", x, affine=False, wide=wide)


def scaled(x: Value, scale: Value, shift: Value) -> Value:
    """Return x (1 + scale) + shift, one row per batch."""
    return x * (scale + 1.0) + shift


def rows(x: Value, count: int) -> list[Value]:
    """Return the `count` chunks of a modulation, each broadcast over tokens."""
    return [c.view(c.shape[0], 1, c.shape[-1]) for c in x.chunk(count)]


def ada(
    n: NetPlace, x: Value, temb: Value, count: int = 6, *, bias: bool = True, wide: bool = False
) -> tuple[Value, list[Value]]:
    """Return (AdaLayerNormZero of `x`, rows left): the norm is modulated by the first two of
    `count` rows."""
    parts = rows(n.linear("linear", temb.act(), count * x.shape[-1], bias), count)
    return scaled(norm(n, x, wide=wide), parts[1], parts[0]), parts[2:]


def continuous(
    n: NetPlace, x: Value, temb: Value, bias: bool = True, *, affine: bool = False
) -> Value:
    """AdaLayerNormContinuous"""
    scale, shift = rows(n.linear("linear", temb.act(), 2 * x.shape[-1], bias), 2)
    return scaled(n.layer_norm("norm", x, affine=affine), scale, shift)


# ---- MLPs


def feed(
    n: NetPlace, x: Value, inside: int, out: int | None = None, how: str = "gelu", bias: bool = True
) -> Value:
    """Return FeedForward of `x`: net.0 with its activation, then net.2."""
    gated = how in ("geglu", "swiglu")
    h = (n / "net" / 0).linear("proj", x, inside * (2 if gated else 1), bias)
    if gated:
        h, gate = h.chunk(2)
        h = h * gate.act()
        del gate
    else:
        h = h.act()
    return (n / "net").linear("2", h, out or x.shape[-1], bias)


def swiglu(
    n: NetPlace,
    x: Value,
    inside: int,
    names: Sequence[str] = ("w1", "w3", "w2"),
    bias: bool = False,
) -> Value:
    """Return w2(silu(w1 x) w3 x)."""
    up = n.linear(names[0], x, inside, bias).act() * n.linear(names[1], x, inside, bias)
    return n.linear(names[2], up, x.shape[-1], bias)


# ---- attention


Attends = TypeVar("Attends", bound=Callable[..., Any])


def attends(call: Attends) -> Attends:
    """Return an attention whose saved tensors, and those of its projections, may wait in host
    memory."""

    @wraps(call)
    def inside(n: NetPlace, *values: Any, **more: Any) -> Any:
        with n.run.m.sending("inputs" if n.run.attention_away else ""):
            return call(n, *values, **more)

    return cast("Attends", inside)


def qkv(
    n: NetPlace, x: Value, d: int, bias: bool = True, *, kv: int = 0
) -> tuple[Value, Value, Value]:
    """Return queries, keys and values; from one linear after fuse_qkv_projections."""
    if n.run.fused_qkv and not kv:
        query, key, value = n.linear("to_qkv", x, 3 * d, bias).chunk(3)
        return query, key, value
    return (
        n.linear("to_q", x, d, bias),
        n.linear("to_k", x, kv or d, bias),
        n.linear("to_v", x, kv or d, bias),
    )


def added(n: NetPlace, y: Value, d: int, bias: bool = True) -> list[Value]:
    """Return queries, keys and values of the second stream."""
    return [n.linear(name, y, d, bias) for name in ("add_q_proj", "add_k_proj", "add_v_proj")]


def normed(n: NetPlace, name: str, x: Value, heads: int, how: str = "diffusers") -> Value:
    """Return an RMSNorm of each head of `x`: [b, tokens, heads, head]."""
    return n.rms_norm(name, headed(x, heads), how=how)


def apart(h: Value, *tokens: int) -> list[Value]:
    """Return the streams of a joint attention, split by `tokens` (split_with_sizes and
    contiguous())."""
    return [part.copy() if h.shape[0] > 1 else part for part in h.split(*tokens, dim=1)]


def attended(q: Value, k: Value, v: Value) -> Value:
    """Return attention of [b, tokens, heads, head], with heads concatenated."""
    return attend(flat(q), flat(k), flat(v), q.shape[2])


# ---- ControlNets of transformers


def hinted(n: NetPlace, x: Value, channels: int) -> Value:
    """Return `x` plus a ControlNet's input picture, as packed latents; `x` itself in a denoiser."""
    if not n.run.cls.endswith("ControlNetModel"):
        return x
    hint = n.run.constant(*x.shape[:2], channels)
    return x + n.linear("controlnet_x_embedder", hint, x.shape[-1])


def controlled(p: NetPlace, x: Value, part: int, count: int, outputs: list[list[Value]]) -> Value:
    """Return a block's output: a ControlNet also keeps it in `outputs`, and a denoiser adds a
    ControlNet's. `part` is the index of the block's list, of `count` blocks."""
    if p.run.cls.endswith("ControlNetModel"):
        outputs[part].append(x)
        return x
    residuals = p.run.residuals[part] if part < len(p.run.residuals) else []
    return x + residuals[p.number * len(residuals) // count] if residuals else x


def projections(n: NetPlace, outputs: list[list[Value]], names: Sequence[str]) -> Value:
    """Return the projections of blocks' outputs; all stay until they are scaled."""
    outs = [
        [n.linear(f"{name}.{i}", x, x.shape[-1]) for i, x in enumerate(xs)]
        for name, xs in zip(names, outputs, strict=True)
    ]
    n.run.residuals = [[out * 1.0 for out in group] for group in outs]
    return n.run.residuals[0][-1]
