"""flex_attention: torch makes one kernel of it and of its functions, which is compiled code.

forward    the output, and a logsumexp of float32
backward   the sum over dO * O of each row in float32, dQ, dK and dV; where heads share a key head,
           their dK and dV are added up in it

Source: torch/_inductor/kernel/flex/flex_attention.py. Uncompiled, all scores would be there at
once, which torch itself warns of, and nobody trains with.
"""

import math
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import torch

from weighbridge.lab.trace.patches import Patch
from weighbridge.lab.trace.patches.arrivals import Patches

LOG2E = math.log2(math.e)


def table() -> dict[str, Patches]:
    return {"torch.nn.attention.flex_attention": _module}


class FlexKernel(torch.autograd.Function):  # type: ignore[misc]
    """One kernel in place of flex_attention, forward and backward."""

    @staticmethod
    def forward(ctx: Any, q: Any, k: Any, v: Any) -> tuple[torch.Tensor, torch.Tensor]:
        shape = (*q.shape[:-1], v.shape[-1])
        out = q.new_empty(shape)
        lse = q.new_empty(q.shape[:-1], dtype=torch.float32)
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.set_materialize_grads(False)  # of the logsumexp, where nobody asks for it
        return out, lse

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        q, k, v, _, lse = ctx.saved_tensors
        torch.empty_like(lse)  # delta
        return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)


def _module(module: ModuleType) -> Iterator[Patch]:
    auxiliary = vars(module).get("AuxOutput")

    def flex_attention(  # noqa: PLR0913  torch's own arguments
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        score_mod: Any = None,
        block_mask: Any = None,
        scale: float | None = None,
        enable_gqa: bool = False,
        return_lse: bool = False,
        kernel_options: Any = None,
        *,
        return_aux: Any = None,
    ) -> Any:
        out, lse = FlexKernel.apply(query, key, value)
        if return_aux is not None and auxiliary is not None:
            return out, auxiliary(lse=lse if return_aux.lse else None, max_scores=None)
        return (out, lse / LOG2E) if return_lse else out

    yield Patch(module, "flex_attention", flex_attention)
