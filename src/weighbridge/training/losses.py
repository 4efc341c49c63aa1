"""The head and the loss, by the kernels that people use.

    standard    logits of all tokens, a float32 copy, log_softmax: transformers ForCausalLMLoss

Source: transformers 5.23 loss/loss_utils.py.
"""

from collections.abc import Callable, Mapping

from weighbridge.autograd.ops.losses import causal_loss
from weighbridge.autograd.tensors import Param, Tensor
from weighbridge.dtypes import INT64
from weighbridge.training.step import Step

Loss = Callable[[Step, Tensor], "tuple[Tensor, Tensor | None]"]  # (loss, logits that are kept)


def standard(s: Step, hidden: Tensor) -> tuple[Tensor, Tensor | None]:
    """The outputs hold the logits until the caller drops them."""
    m = s.m
    labels = m.new((s.batch, s.length), INT64)
    with m.making("logits"):
        logits = head(s, hidden)
        loss = causal_loss(m, logits, labels)
    return loss, logits


def head(s: Step, hidden: Tensor) -> Tensor:
    from weighbridge.autograd.ops.matrix import linear

    name = s.built.root.first("lm_head", "embed_out", "output_layer")
    if name:
        return s.built.root.linear(s.m, hidden, name)
    return linear(s.m, hidden, tied(s))


def tied(s: Step) -> Param:
    """The embedding that is the head, too."""
    base = s.built.base
    return next(p for n, p in s.built.params.items() if p.kind == "embedding" and base.path in n)


LOSSES: Mapping[str, Loss] = {"standard": standard}
