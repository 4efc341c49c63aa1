"""LTX-2's transformer, where a video and its sound attend to each other.

Source: diffusers 0.42 models/transformers/transformer_ltx2.py.
"""

from collections.abc import Callable

from weighbridge.base.dtypes import FLOAT32
from weighbridge.base.records import dataclass
from weighbridge.pictures.config import ComponentConfig
from weighbridge.pictures.nets.blocks import (
    attends,
    embed,
    feed,
    timestep,
)
from weighbridge.pictures.places import NetPlace
from weighbridge.pictures.values import Sizes, Value, attend, cat

Turns = tuple[Value, Value]  # cosines and sines of positions
SOUND_RATE = 25 / 24  # latent frames of sound for each frame of a video of 24 a second


@dataclass(frozen=True, slots=True, kw_only=True)
class Attending:
    """Options of LTX2Attention: its heads and their width altogether."""

    heads: int
    width: int
    gated: bool = False
    split: bool = False  # rope_type


def interleaved(x: Value, turns: Turns) -> Value:
    """apply_rotary_emb, with frequencies as wide as the model."""
    half = x.shape[-1] // 2
    x_real, x_imag = x.split(half, half)
    x_rotated = cat([x_imag * -1.0, x_real], -1)
    cos, sin = turns
    return (x.float() * cos + x_rotated.float() * sin).like(x)


def halved(x: Value, turns: Turns) -> Value:
    """apply_split_rotary_emb: halves of each head, added to in place."""
    rows = x.shape[:-1]
    cos, sin = (one.view(*one.shape[:-1], 1, one.shape[-1]) for one in turns)
    split_x = x.float().view(*rows, 2, x.shape[-1] // 2)
    first_x, second_x = split_x.split(1, 1, dim=-2)
    out = split_x * cos
    out = out.written(second_x * (sin * -1.0))
    out = out.written(first_x * sin)
    return out.view(*x.shape).like(x)


@attends
def attention(
    a: NetPlace, x: Value, k: Attending, seen: Value | None = None, turns: tuple[Turns, ...] = ()
) -> Value:
    """LTX2Attention; a text, which has no positions, is masked."""
    gate_logits = a.linear("to_gate_logits", x, k.heads) if k.gated else None
    masked, y = seen is not None and not turns, x if seen is None else seen
    query, key, value = (
        a.linear(name, z, k.width) for name, z in (("to_q", x), ("to_k", y), ("to_v", y))
    )
    query = a.rms_norm("norm_q", query, how="torch")
    key = a.rms_norm("norm_k", key, how="torch")
    if turns:
        turned = halved if k.split else interleaved
        query = turned(query, turns[0])
        key = turned(key, turns[-1])
    h = attend(query, key, value, k.heads, masked=masked)
    if gate_logits is not None:
        gates = gate_logits.act("result") * 2.0
        h = h.view(*h.shape[:2], k.heads, k.width // k.heads)
        h = h * gates.view(*gates.shape, 1)
        h = h.view(*h.shape[:2], k.width)
    return (a / "to_out").linear("0", h, x.shape[-1])


def normed(p: NetPlace, x: Value, scale: Value | None = None, shift: Value | None = None) -> Value:
    """diffusers' RMSNorm without a weight, then a modulation."""
    h = p.rms_norm("", x, affine=False)
    if scale is not None and shift is not None:
        h = h * (scale + 1.0)
        h = h + shift
    return h


def modulation(p: NetPlace, name: str, temb: Value, count: int) -> list[Value]:
    """get_mod_params: a table's rows beside those of an item, or of each token."""
    d = temb.shape[-1] // count
    rows = p.value(name, count, d) + temb.view(*temb.shape[:-1], count, d)
    parts = rows.chunk(count, dim=-2)
    return [part.view(*temb.shape[:-1], d) for part in parts]


def ada(n: NetPlace, name: str, s: Sizes, d: int, count: int = 6, tokens: int = 1) -> Turns:
    """AdaLayerNormSingle: rows of modulation, and the embedding that they come from."""
    p = n / name
    temb = timestep(p / "emb" / "timestep_embedder", s.batch * tokens, d)
    mod = p.linear("linear", temb.act(), count * d)
    return mod.view(s.batch, tokens, count * d), temb.view(s.batch, tokens, d)


def finished(n: NetPlace, x: Value, temb: Value, out: int, name: str = "") -> Value:
    """The last norm, its modulation, and the projection out."""
    d = x.shape[-1]
    table = n.value(f"{name}scale_shift_table", 2, d)
    shift, scale = (table + temb.view(*temb.shape[:-1], 1, d)).chunk(2, dim=-2)
    x = n.layer_norm("", x, affine=False)
    x = x * (scale.view(*temb.shape) + 1.0)
    x = x + shift.view(*temb.shape)
    return n.linear(f"{name}proj_out", x, out)


def tokens_of(s: Sizes) -> int:
    return s.tokens or s.frames * s.height * s.width


def positions(n: NetPlace, s: Sizes, tokens: int, width: int) -> Turns:
    """Cosines and sines of one kind of positions."""
    cos, sin = (n.run.new(s.batch, tokens, width, dtype=FLOAT32) for _ in range(2))
    return cos, sin


# ---- LTX-2


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentStream:
    """One of the two modalities, as blocks see it: names begin with `name`."""

    name: str
    own: Attending
    crossed: Attending  # where it looks at the other
    text: Value
    temb: Value
    crossing: Value  # scales and shifts between the two
    gate: Value
    prompt: Value | None
    turns: Turns
    shared_turns: Turns  # in time alone, for attention between the two
    feed_bias: bool
    modulated: bool  # cross_attn_mod: the text's queries are modulated, too


def stream(
    n: NetPlace, c: ComponentConfig, s: Sizes, name: str, tokens: int
) -> tuple[LatentStream, Value]:
    """Conditions of a modality, and the embedding of its time."""
    fields = f"{name}" if name else ""
    heads, head = (
        getattr(c, f"{fields}{one}") for one in ("num_attention_heads", "attention_head_dim")
    )
    d, split = heads * head, c.rope_type == "split"
    modulated, gated = (
        bool(getattr(c, f"{fields}cross_attn_mod")),
        bool(getattr(c, f"{fields}gated_attn")),
    )
    turns, shared = (
        positions(n, s, tokens, width // (2 if split else 1))
        for width in (d, c.audio_cross_attention_dim)
    )
    of_each = tokens if s.token_times and not name else 1
    temb, times = ada(n, f"{name}time_embed", s, d, 9 if modulated else 6, of_each)
    prompt = None
    if (c.cross_attn_mod or c.audio_cross_attn_mod) and c.use_prompt_adaln_single:
        prompt = ada(n, f"{name}prompt_adaln", s, d, 2)[0]
    kind, gate = ("audio", "audio_v2a_gate") if name else ("video", "video_a2v_gate")
    crossing = ada(n, f"av_cross_attn_{kind}_scale_shift", s, d, 4, of_each)[0]
    gating = ada(n, f"av_cross_attn_{gate}", s, d, 1, of_each)[0]
    text = n.run.constant(s.batch, s.text, c.caption_channels)
    if c.use_prompt_embeddings:
        text = embed(n / f"{name}caption_projection", text, d)
    else:
        text = n.run.constant(s.batch, s.text, getattr(c, f"{fields}cross_attention_dim"))
    across = c.audio_num_attention_heads * c.audio_attention_head_dim
    return LatentStream(
        name=name,
        own=Attending(heads=heads, width=d, gated=gated, split=split),
        crossed=Attending(
            heads=c.audio_num_attention_heads, width=across, gated=gated, split=split
        ),
        text=text,
        temb=temb,
        crossing=crossing,
        gate=gating,
        prompt=prompt,
        turns=turns,
        shared_turns=shared,
        feed_bias=bool(getattr(c, f"{fields}ff_bias")),
        modulated=modulated,
    ), times


def of_text(
    p: NetPlace, x: Value, k: LatentStream, mod: list[Value], *, prompted: bool
) -> tuple[Value, Value]:
    """Attention to the text, whose keys LTX-2.3 modulates; the block holds what it gives."""
    text, d = k.text, x.shape[-1]
    h = normed(p, x, mod[7], mod[6]) if k.modulated else normed(p, x)
    if prompted:
        name = f"{k.name}prompt_scale_shift_table"
        if k.prompt is not None:
            shift, scale = modulation(p, name, k.prompt, 2)
        else:
            shift, scale = p.value(name, 2, d).view(1, 2, d).chunk(2, dim=1)
        text = text * (scale + 1.0)
        text = text + shift
    a = attention(p / f"{k.name}attn2", h, k.own, text)
    if k.modulated:
        a = a * mod[8]
    return x + a, a


def crossings(p: NetPlace, k: LatentStream) -> list[Value]:
    """Scale and shift where the video looks, scale and shift where the sound does, and the gate."""
    kind = k.name or "video_"
    d = k.crossing.shape[-1] // 4
    table = p.value(f"{kind}a2v_cross_attn_scale_shift_table", 5, d)
    four, last = table.part(4, d), table.part(1, d)
    rows = four + k.crossing.view(*k.crossing.shape[:-1], 4, d)
    gate = last + k.gate.view(*k.gate.shape[:-1], 1, d)
    parts = [part.view(*k.crossing.shape[:-1], d) for part in rows.chunk(4, dim=-2)]
    return [*parts, gate.view(*k.gate.shape[:-1], d)]


def scaled(x: Value, scale: Value, shift: Value) -> Value:
    x = x * (scale + 1.0)
    return x + shift


def block_of(
    video: LatentStream, audio: LatentStream
) -> Callable[[NetPlace, Value, Value], tuple[Value, Value]]:
    """LTX2VideoTransformerBlock"""
    prompted = video.modulated or audio.modulated

    def looks(p: NetPlace, x: Value, k: LatentStream) -> tuple[Value, list[Value], Value]:
        """Attention to its own modality; the arguments' dictionary holds what was normed."""
        mod = modulation(p, f"{k.name}scale_shift_table", k.temb, 9 if k.modulated else 6)
        h = normed(p, x, mod[1], mod[0])
        a = attention(p / f"{k.name}attn1", h, k.own, turns=(k.turns,))
        return x + a * mod[2], mod, h

    def block(p: NetPlace, x: Value, z: Value) -> tuple[Value, Value]:
        x, mod, _video_arguments = looks(p, x, video)
        z, mod_z, _audio_arguments = looks(p, z, audio)
        x, _of_text = of_text(p, x, video, mod, prompted=prompted)
        z, _of_audio_text = of_text(p, z, audio, mod_z, prompted=prompted)
        h, g = normed(p, x), normed(p, z)
        a, b = crossings(p, video), crossings(p, audio)
        across = video.shared_turns, audio.shared_turns
        mod_h = scaled(h, a[0], a[1])
        mod_g = scaled(g, b[0], b[1])
        o = attention(p / "audio_to_video_attn", mod_h, video.crossed, mod_g, across)
        x = x + a[4] * o
        mod_h = scaled(h, a[2], a[3])
        mod_g = scaled(g, b[2], b[3])
        u = attention(p / "video_to_audio_attn", mod_g, audio.crossed, mod_h, across[::-1])
        z = z + b[4] * u
        h = normed(p, x, mod[4], mod[3])
        f = feed(p / "ff", h, 4 * x.shape[-1], bias=video.feed_bias)
        x = x + f * mod[5]
        g = normed(p, z, mod_z[4], mod_z[3])
        f_z = feed(p / "audio_ff", g, 4 * z.shape[-1], bias=audio.feed_bias)
        return x, z + f_z * mod_z[5]

    return block


def ltx2(n: NetPlace, c: ComponentConfig, s: Sizes) -> Value:
    tokens, sounds = tokens_of(s), max(1, round((8 * s.frames - 7) * SOUND_RATE))
    d = c.num_attention_heads * c.attention_head_dim
    e = c.audio_num_attention_heads * c.audio_attention_head_dim
    if c.use_keyframes_abs_pos_embedding:
        n.param("keyframes_abs_pos_embedding", 1, d)
    x = n.linear("proj_in", n.run.constant(s.batch, tokens, c.in_channels), d)
    z = n.linear("audio_proj_in", n.run.constant(s.batch, sounds, c.audio_in_channels), e)
    video, times = stream(n, c, s, "", tokens)
    audio, audio_times = stream(n, c, s, "audio_", sounds)
    block = block_of(video, audio)
    for p in n.each("transformer_blocks", c.num_layers):
        x, z = p.block(block, x, z)
    output = finished(n, x, times, c.out_channels or c.in_channels)
    finished(n, z, audio_times, c.audio_out_channels or c.audio_in_channels, "audio_")
    return output


PROGRAMS = {"LTX2VideoTransformer3DModel": ltx2}
