"""What serving extras add to a device: slots for LoRA, a draft model, prefixes that are shared."""

from weighbridge.engines.serving import Subject
from weighbridge.engines.shards import VLLM, Rank, Rules
from weighbridge.memory import Component


def lora(
    subject: Subject, rank: Rank, *, slots: int, lora_rank: int, tensor: int = 1, rules: Rules = VLLM
) -> tuple[Component, ...]:
    """The buffers of all slots on one device, named `adapters`."""
    return ()


def draft(
    subject: Subject, *, method: str, tokens: int, tensor: int = 1, rules: Rules = VLLM
) -> tuple[Component, ...]:
    """Weights of what proposes `tokens` tokens, on each device: `subject.draft`, or layers of the
    subject's own checkpoint."""
    return ()


def shared_tokens(prefix: int, requests: int, block: int) -> int:
    """Tokens of cache that are stored once instead of once a request: whole blocks alone."""
    return (requests - 1) * (prefix // block * block)
