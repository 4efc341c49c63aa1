"""What would make it fit: answers with remedies, as whole processes."""

from collections.abc import Iterator

from benchmarks.bench import BASE, Bench
from benchmarks.measure import cpu, side_by_side, table, verdict

ONE, MANY = 0.6, 2.0  # seconds of CPU: about one device, and about 64
COMMANDS = {
    "infer llama-3.1-8b": (("infer", "llama-3.1-8b", "--gpu", "3060"), ONE),
    "infer llama-3.1-8b, vLLM": (
        ("infer", "llama-3.1-8b", "--engine", "vllm", "--gpu", "3060"),
        ONE,
    ),
    "infer mixtral-8x7b": (("infer", "mixtral-8x7b", "--gpu", "3060"), ONE),
    "train llama-3.1-8b, QLoRA": (
        ("train", "llama-3.1-8b", "--method", "qlora", "--gpu", "3060"),
        ONE,
    ),
    "infer deepseek-v3, 64 cards": (
        ("infer", "deepseek-v3", "--engine", "vllm", "--gpu", "4090:64"),
        MANY,
    ),
    "train llama-3.1-8b, 64 cards": (
        ("train", "llama-3.1-8b", "--method", "full", "--gpu", "4090:64"),
        MANY,
    ),
}


def run(bench: Bench) -> Iterator[str]:
    commands = [
        bench.weighbridge(name, *arguments, "--json", expect='"remedies": [')
        for name, (arguments, _) in COMMANDS.items()
    ]
    found = side_by_side(bench.beside_base(*commands), bench.rounds)
    yield table(found)
    yield ""
    for name, (_, limit) in COMMANDS.items():
        before = f"; base {cpu(found[BASE.format(name)]):.3f}" if BASE.format(name) in found else ""
        yield verdict(f"`{name}`, CPU s", cpu(found[name]), limit) + before
