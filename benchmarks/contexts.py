"""Could one line stand for many contexts? What they cost, and how often a line is right.

    python -m benchmarks.contexts [--every N]

Each so many models of the catalogue is asked in full at each context. Then a line is laid through
the first and the last answer, and counts where the one in the middle is on it, byte for byte: low,
expected and high. How many of the others are off it says what such a shortcut would be wrong in.
"""

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

from weighbridge import Infer, prepare
from weighbridge.base.errors import WeighbridgeError
from weighbridge.models.catalogue import find, names

CONTEXTS = tuple(4096 * step for step in range(1, 10))  # whole blocks of any engine
ASKED: Sequence[Mapping[str, Any]] = (
    {"engine": "vllm", "gpu": "h100"},
    {"engine": "sglang", "gpu": "h100"},
    {"engine": "llama.cpp", "quantization": "Q4_K_M", "gpu": "h100"},
    {"engine": "llama.cpp", "quantization": "Q4_K_M", "gpu": "4090"},
    {"engine": "transformers", "gpu": "h100"},
)
MIDDLE, LAST = len(CONTEXTS) // 2, len(CONTEXTS) - 1
Needs = list[tuple[int, int, int]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=4, metavar="N")
    every = parser.parse_args().every
    print("| question | models | on a line | others of them off it | first, ms | further, ms |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for settings in ASKED:
        print(_row(settings, names()[::every]), flush=True)


def _row(settings: Mapping[str, Any], models: Sequence[str]) -> str:
    found = [needs for name in models for needs in _needs(name, settings)]
    told = [needs for needs, _ in found]
    first = 1000 * sum(times[0] for _, times in found) / max(1, len(found))
    further = 1000 * sum(sum(times[1:]) for _, times in found) / max(1, LAST * len(found))
    lines = [needs for needs in told if _on(needs, MIDDLE)]
    off = sum(not _on(needs, at) for needs in lines for at in range(LAST))
    asked = ", ".join(map(str, settings.values()))
    others = len(lines) * (LAST - 2)
    lined = f"{len(told)} | {len(lines)} | {off} of {others}"
    return f"| {asked} | {lined} | {first:.1f} | {further:.2f} |"


def _needs(name: str, settings: Mapping[str, Any]) -> Iterator[tuple[Needs, list[float]]]:
    """Yield what a model needs at each context, and the seconds of CPU of each; nothing where one
    is refused."""
    needs: Needs = []
    times = []
    try:
        model = prepare(find(name).config)
        for context in CONTEXTS:
            begin = time.process_time()
            peak = model.briefly(Infer(context=context, **settings)).peak
            times.append(time.process_time() - begin)
            needs.append((peak.low, peak.expected, peak.high))
    except WeighbridgeError:
        return
    yield needs, times


def _on(needs: Needs, at: int) -> bool:
    """Tell whether an answer is on the line of the first and the last."""
    part = Fraction(CONTEXTS[at] - CONTEXTS[0], CONTEXTS[LAST] - CONTEXTS[0])
    whole = zip(needs[0], needs[LAST], needs[at], strict=True)
    return all(low + part * (high - low) == told for low, high, told in whole)


if __name__ == "__main__":
    main()
