"""One update of GRPO on a frozen model with two adapters, after a rollout of the same process.

github.com/AgileRL/AgileRL at 0151c6601f99: tools/memory_profiling/harness.py measures what
agilerl/algorithms/grpo.py `learn` takes. The engine of the rollout sleeps and is left out.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from peft import LoraConfig, get_peft_model

from weighbridge_lab.evidence.programs.peft_methods import causal_model

LOGITS = 2**28  # bytes of a tile of logits in float32
FEWEST, MOST = 128, 4096  # rows of a tile
CLIP, CAP, BETA, TEMPERATURE = 0.2, 2.0, 0.001, 0.9
ADAPTERS = ("actor", "reference")
ALIKE = 2  # steps and chunks that are run: from the second on all are alike


def learn(
    device: str,
    *,
    model: str,
    tokens: int,
    micro_batch: int,
    group_size: int,
    **adapters: Any,
) -> None:
    """Run one update. `adapters`: rank, targets and liger of `adapted`."""
    net = adapted(model, **adapters)
    trained = [p for name, p in net.named_parameters() if "actor" in name]
    optimizer = torch.optim.AdamW(trained, lr=5e-7)
    torch.cuda.reset_peak_memory_stats()
    net.to(device)
    ids = torch.zeros(group_size, tokens, dtype=torch.long, device=device)
    actions = torch.ones(group_size, tokens - 1, dtype=torch.bool, device=device)
    advantages = torch.zeros(group_size, 1, device=device)
    rows = min(micro_batch, group_size)
    reference, old = before(net, ids, rows)
    sampled = old.clone()
    for start in range(0, group_size, rows)[:ALIKE]:
        chosen = torch.arange(start, min(start + rows, group_size))
        parts = (ids, actions, advantages, old, reference, sampled)
        loss = objective(net, *(part[chosen] for part in parts))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 0.1)
        optimizer.step()
        optimizer.zero_grad()
    net.to("cpu")


def adapted(
    model: str,
    *,
    rank: int,
    targets: str | Sequence[str] = "all-linear",
    liger: bool = False,
) -> Any:
    """Return a bfloat16 model on the host, with adapters in float32."""
    net = causal_model(model, "cpu")
    lora = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets, task_type="CAUSAL_LM")
    net = get_peft_model(net, lora, adapter_name=ADAPTERS[0])
    net.add_adapter(ADAPTERS[1], lora)
    if liger:
        from liger_kernel.transformers import _apply_liger_kernel_to_instance

        _apply_liger_kernel_to_instance(model=net.base_model.model)
    net.gradient_checkpointing_enable({"use_reentrant": False})
    return net


def before(net: Any, ids: torch.Tensor, rows: int) -> list[torch.Tensor]:
    """Return the log-probabilities of the reference and of the actor, computed in chunks."""
    net.eval()
    net.set_adapter(ADAPTERS[1])
    count, tokens = ids.shape
    with torch.inference_mode():
        doubled = ids.repeat(2, 1)
        mask = (ids == ids).repeat(2, 1)
        places = positions(mask)
        log_probs: torch.Tensor | None = None
        for start in range(0, 2 * count, rows)[:ALIKE]:
            part = slice(start, min(start + rows, 2 * count))
            one = log_probabilities(net, doubled[part], mask[part], places[part])
            if log_probs is None:
                shape = 2 * count, tokens - 1
                log_probs = torch.empty(shape, dtype=one.dtype, device=one.device)
            log_probs[part].copy_(one)
    net.set_adapter(ADAPTERS[0])
    assert log_probs is not None
    return [log_probs[:count], log_probs[count:]]


def objective(net: Any, *parts: torch.Tensor) -> torch.Tensor:
    """Return the loss. `parts`: ids, which tokens are the actor's own, advantages, and
    log-probabilities of the actor before the update, of the reference, and as the engine sampled
    them."""
    ids, actions, advantages, old, reference, sampled = parts
    net.train()
    mask = ids == ids
    new = log_probabilities(net, ids, mask, positions(mask))
    apart = new - reference
    divergence = torch.exp(apart) - apart - 1.0
    ratio = torch.exp(new - old)
    clipped = ratio.clamp(1 - CLIP, 1 + CLIP)
    loss = -torch.min(ratio * advantages, clipped * advantages)
    with torch.no_grad():
        weights = torch.exp((old - sampled) * actions.to(loss.dtype)).clamp(max=CAP)
    loss = loss * weights + BETA * divergence
    return ((loss * actions).sum(dim=-1) / actions.sum(dim=-1)).mean()


def positions(mask: torch.Tensor) -> torch.Tensor:
    places = mask.long().cumsum(dim=-1) - 1
    places.masked_fill_(mask=(mask == 0), value=1)
    return places


def log_probabilities(
    net: Any, ids: torch.Tensor, mask: torch.Tensor, places: torch.Tensor
) -> torch.Tensor:
    head = net.base_model.model.lm_head
    with headless(net), torch.autocast(ids.device.type, torch.bfloat16):
        hidden = net(
            input_ids=ids, attention_mask=mask, position_ids=places, use_cache=False
        ).logits
    log_probs: torch.Tensor = Tiled.apply(hidden[:, :-1], head.weight, ids[:, 1:])
    return log_probs


@contextmanager
def headless(net: Any) -> Iterator[None]:
    inner = net.base_model.model
    head, inner.lm_head = inner.lm_head, torch.nn.Identity()
    try:
        yield
    finally:
        inner.lm_head = head


class Tiled(torch.autograd.Function):  # type: ignore[misc]
    """Log-probabilities from hidden states, a tile of logits at a time in both directions.

    The authors compile what happens to a tile: its logits in bfloat16 are all that is kept, since
    the rest is fused, and the gradient overwrites them."""

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor
    ) -> torch.Tensor:
        flat = hidden.reshape(-1, hidden.shape[-1])
        wanted = targets.reshape(-1).to(torch.long)
        log_probs = torch.empty(len(flat), dtype=hidden.dtype, device=hidden.device)
        for tile in tiles(len(flat), len(weight)):
            logits = flat[tile] @ weight.t()
            log_probs[tile].copy_(_selected(logits, wanted[tile]).to(hidden.dtype))
            del logits
        ctx.save_for_backward(hidden, weight, targets)
        return log_probs.reshape(hidden.shape[:-1])

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        hidden, weight, targets = ctx.saved_tensors
        flat = hidden.reshape(-1, hidden.shape[-1])
        wanted = targets.reshape(-1).to(torch.long)
        row_gradients = gradients[0].reshape(-1)
        gradient = torch.zeros_like(flat)
        for tile in tiles(len(flat), len(weight)):
            logits = flat[tile] @ weight.t()
            one = _selected(logits, wanted[tile])
            logits.mul_(row_gradients[tile].to(one.dtype).unsqueeze(-1))
            gradient[tile] = logits @ weight
            del logits
        return gradient.reshape(hidden.shape), None, None


def tiles(rows: int, vocabulary: int) -> Iterator[slice]:
    size = max(FEWEST, min(MOST, LOGITS // (4 * vocabulary)))
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))


def _selected(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return one float32 number per row, all that the compiled kernel stores."""
    return logits.gather(-1, targets.unsqueeze(-1)).squeeze(-1).float() / TEMPERATURE
