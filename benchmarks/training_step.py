"""One training step of Llama 3.1 (bfloat16, AdamW, 4,096 tokens), and its seconds after imports.

    weighbridge trace training_step.py 8b 32 checkpointed      the step on the fake GPU
    python training_step.py 8b 32 checkpointed --memtracker cpu    torch's MemTracker, same step

MemTracker counts what lives on the device that it is given; the fake tensors of a CUDA device need
our guard where there is no GPU. Prints one line of JSON.
"""

import json
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig
from transformers.models.llama import modeling_llama  # noqa: F401  (an import, not the step)

TOKENS = 4096
SIZES = {  # hidden, intermediate, heads
    "8b": (4096, 14336, 32),
    "70b": (8192, 28672, 64),
}


def config(size: str, layers: int) -> LlamaConfig:
    hidden, intermediate, heads = SIZES[size]
    return LlamaConfig(
        vocab_size=128256,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=8,
        max_position_embeddings=131072,
    )


def step(
    chosen: LlamaConfig, device: str, *, checkpointed: bool, watch: Callable[..., Any] | None = None
) -> None:
    """`watch` is told of the model and its optimizer."""
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(chosen, dtype=torch.bfloat16)
    model.train()
    if checkpointed:
        model.gradient_checkpointing_enable()
    optimizer = torch.optim.AdamW(model.parameters(), foreach=True)  # torch's choice on a GPU
    if watch is not None:
        watch(model, optimizer)
    ids = torch.randint(0, chosen.vocab_size, (1, TOKENS), device=device)
    model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def tracked(chosen: LlamaConfig, device: str, *, checkpointed: bool) -> int:
    """The peak that MemTracker saw."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.distributed._tools.mem_tracker import MemTracker

    tracker = MemTracker()
    with ExitStack() as stack:
        if device == "cuda":
            from weighbridge_lab.trace.guard import guarded

            stack.enter_context(guarded())
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))

        def watch(model: Any, optimizer: Any) -> None:
            tracker.track_external(model, optimizer)
            stack.enter_context(tracker)

        step(chosen, device, checkpointed=checkpointed, watch=watch)
    peaks = tracker.get_tracker_snapshot("peak")
    return max(seen["Total"] for at, seen in peaks.items() if at.type == device)


def main(size: str, layers: str, checkpointing: str, *rest: str) -> None:
    chosen, checkpointed = config(size, int(layers)), checkpointing == "checkpointed"
    begin, used = time.perf_counter(), time.process_time()
    if rest:
        peak = tracked(chosen, rest[-1], checkpointed=checkpointed)
    else:
        step(chosen, "cuda", checkpointed=checkpointed)
        peak = torch.cuda.max_memory_allocated()
    seconds, used = time.perf_counter() - begin, time.process_time() - used
    print(json.dumps({"seconds": seconds, "cpu": used, "peak": peak}))


if __name__ == "__main__":
    main(*sys.argv[1:])
