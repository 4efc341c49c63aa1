"""One answer, as a user asks for it: a whole process, and what it takes of CPU and memory."""

import json
from collections.abc import Iterator
from typing import Any

from benchmarks.bench import BASE, Bench
from benchmarks.measure import Command, cpu, side_by_side, table, verdict

CARD = ("--engine", "vllm", "--gpu", "h100:8")
COMMANDS = {  # the arguments, and the most seconds of CPU
    "load llama-3.1-8b": (("load", "llama-3.1-8b"), 0.10),
    "infer llama-3.1-8b, vLLM, a card": (("infer", "llama-3.1-8b", *CARD), 0.20),
    "infer deepseek-v3, vLLM, cards": (("infer", "deepseek-v3", *CARD, "-tp", "8"), 0.22),
    "train llama-3.1-8b": (("train", "llama-3.1-8b"), 0.22),
    "train deepseek-v3": (("train", "deepseek-v3"), 0.28),
}
DEPTHS = {1000: 0.5, 4096: 1.5}  # layers of a small Llama, and the most seconds of CPU
MOST_BEFORE = 2048  # layers that were trained before equal ones were counted
MEMORY = 40  # MiB
LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 512,
    "intermediate_size": 1024,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "vocab_size": 32000,
    "max_position_embeddings": 4096,
}


def run(bench: Bench) -> Iterator[str]:
    limits = {name: limit for name, (_, limit) in COMMANDS.items()}
    commands = [
        bench.weighbridge(name, *arguments, expect="driver")
        for name, (arguments, _) in COMMANDS.items()
    ]
    known = bench.beside_base(*commands)
    for depth, limit in DEPTHS.items():
        command = _deep(bench, depth)
        limits[command.name] = limit
        known += [command] if depth > MOST_BEFORE else bench.beside_base(command)
    found = side_by_side(known, bench.rounds)
    yield table(found)
    yield ""
    for name, limit in limits.items():
        before = f"; base {cpu(found[BASE.format(name)]):.3f}" if BASE.format(name) in found else ""
        yield verdict(f"`{name}`, CPU s", cpu(found[name]), limit) + before
    largest = max(turn.rss for name in COMMANDS for turn in found[name]) / 1024
    yield verdict("peak RSS of one answer, MiB", largest, MEMORY)


def _deep(bench: Bench, layers: int) -> Command:
    file = bench.folder / f"llama-{layers}.json"
    file.write_text(json.dumps({**LLAMA, "num_hidden_layers": layers}))
    return bench.weighbridge(f"train of {layers:,} layers", "train", str(file), expect="driver")
