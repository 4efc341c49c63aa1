"""What a scan of a registry costs: CPU seconds for each key and each question, and what two million
repositories would take.

    python -m benchmarks.keys PATH [--every N]

PATH is what `weighbridge scan` reads, as a folder with a config.json a model. Each key is asked
20 questions in this process, as a scan asks them; with --every, each so many keys.
"""

import argparse
import gc
import os
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from statistics import mean, median

from benchmarks.measure import verdict
from weighbridge.base.canonical import canonical_text, digest
from weighbridge.base.errors import WeighbridgeError
from weighbridge.faces.scan.answers import rows
from weighbridge.faces.scan.asking import MODEL, ScanQuestion, read
from weighbridge.faces.scan.registry import models
from weighbridge.faces.scan.weigher import COLLECT_AFTER

QUESTIONS = b"""
questions:
  - {name: load, task: load}
  - name: vllm
    task: infer
    workload: {engine: vllm, context: [8192, 32768], gpu: [4090, l40s, h100, b200]}
  - name: vllm fp8
    task: infer
    workload: {engine: vllm, quantization: fp8, context: 32768, gpu: [4090, h100]}
  - name: llama.cpp
    task: infer
    workload:
      {engine: llama.cpp, quantization: Q4_K_M, context: [8192, 32768], gpu: [3060-12gb, 4090]}
  - {name: lora, task: train, workload: {method: lora, gpu: [4090, h100]}}
  - {name: qlora, task: train, workload: {method: qlora, gpu: [4090, h100]}}
  - {name: full, task: train, workload: {method: full, gpu: h100}}
"""
ALL = 2_000_000  # repositories
# Keys among them: of 2,980 popular ids 600 are distinct, and keys grow with the power 0.64 of ids
KEYS = 40_000
LIMIT = 5.0  # core-hours


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", metavar="PATH")
    parser.add_argument("--every", type=int, default=1, metavar="N")
    typed = parser.parse_args()
    print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}")
    for line in told(typed.path, typed.every):
        print(line, flush=True)


def told(source: str, every: int) -> Iterator[str]:
    """Yield the figures of a registry, line by line, as Markdown."""
    begin = time.process_time()
    found, texts = keyed(source)
    keying = (time.process_time() - begin) / max(1, found)
    asked = sorted(texts)[::every]
    yield (
        f"{found:,} configs have {len(texts):,} keys ({found / len(texts):.2f} a key), "
        f"{1000 * keying:.2f} ms each to read and key; {len(asked):,} keys are asked"
    )
    spent = asking([texts[key] for key in asked], read(QUESTIONS, "the questions"))
    yield ""
    yield "| question | answers | refused | mean, ms | median | 95th | most |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    for name, times in spent.items():
        yield _row(name, times)
    whole = sum(second for times in spent.values() for second, _ in times)
    read_ = sum(code == 0 for _, code in spent[MODEL])
    answers = sum(map(len, spent.values())) - len(asked)
    yield ""
    yield (
        f"- {whole:.0f} s of CPU: {whole / len(asked):.3f} s a key, {whole / max(1, read_):.3f} s "
        f"a key that is read ({read_:,}), {1000 * whole / max(1, answers):.1f} ms an answer"
    )
    hours = (ALL * keying + KEYS * whole / len(asked)) / 3600
    yield verdict(f"core-hours for {ALL:,} repositories of {KEYS:,} keys", hours, LIMIT)


def keyed(source: str) -> tuple[int, dict[str, str]]:
    """Return how many configs a registry has, and the canonical config of each key."""
    texts: dict[str, str] = {}
    found = 0
    for model in models(source, offline=True):
        if model.config is None:
            continue
        try:
            text = canonical_text(model.config)
        except WeighbridgeError:
            continue
        found += 1
        texts.setdefault(digest(text), text)
    return found, texts


def asking(
    configs: Sequence[str], questions: Sequence[ScanQuestion]
) -> dict[str, list[tuple[float, int]]]:
    """Return (seconds of CPU, exit code) of each answer, by question; reading comes first. Cards
    are told apart, so that what a second card costs is seen."""
    spent: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for number, config in enumerate(configs, 1):
        begin = time.process_time()
        for row in rows(config, questions):
            now = time.process_time()
            spent[str(row["question"])].append((now - begin, int(row["code"] or 0)))
            begin = now
        if number % COLLECT_AFTER == 0:
            gc.collect()
    return spent


def _row(name: str, times: Sequence[tuple[float, int]]) -> str:
    each = sorted(1000 * second for second, _ in times)
    refused = sum(code != 0 for _, code in times)
    far = each[int(0.95 * len(each))]
    return (
        f"| {name} | {len(each):,} | {refused:,} | {mean(each):.1f} | {median(each):.1f} "
        f"| {far:.1f} | {each[-1]:,.0f} |"
    )


if __name__ == "__main__":
    main()
