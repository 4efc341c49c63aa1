"""The step that a graph is built for, and where its memory is: the worst case that is reserved."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass

from weighbridge.dtypes import DType
from weighbridge.engines.llama_cpp.ggml.tensor import F16
from weighbridge.engines.llama_cpp.rules import LlamaCppRules


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphStep:
    """`tokens` in one micro-batch, of `sequences` requests, of which `outputs` give logits.
    `cells` are those of the cache that attention looks at; `near` those of sliding layers."""

    tokens: int
    sequences: int
    outputs: int
    cells: int
    near: int
    flash: bool
    rules: LlamaCppRules
    streams: int = 1  # parts of the cache, one a request where it is not unified
    slots: int = 1
    type_k: DType = F16
    type_v: DType = F16
    embeds: bool = False
    latent_mode: int | None = None  # ik_llama.cpp's -mla
    largest_batch: int = 0  # its -amb: MiB of scores or unfolded keys at once
    fused_experts: bool = False  # its -fmoe
    repacks: bool = False  # its -rtr
    whole: bool = False  # every layer, also where one more of its kind changes nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """`host` is the number of the host, after all GPUs; layers and caches by number."""

    host: int
    weight: Callable[[str], int]  # GGUF name -> device
    layer: Callable[[int], int]
    cache: Callable[[int], int]
    pinned: bool = True  # norms stay on their layer's device: all layers are on GPUs
    copies: int = 1
    cache_offload: bool = True
    facts: tuple[Hashable, ...] = ()  # what decides where layers, caches and weights are
