"""Attention of Llama's shape: queries, keys and values of three linears, rotary positions, grouped
heads.

Source: transformers 5.23 models/llama/modeling_llama.py, models/qwen3/modeling_qwen3.py.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from weighbridge.arch.roles import names
from weighbridge.autograd.machine import Machine
from weighbridge.autograd.ops.norms import rms_norm
from weighbridge.autograd.ops.shaping import turned
from weighbridge.autograd.tensors import Tensor
from weighbridge.training.attend import attended
from weighbridge.training.modules import Module
from weighbridge.training.nets.parts.masks import Masks, heads, window
from weighbridge.training.nets.parts.rotary import Rotary, has_positions, rotated
from weighbridge.training.step import Step

Norm = Callable[[Machine, Tensor, Tensor], Tensor]
Rotate = Callable[[Machine, Tensor, Tensor, Rotary], tuple[Tensor, Tensor]]
QUERY_NORMS, KEY_NORMS = names("q_norm"), names("k_norm")


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionShape:
    """How a class differs from Llama's attention; called, it runs the attention of one layer.

    norm     norm of queries and of keys, where the class has one
    rotate   gives queries and keys their positions
    late     queries and keys are normed when queries, keys and values are all there
    out      name of the last linear
    sinks    name of the parameter that holds the sinks, "" for none
    first, cap    as attend.How has them
    """

    norm: Norm = rms_norm
    rotate: Rotate = rotated
    late: bool = False
    out: str = "o_proj"
    sinks: str = ""
    first: bool = False
    cap: bool = False

    def __call__(
        self,
        s: Step,
        p: Module,
        x: Tensor,
        number: int,
        positions: Rotary | None,
        masks: Masks,
    ) -> tuple[Tensor, Tensor | None]:
        """LlamaAttention.forward: the output, and eager attention's weights. Layers without
        positions turn nothing."""
        m, h, norm = s.m, heads(s, number), self.norm
        q = p.linear(m, x, "q_proj").view(h.batch, h.length, h.heads, h.key_dim)
        if not self.late:
            q = head_norm(m, q, p, norm, *QUERY_NORMS)
        k = p.linear(m, x, "k_proj").view(h.batch, h.length, h.kv_heads, h.key_dim)
        if not self.late:
            k = head_norm(m, k, p, norm, *KEY_NORMS)
        v = p.linear(m, x, "v_proj").view(h.batch, h.length, h.kv_heads, h.value_dim)
        if self.late:
            q, k = head_norm(m, q, p, norm, *QUERY_NORMS), head_norm(m, k, p, norm, *KEY_NORMS)
        turns = positions is not None and has_positions(s, number)
        if positions is not None and turns:
            q, k = self.rotate(m, turned(m, q), turned(m, k), positions)
        more: dict[str, Any] = {"first": self.first, "cap": self.cap, "views": not turns}
        if self.sinks:
            more["sinks"] = p.bare(self.sinks)
        reach, rate = window(s, number), s.rate("attention_dropout")
        made, weights = attended(s, q, k, v, h, mask=masks[reach], p=rate, **more)
        made = p.linear(m, made.view(h.batch, h.length, h.heads * h.value_dim), self.out)
        return made, weights


LLAMA_ATTENTION = AttentionShape()


def head_norm(m: Machine, x: Tensor, p: Module, norm: Norm, *names: str) -> Tensor:
    """Normalize queries or keys, where the class has a norm for them."""
    name = p.first(*names)
    return norm(m, x, p.weight(name)) if name else x
