"""`fit` with its remedies as a whole process, and the whole catalogue ranked for a card."""

from collections.abc import Iterator

from benchmarks.bench import BASE, Bench
from benchmarks.measure import cpu, side_by_side, table, verdict

ROUNDS = 3  # each takes seconds
COMMANDS = {  # the arguments, and the most seconds of CPU
    "fit llama-3.1-8b, one card, with remedies": (("fit", "llama-3.1-8b", "--gpu", "3060"), 0.6),
    "fit llama-3.1-8b, 64 cards": (("fit", "llama-3.1-8b", "--gpu", "h100:64"), 2.0),
    "fit llama-3.1-70b, 64 cards": (("fit", "llama-3.1-70b", "--gpu", "a100-80gb:64"), 2.0),
    "fit deepseek-v3, 64 cards": (("fit", "deepseek-v3", "--gpu", "h200:64"), 2.0),
    "fit deepseek-v3, 8 cards": (("fit", "deepseek-v3", "--gpu", "h200:8"), 2.0),
    "fit --max context": (("fit", "qwen3-0.6b", "--gpu", "t4", "--max", "context"), 0.6),
    "models --gpu: the catalogue for a card": (("models", "--gpu", "4090"), 5.0),
    "models --gpu --engine vllm": (("models", "--gpu", "4090", "--engine", "vllm"), 5.0),
    "fit --all-gpus: the cards for a model": (("fit", "llama-3.1-8b", "--all-gpus"), 5.0),
}


def run(bench: Bench) -> Iterator[str]:
    commands = [
        bench.weighbridge(name, *arguments, "--json", expect='"schema"')
        for name, (arguments, _) in COMMANDS.items()
    ]
    found = side_by_side(bench.beside_base(*commands), min(bench.rounds, ROUNDS))
    yield table(found)
    yield ""
    for name, (_, limit) in COMMANDS.items():
        before = f"; base {cpu(found[BASE.format(name)]):.3f}" if BASE.format(name) in found else ""
        yield verdict(f"`{name}`, CPU s", cpu(found[name]), limit) + before
