"""What the logs and the numbers of a text tell by themselves, as sentences with figures.

Each rule looks at what a server wrote when it started (serving/start_logs.py), or at a setting
that a program documents, and says what follows from it by arithmetic. A rule that lacks a figure
says nothing.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from weighbridge.base.records import NamedTuple
from weighbridge.base.units import GIB, KIB, UNITS
from weighbridge.files.runfiles.measured import gpus_of, predicted
from weighbridge.files.runfiles.record import ServerStart
from weighbridge.memory.report import Report

SAME_RATE = 0.03  # relative difference of equal rates: printed sizes have two decimals
SQUARE = 1.5  # activations that grow with this power of the length hold its matrix (assumed)
PASTED = ("batch", "usual")  # values for a flag
USUAL_BATCH = 8192  # tokens of a step: vLLM's default on cards of 80 GB
OWN_RATE = 34 / 64  # q8_0 / 16-bit bytes of a cache: 34 bytes per block of 32 elements
# vLLM: each offloaded tensor is pinned (model_executor/offloader); PyTorch's CachingHostAllocator
# rounds a block up to a power of two
PINNED = (1.0, 2.0)
MOST_TEXT = 60_000
SIXTEEN = ("bfloat16", "float16")
SMALL = {"train": "nf4", "infer": "Q4_K_M"}  # the usual quantization, by task
NO_ROOM = r"KV cache is needed, which is larger than the available KV cache memory"  # of vLLM
# TensorRT-LLM (_torch/pyexecutor): what each component left free on a card
TRT_MODEL = r"(?m)^[ \t]*Model:\s*([\d.]{1,8}) / ([\d.]{1,8})"
TRT_FREE = r"Free GPU memory before component creation attempt \(GiB\):"
TRT_CACHE = r"component could not be created: KV cache"
# A server on a Mac that plans before it loads: total memory, needed memory, its limit
WIRED = (
    r"(?P<whole>\d{2,3})G Mac[\s\S]{0,2000}?need (?P<need>[\d.]{1,7}) GiB but the engine budget is "
    r"(?P<limit>[\d.]{1,7}) GiB"
)
LEFT_TO_MACOS = 8  # GiB (assumed)
LISTED = r"(?m)^[ \t]*{}[ \t]+[0-9a-f]{{12}}[ \t]+([\d.]{{1,9}}) GB[ \t]+\d+%"  # a row of ollama ps
IN_ORDER = 0.15  # relative difference that is normal: work buffers of several cards vary (assumed)
HOST = "CPU"  # Ollama's name for host memory
LOGGED = "(APIServer pid="  # the beginning of a line in a server's log
GB = UNITS["GB"]


class LogFinding(NamedTuple):
    """A sentence by its key in words/screens.json (`finding.KEY`), and its values; sizes are
    `*_bytes`."""

    key: str
    values: Mapping[str, Any]

    @property
    def explains(self) -> bool:
        """Return whether it is about the text's question, not about the model in general."""
        return not self.key.startswith("least")


def findings(
    text: str, starts: Sequence[ServerStart], reports: Sequence[tuple[str, Report]]
) -> tuple[LogFinding, ...]:
    """Return the findings from server starts, from settings in the text and from the answers; each
    report comes with the model's name in the text."""
    text = text[:MOST_TEXT]
    return (
        *_between(starts),
        *(finding for start in starts for finding in _of_a_start(start)),
        *_of_settings(text),
        *_of_budgets(text),
        *_of_answers(text, starts, reports),
    )


# Two starts of one server


def _between(starts: Sequence[ServerStart]) -> Iterator[LogFinding]:
    for before, after in pairwise(starts):
        short, long = before.counts.get("context"), after.counts.get("context")
        if short and long and long > short and before.program == after.program == "vllm":
            yield from _shrunken_cache(before, after)
            yield from _unfused_attention(before, after, long / short)


def _shrunken_cache(before: ServerStart, after: ServerStart) -> Iterator[LogFinding]:
    """Yield a finding if the cache shrank at equal bytes per token: the profile run took more."""
    there, left = before.size("kv_cache"), after.size("kv_cache")
    rates = _rate(before), _rate(after)
    if not there or not left or left >= there or None in rates or before.size("activations"):
        return
    first, second = (float(rate or 0) for rate in rates)
    if abs(first - second) > SAME_RATE * first:
        return
    needed = after.size("needed") or round(second * after.counts["context"])
    yield LogFinding(
        "less_cache" if needed <= there else "less_cache.both",
        {
            "short": before.counts["context"],
            "long": after.counts["context"],
            "rate_bytes": round(first),
            "there_bytes": there,
            "left_bytes": left,
            "less_bytes": there - left,
            "needed_bytes": needed,
            "batch": USUAL_BATCH,
        },
    )


def _rate(start: ServerStart) -> float | None:
    """Return a start's KV cache bytes per token, None if its log has too few figures."""
    tokens, there = start.counts.get("tokens"), start.size("kv_cache")
    if tokens and there:
        return there / tokens
    needed, asked = start.size("needed"), start.counts.get("context")
    return needed / asked if needed and asked else None


def _unfused_attention(
    before: ServerStart, after: ServerStart, times: float
) -> Iterator[LogFinding]:
    """Yield a finding if activations grew faster than the length: attention scores are not
    fused."""
    small, large = before.size("activations"), after.size("activations")
    there = after.size("kv_cache")
    if not small or not large or there is None or large / small < times**SQUARE:
        return
    following = round(large * large / small)
    room = large + there
    yield LogFinding(
        "square" if following > room else "square.room",
        {
            "short": before.counts["context"],
            "long": after.counts["context"],
            "small_bytes": small,
            "large_bytes": large,
            "times": f"{large / small:.1f}",
            "next": round(after.counts["context"] * times),
            "next_size_bytes": following,
            "room_bytes": room,
        },
    )


# One start


def _of_a_start(start: ServerStart) -> Iterator[LogFinding]:
    if start.program == "ollama":
        yield from _of_offload(start)
        yield from _of_devices(start)
    tokens, context = start.counts.get("tokens"), start.counts.get("context")
    if start.program == "vllm" and tokens and context and tokens < context:
        yield LogFinding("waits", {"tokens": tokens, "context": context})


def _of_offload(start: ServerStart) -> Iterator[LogFinding]:
    """Yield why Ollama left layers in RAM. Its `weights.total` includes the cache
    (llm/memory.go)."""
    required, whole = start.size("required"), start.size("with_cache")
    cache, graph = start.size("planned_cache"), start.size("planned_graph")
    layers, loaded = start.counts.get("layers"), start.counts.get("loaded_layers")
    if not (required and whole and cache and graph and layers and start.free) or loaded is None:
        return
    free, cards = sum(start.free), len(start.free)
    smaller = whole - cache + round(cache * OWN_RATE)
    yield LogFinding(
        "offload",
        {
            "loaded": loaded,
            "layers": layers,
            "required_bytes": required,
            "free_bytes": free,
            "cards": cards,
            "weights_bytes": whole - cache,
            "cache_bytes": cache,
            "graph_bytes": graph,
        },
    )
    if smaller < free:
        values = {"sum_bytes": smaller, "each_bytes": (free - smaller) // cards}
        yield LogFinding("offload.smaller", {**values, "cache_bytes": round(cache * OWN_RATE)})
    elif whole:
        yield LogFinding("offload.too_large", {"sum_bytes": smaller, "free_bytes": free})


def _of_devices(start: ServerStart) -> Iterator[LogFinding]:
    """Yield what Ollama put on the cards, and what it left in RAM."""
    on_cards, in_ram = (_sums(start, in_ram=each) for each in (False, True))
    if not all(on_cards.values()) or start.counts or start.size("required"):
        return
    values = {f"{name}_bytes": size for name, size in on_cards.items()}
    ram = sum(in_ram.values())
    values |= {"cards_bytes": sum(on_cards.values()), "ram_bytes": ram}
    values |= {"weights_ram_bytes": in_ram["weights"]}
    yield LogFinding("devices.ram" if ram else "devices", values)


def _sums(start: ServerStart, *, in_ram: bool) -> dict[str, int]:
    """Return the bytes of each part of a start on all cards, or with `in_ram` in host memory."""
    parts = [part for part in start.parts if (part.device == HOST) is in_ram]
    names = ("weights", "kv_cache", "activations")
    return {name: sum(part.value for part in parts if part.name == name) for name in names}


# Settings in a text


def _of_settings(text: str) -> Iterator[LogFinding]:
    segment, buffer = (
        re.search(rf'"{name}"\s*:\s*"?(\d{{1,5}}) ?GB?', text)
        for name in ("global_segment_size", "local_buffer_size")
    )
    if segment:
        each = (int(segment[1]) + (int(buffer[1]) if buffer else 0)) * GB
        pool = int(segment[1]) * GB
        yield LogFinding("segments", {"each_bytes": each, "pool_bytes": pool})
    if "cpu-offload-gb" in text:
        yield from _of_offloaded_weights(text)


def _of_offloaded_weights(text: str) -> Iterator[LogFinding]:
    """Yield how much host memory vLLM's offloaded weights take, and what offloading does not
    help."""
    if re.search(NO_ROOM, text):
        yield LogFinding("weights_alone", {})
    match = re.search(r"cpu-offload-gb[= ](\d{1,4})\b", text)
    if match is None:
        yield LogFinding("pinned", {})
        return
    least, most = (round(int(match[1]) * GIB * each) for each in PINNED)
    yield LogFinding("pinned.sized", {"least_bytes": least, "most_bytes": most})


# Figures that a program logged before it gave up


def _of_budgets(text: str) -> Iterator[LogFinding]:
    model = re.search(TRT_MODEL, text)
    free = re.search(rf"{TRT_FREE}\s*([\d.]{{1,8}})", text)
    total = re.search(r"Total GPU memory \(GiB\):\s*([\d.]{1,8})", text)
    if model and free and total and re.search(TRT_CACHE, text):
        yield LogFinding(
            "capacity",
            {
                "model_bytes": round((float(model[1]) - float(model[2])) * GIB),
                "free_bytes": round(float(free[1]) * GIB),
                "total_bytes": round(float(total[1]) * GIB),
            },
        )
    wired = re.search(WIRED, text)
    if wired:
        whole, need, limit = (float(wired[name]) for name in ("whole", "need", "limit"))
        if limit < need < whole - LEFT_TO_MACOS:
            values = {"need_bytes": round(need * GIB), "limit_bytes": round(limit * GIB)}
            raised = round(whole) - LEFT_TO_MACOS
            yield LogFinding("wired", {**values, "megabytes": str(raised * 1024)})


# Our answers compared with the text


def _of_answers(
    text: str, starts: Sequence[ServerStart], reports: Sequence[tuple[str, Report]]
) -> Iterator[LogFinding]:
    in_log = any("tokens" in start.counts for start in starts)  # by the log itself
    for model, report in reports:
        listed = re.search(LISTED.format(re.escape(model)), text)
        if listed and report.derived.get("ollama_ps_bytes"):
            yield from _listed(report, round(float(listed[1]) * GB))
        by_vllm = report.workload.get("engine") == "vllm" and LOGGED in text
        if by_vllm and report.verdict is None and not in_log:
            yield LogFinding("waits.unknown", {})


def _listed(report: Report, showed: int) -> Iterator[LogFinding]:
    """Yield how the size in `ollama ps` compares with our estimate, and whether that is normal."""
    shown_by_us = int(report.derived["ollama_ps_bytes"])
    values = {"showed_bytes": showed, "told_bytes": shown_by_us}
    if abs(showed - shown_by_us) > IN_ORDER * shown_by_us:
        yield LogFinding("listed", values)
        return
    names = {"weights": "weights", "kv_cache": "cache", "activations": "graph"}
    cards = gpus_of(report)
    parts = {f"{short}_bytes": predicted(cards, name) for name, short in names.items()}
    yield LogFinding("listed.order", {**values, **parts})


def stored(findings_before: Sequence[LogFinding], model: str, each: int) -> Iterator[LogFinding]:
    """Yield how many tokens a cache in host memory holds, at `each` bytes per token."""
    for finding in findings_before:
        if finding.key == "segments" and each:
            size = int(finding.values["pool_bytes"])
            values = {
                "pool_bytes": size,
                "model": model,
                "rate_bytes": each,
                "tokens": size // each,
            }
            yield LogFinding("segments.tokens", values)


def least(model: str, report: Report, task: str) -> Iterator[LogFinding]:
    """Yield the bytes of a model's weights as published and in 4 bits; for training also the bytes
    that Adam needs."""
    rows = {row.dtype: row for row in report.table or ()}
    form = str(report.workload.get("quantization") or report.workload.get("dtype"))
    small = SMALL.get(task, "")  # none for pipelines: their components are quantized separately
    if {form, small, "fp8"} <= rows.keys():
        values = {"model": model, "form": form, "size_bytes": rows[form].total_bytes}
        yield _smaller(values, small, rows[small].total_bytes, rows["fp8"].total_bytes)
    if task == "train" and "bfloat16" in rows:
        adam = rows["bfloat16"].training_adam_bytes
        yield LogFinding("least.trained", {"model": model, "adam_bytes": adam})


def _smaller(values: Mapping[str, Any], small: str, least: int, half: int) -> LogFinding:
    """Return the bytes of published weights, and of a smaller format if that is less."""
    if least >= values["size_bytes"]:
        return LogFinding("least.packed", values)
    packed = {**values, "small_form": small, "small_bytes": least}
    if values["form"] not in SIXTEEN:
        return LogFinding("least", packed)
    return LogFinding("least.wide", {**packed, "half_bytes": half})


def text_of(finding: LogFinding, words: Any) -> str:
    """Return a finding's sentence, with sizes in the screen's unit."""
    values = {
        name.removesuffix("_bytes"): _shown(name, value, words)
        for name, value in finding.values.items()
    }
    return str(words(f"finding.{finding.key}", **values))


def _shown(name: str, value: Any, words: Any) -> str:
    if name == "rate_bytes":
        return f"{value / KIB:.0f} KiB"
    if name.endswith("_bytes"):
        return str(words.size(value))
    grouped = isinstance(value, int) and name not in PASTED
    return f"{value:,}" if grouped else str(value)
