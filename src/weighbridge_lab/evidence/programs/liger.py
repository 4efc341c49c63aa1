"""Liger's own benchmark of its kernels: one operator, forward and backward, the peak of an
iteration once gradients are there.

github.com/linkedin/Liger-Kernel, benchmark/scripts: each figure is the median of iterations, all
but the first of which are alike. What is beside the operator in a script stays on the card.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

ITERATIONS = 3


def measured(step: Callable[[], None]) -> None:
    """Run a step several times; the peak is that of the last iteration."""
    for _ in range(ITERATIONS):
        torch.cuda.reset_peak_memory_stats()
        step()


def cross_entropy(device: str, *, vocabulary: int, batch: int = 8, tokens: int = 2048) -> None:
    from liger_kernel.transformers.cross_entropy import LigerCrossEntropyLoss

    loss = LigerCrossEntropyLoss()
    inputs = torch.randn(batch * tokens, vocabulary, requires_grad=True, device=device)
    target = torch.randint(vocabulary, (batch * tokens, 1), device=device).squeeze(1)
    measured(lambda: loss(inputs, target).backward())


def embedding(
    device: str, *, vocabulary: int, width: int = 768, batch: int = 32, tokens: int = 512
) -> None:
    """Run torch's embedding, while Liger's, unused, is on the card as well."""
    net = nn.Embedding(vocabulary, width).to(device)
    other = nn.Embedding(vocabulary, width).to(device)
    ids = torch.randint(0, vocabulary, (batch, tokens), device=device)

    def step() -> None:
        output = net(ids)
        output.backward(torch.randn_like(output))

    measured(step)
    del other


def gated(
    device: str,
    *,
    tokens: int,
    batch: int,
    activation: str,
    hidden: int = 4096,
    intermediate: int = 11008,
) -> None:
    """Run the MLP of transformers' Llama, from its activation to its product."""
    from transformers.models.llama.configuration_llama import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaMLP

    config = LlamaConfig(hidden_size=hidden, intermediate_size=intermediate, hidden_act=activation)
    x = _leaf(batch, tokens, hidden, device=device)
    layer = LlamaMLP(config=config).to(device).to(torch.bfloat16)

    def step() -> None:
        y = layer(x)
        y.backward(torch.randn_like(y), retain_graph=True)

    measured(step)


def linear_cross_entropy(
    device: str, *, rows: int, hidden: int = 4096, vocabulary: int = 128256
) -> None:
    """Run a head with its loss. The head for torch's own loss is on the card as well, and both
    threads have multiplied before, since speed is measured first."""
    nn.Linear(8, 8, bias=False, device=device)(_leaf(8, 8, device=device).float()).sum().backward()
    other, head = (
        nn.Linear(hidden, vocabulary, bias=False, dtype=torch.bfloat16).to(device) for _ in "ab"
    )
    x = _leaf(rows, hidden, device=device)
    target = torch.randint(vocabulary, (rows, 1), dtype=torch.long, device=device).squeeze(1)

    def step() -> None:
        loss: Any = Chunked.apply(x, head.weight, target)
        loss.backward()

    measured(step)
    del other


class Chunked(torch.autograd.Function):  # type: ignore[misc]
    """liger_kernel/ops/fused_linear_cross_entropy.py until 0.4.2: logits of a chunk in float32,
    where a kernel writes their gradient. Later ones stay in bfloat16."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, target: torch.Tensor
    ) -> torch.Tensor:
        grad_weight, grad_x = torch.zeros_like(weight), torch.zeros_like(x)
        losses = torch.zeros(len(x), dtype=torch.float32, device=x.device)
        counted = (target != -100).sum()
        share = torch.ones_like(counted, dtype=torch.float32)
        for part in chunks(len(x), -(-len(weight) // x.shape[1])):
            logits = x[part] @ weight.t()
            logits = logits.float()
            logits = logits.to(x.dtype)
            losses[part] = losses[part] * share
            gradient = logits * share  # lives until the next chunk's
            grad_x[part] = gradient @ weight
            torch.addmm(grad_weight, logits.t(), x[part], out=grad_weight)
        del gradient
        ctx.save_for_backward(grad_x, grad_weight)
        return losses.sum()

    @staticmethod
    def backward(ctx: Any, *_: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return (*ctx.saved_tensors, None)


def chunks(rows: int, parts: int) -> list[slice]:
    """Return slices of `rows`, whose length is the smallest power of two that makes at most
    `parts`."""
    size = 1 << (-(-rows // parts) - 1).bit_length()
    return [slice(start, start + size) for start in range(0, rows, size)]


def experts(
    device: str,
    *,
    tokens: int,
    count: int = 128,
    hidden: int = 2048,
    intermediate: int = 768,
    chosen: int = 8,
) -> None:
    """Run the experts of transformers' Mixtral, one after the other. Their inputs are random, and
    so are their loads; here each has the same."""
    x = _leaf(tokens, hidden, device=device)
    up = _leaf(count, 2 * intermediate, hidden, device=device) * 0.02
    down = _leaf(count, hidden, intermediate, device=device) * 0.02
    logits = torch.randn(tokens, count, device=device)
    picked = torch.topk(logits, chosen, dim=-1).indices.to(torch.int32)
    weights = torch.softmax(torch.gather(logits, 1, picked.long()), dim=-1).to(torch.bfloat16)
    weights.requires_grad_(True)
    share = max(1, tokens * chosen // count)

    def forward() -> torch.Tensor:
        final = torch.zeros_like(x)
        with torch.no_grad():
            mask = nn.functional.one_hot(picked.long(), num_classes=count).permute(2, 1, 0)
            hit = torch.arange(count, device=device).unsqueeze(1)
        for one in hit:
            expert = one[0]
            place = torch.zeros(share, dtype=torch.long, device=device)
            token = torch.arange(share, device=device)
            current = x[token]
            gate, value = nn.functional.linear(current, up[expert]).chunk(2, dim=-1)
            current = nn.functional.silu(gate) * value
            current = nn.functional.linear(current, down[expert])
            current = current * weights[token, place, None]
            final.index_add_(0, token, current.to(final.dtype))
        del mask
        return final

    def step() -> None:
        y = forward()
        y.backward(torch.randn_like(y), retain_graph=True)

    measured(step)


def parallel_cross_entropy(
    device: str, *, vocabulary: int, tokens: int = 2048, batch: int = 4
) -> None:
    """Run Megatron's unfused loss on one rank; gradients are cleared before each step."""
    logits = _leaf(tokens, batch, vocabulary, device=device)
    target = torch.randint(0, vocabulary, (tokens, batch), device=device, dtype=torch.long)

    def step() -> None:
        logits.grad = None
        losses: Any = Parallel.apply(logits, target)
        losses.sum().backward()

    measured(step)


class Parallel(torch.autograd.Function):  # type: ignore[misc]
    """megatron/core/tensor_parallel/cross_entropy.py: the softmax in float32, in place."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        soft = logits.float()
        soft -= torch.max(soft, dim=-1)[0].unsqueeze(-1)
        outside = (target < 0) | (target >= soft.shape[-1])
        local = target.clone()
        local.masked_fill_(outside, 0)
        rows = torch.arange(target.numel(), device=target.device)
        flat = soft.view(-1, soft.shape[-1])
        predicted = flat[rows, local.view(-1)].clone().view_as(target)
        predicted.masked_fill_(outside, 0.0)
        torch.exp(soft, out=soft)
        total = soft.sum(dim=-1)
        loss = torch.log(total) - predicted
        soft.div_(total.unsqueeze(-1))
        ctx.save_for_backward(soft, outside, local.view(-1))
        return loss

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        soft, outside, local = ctx.saved_tensors
        flat = soft.view(-1, soft.shape[-1])
        rows = torch.arange(len(flat), device=soft.device)
        flat[rows, local] -= 1.0 - outside.view(-1).float()
        soft.mul_(gradients[0].unsqueeze(-1))
        return soft, None


def _leaf(*shape: int, device: str) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.bfloat16, device=device, requires_grad=True)
