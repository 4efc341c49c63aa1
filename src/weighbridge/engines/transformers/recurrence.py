"""Recurrent layers as programs: the Python code, which runs if no kernels are installed.

Widths are elements per token, first in the dtype of the model, then in float32:

    gated delta    channels, Hv dv; 2 (Hk dk + Hv dv)        Hv (3 x 64 + 6 dk + 4 dv)
                   where one projection makes all
    Mamba 2        2 I + 2 G N + H, channels                7 I + H (3 N + 3 x chunk) + I N / chunk
                                                       or 4 I + H (4 N + 2 x chunk) + 3 I N / chunk
    Mamba 1        2 I, and four of I                       I (3 N + 2)
    others         three times the channels                 four times the channels

and two copies of the state. The largest parts are the matrices between the tokens of a chunk (64,
or `chunk_size`), and for Mamba 2 a state per chunk; with the kernels of flash-linear-attention or
mamba-ssm they stay on the chip. A step of one token has no chunks.

Before 5.18 Mamba 2 contracted by products that are summed: of C and B chunk x H N elements per
token, of scores and values chunk x I, and I N of states, twice. To 5.14 the first had a name, so it
lived on to the end (read in 4.56, 5.0, 5.12, 5.15 and 5.17).

Source: transformers 5.23 models/qwen3_next/modeling_qwen3_next.py (torch_chunk_gated_delta_rule),
models/qwen3_5/modeling_qwen3_5.py (Qwen3_5GatedDeltaNet), models/mamba2 (mamba2_chunk_scan: L, G
and M are chunk x chunk a head), models/mamba (mamba_selective_scan: of I are the convolution, the
steps before and behind their softplus, and the output); the programs of training, which are held
against the classes (tests/engines/test_forwards.py).
"""

from collections.abc import Mapping
from typing import assert_never

from weighbridge.base.dtypes import FLOAT32
from weighbridge.base.units import ceil_div
from weighbridge.engines.transformers.stage import STATE, MixerCache, stored
from weighbridge.engines.transformers.step import ForwardStep, linear
from weighbridge.memory.components.activations import Heap, LiveTensor
from weighbridge.models.arch.mixers import (
    GatedDelta,
    GatedRecurrence,
    KimiDelta,
    LinearAttention,
    Mamba1,
    Mamba2,
    Recurrent,
    Rwkv,
    ShortConv,
)

CHUNK = 64  # of the delta rule
# As wide as the state in a step of one token, in its own float32: what decays, decayed, summed
COPIES: Mapping[type, int] = {Mamba1: 2}
# And in the dtype of activations: B with its step, and times what is read (mamba2_selective_
# state_update, transformers 5.23)
NARROW_COPIES: Mapping[type, int] = {Mamba2: 2}

Widths = tuple[int, int]  # elements per token: in the model's dtype, in float32


def scan(heap: Heap, step: ForwardStep, mixer: Recurrent, cache: MixerCache) -> LiveTensor:
    """Return one recurrent layer's output; its state stays."""
    narrow, wide = _widths(mixer, step)
    nbytes = stored(step, mixer).state
    projected = heap.take(step.rows * narrow * step.size)
    if isinstance(mixer, Mamba2) and step.prompt and step.rules.sums_products:
        floats = _multiplied(heap, step, mixer)
    else:
        floats = heap.take(step.rows * wide * 4)
    fresh = heap.take(nbytes, STATE)
    heap.drop(*cache.tensors)
    cache.tensors = [fresh]
    heap.passing(*_copies(mixer, step, nbytes))
    heap.drop(floats)
    out = linear(heap, step, mixer.channels, step.hidden)
    heap.drop(projected)
    return out


def _multiplied(heap: Heap, step: ForwardStep, mixer: Mamba2) -> LiveTensor:
    """Return the float32 output of a prompt's scan by products that are summed."""
    chunks = ceil_div(step.tokens, step.style.chunk)
    tokens = step.batch * chunks * step.style.chunk
    inner, sides = tokens * mixer.inner, tokens * mixer.heads * mixer.state
    scores = tokens * mixer.heads * step.style.chunk
    states = step.batch * mixer.inner * mixer.state  # of one chunk

    def floats(count: int) -> LiveTensor:
        return heap.take(count * 4)

    def summed(product: int, count: int, *, named: bool = False) -> LiveTensor:
        whole = floats(product)
        result = floats(count)
        if named:
            live.append(whole)
        else:
            heap.drop(whole)
        return result

    named = step.rules.names_products
    live = [floats(n) for n in (inner, inner, sides, sides, scores)]  # x, times D, B, C, decays
    live.append(summed(sides * step.style.chunk, scores, named=named))
    live.append(summed(scores, scores, named=named))
    live.append(summed(inner * step.style.chunk, inner))
    live.append(floats(sides))  # B, decayed
    of_chunks = summed(inner * mixer.state, states * chunks)
    live.append(summed(states * (chunks + 1) ** 2, states * (chunks + 1)))
    heap.drop(of_chunks)
    live.append(summed(inner * mixer.state, inner, named=True))
    out = floats(inner)
    heap.drop(*live)
    return out


def _copies(mixer: Recurrent, step: ForwardStep, nbytes: int) -> list[int]:
    """Return the bytes of each tensor as wide as the state, while it is renewed."""
    if step.prompt:
        return [nbytes]
    narrow = nbytes * step.size // int(FLOAT32.nbytes)
    return [nbytes] * COPIES.get(type(mixer), 3) + [narrow] * NARROW_COPIES.get(type(mixer), 0)


def _delta(mixer: GatedDelta, step: ForwardStep) -> Widths:
    keys, values = mixer.key_heads * mixer.key_dim, mixer.value_heads * mixer.value_dim
    narrow = mixer.channels + values + (2 * (keys + values) if step.style.joined_gates else 0)
    chunk = CHUNK if step.prompt else 0
    return narrow, mixer.value_heads * (3 * chunk + 6 * mixer.key_dim + 4 * mixer.value_dim)


def _kimi(mixer: KimiDelta, step: ForwardStep) -> Widths:
    width = mixer.heads * mixer.dim
    return 8 * width, mixer.heads * (3 * (CHUNK if step.prompt else 0) + 10 * mixer.dim)


def _mamba2(mixer: Mamba2, step: ForwardStep) -> Widths:
    """Return the widths of Mamba-2's scan at its fullest: where a chunk's outputs are added, or
    where its states are made of a copy of what decays."""
    mixed = 2 * mixer.inner + 2 * mixer.groups * mixer.state + mixer.heads
    chunk = step.style.chunk if step.prompt else 0
    states = mixer.inner * mixer.state // chunk if chunk else 0
    outputs = 7 * mixer.inner + mixer.heads * (3 * mixer.state + 3 * chunk) + states
    out = 4 * mixer.inner + mixer.heads * (4 * mixer.state + 2 * chunk) + 3 * states
    return mixed + mixer.channels, max(outputs, out)


def _linear(mixer: LinearAttention, step: ForwardStep) -> Widths:
    width = mixer.heads * mixer.dim
    return 5 * width, 3 * width + (CHUNK * mixer.heads if step.prompt else 0)


def _widths(mixer: Recurrent, step: ForwardStep) -> Widths:
    """Return the elements per token that one layer holds while it runs."""
    match mixer:
        case GatedDelta():
            return _delta(mixer, step)
        case KimiDelta():
            return _kimi(mixer, step)
        case Mamba2():
            return _mamba2(mixer, step)
        case Mamba1():
            return 6 * mixer.inner, mixer.inner * (3 * mixer.state + 2)
        case LinearAttention():
            return _linear(mixer, step)
        case ShortConv():  # a linear of three widths, its product, the convolution, their product
            return 6 * mixer.width, 0
        case Rwkv() | GatedRecurrence():
            return 3 * mixer.channels, 4 * mixer.channels
        case _:
            assert_never(mixer)
