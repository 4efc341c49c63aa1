"""Optional packages, which are a part of the release: what runs where one is installed, and else.

    kernels                     weights in mxfp4 stay packed; else they are loaded in 16 bits
    fla, mamba-ssm, causal-conv1d
                                state spaces, gated delta nets and short convolutions leave matrices
                                of a chunk on the chip; else torch makes them

None is installed by `pip install transformers`. What nobody said is counted without, and its
interval begins with what is left with them. Source: transformers 5.23 models/*/modeling_*.py
(use_kernel_func_from_hub_with_fallback), quantizers/quantizer_mxfp4.py.
"""

from collections.abc import Iterable, Mapping

from weighbridge.models.arch.mixers import (
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
    Rwkv,
    Shared,
    ShortConv,
)

PACKAGES: Mapping[type, tuple[str, ...]] = {
    Attention: (),
    Latent: (),
    Compressed: (),
    CrossAttention: (),
    Shared: (),
    LinearAttention: (),
    Rwkv: (),
    GatedRecurrence: (),
    GatedDelta: ("fla", "causal-conv1d"),
    KimiDelta: ("fla", "causal-conv1d"),
    Mamba1: ("mamba-ssm", "causal-conv1d"),
    Mamba2: ("mamba-ssm", "causal-conv1d"),
    ShortConv: ("causal-conv1d",),
}


def of(kinds: Iterable[type]) -> tuple[str, ...]:
    """Name the packages that have kernels of such layers, each once."""
    return tuple(dict.fromkeys(name for kind in kinds for name in PACKAGES[kind]))
