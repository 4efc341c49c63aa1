"""A message beside the estimate of its model: what has the size that failed, and what fills.

The request is compared with tensors that the model has, with its logits, with the matrix of its
attention and with its cache: a figure of the message is known to half of its last digit, and
PyTorch asks the driver for whole segments. Where one agrees, it names the component.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from weighbridge.base.memory import Device
from weighbridge.base.records import replace
from weighbridge.base.sentences import sentence
from weighbridge.base.units import GIB, KIB, MIB, align_up, human
from weighbridge.files.oom.causes import larger_than, without_cache
from weighbridge.files.oom.record import Judged, Match, OomReading
from weighbridge.machines.allocator.settings import parse
from weighbridge.memory.report import Report
from weighbridge.models.checkpoint.model import Model

SEGMENT = 2 * MIB  # c10/core/AllocatorConfig.h: kRoundLarge
# PYTORCH_CUDA_ALLOC_CONF of unsloth_zoo/__init__.py
OF_UNSLOTH = parse("roundup_power2_divisions:[32:256,64:128,256:64,>:32]")
SMALLEST = 20 * MIB  # kLargeBuffer: requests up to 10 MiB get this, or 2 MiB
WIDTHS = {2: "2 bytes", 4: "4 bytes"}
FILLED = 90  # percent of a device that weights alone fill
REQUESTED = ("logits", "attention_matrix", "kv_cache")  # parts that one request alone explains
CAUSE_OF = {
    "kv_cache": "kv_cache_too_big",
    "recurrent_state": "kv_cache_too_big",
    "weights": "weights_too_big",
    "logits": "logits",
    "activations": "activations",
    "temporaries": "activations",
    "optimizer_states": "optimizer_states",
    "gradients": "optimizer_states",
    "master_weights": "optimizer_states",
    "communication": "communication_buffers",
    "cuda_graphs": "cuda_graphs",
}
OPEN = ("likely", "unknown")
DECIDED = ("one_tensor", "refused", "cap.share")  # by figures that no estimate takes back


def matches(reading: OomReading, report: Report, model: Model) -> tuple[Match, ...]:
    """Return the components that are as large as the failed request or the stated need, and the one
    that fills the device."""
    return (
        *_cache_of_needed_size(reading, report),
        *_of_requested_size(reading, report, model),
        *_of_device(report),
    )


def _requested_component(matches: tuple[Match, ...]) -> Match | None:
    """Return the component that the failed request was for, None if it does not show the cause."""
    first = next((m for m in matches if m.matches == "request"), None)
    return first if first is not None and first.component in REQUESTED else None


def rejudged(
    reading: OomReading, judged: Judged, report: Report, causes: tuple[Match, ...]
) -> Judged:
    """Return the cause after comparing it with the estimate; a cause that the message states or
    proves stays. A training step has no cache that could be too big."""
    if report.task == "train":
        judged = without_cache(judged)
    if judged.sure not in OPEN and judged.why != "one_tensor":
        return judged
    larger = larger_than(_capacity(reading, report), reading, report.workload)
    judged = larger if larger is not None and not judged.why.startswith("one_tensor") else judged
    request = None if overfull(reading, report) else _requested_component(causes)
    if request is not None:
        cause = CAUSE_OF.get(request.component, request.component)
        return _as(judged, cause, "model.request", request.nbytes)
    if judged.why in DECIDED:
        return judged
    return _cause_by_size(reading, judged, report)


def _cause_by_size(reading: OomReading, judged: Judged, report: Report) -> Judged:
    """Return the cause by size: the weights if they fill the device, else the largest component if
    the estimate does not fit. If the program got past loading, the weights fit."""
    if judged.why.startswith("place.") and reading.place != "load":
        return judged
    weights = report.fullest.binding().of("weights").expected
    if weights * 100 > _capacity(reading, report) * FILLED:
        return _as(judged, "weights_too_big", "model.weights", weights)
    if report.verdict is None or report.verdict.fits != "no" or judged.why.startswith("place."):
        return judged
    name, nbytes = _largest(report.fullest, without_weights=report.task == "train")
    return _as(judged, CAUSE_OF[name], "model.fills", nbytes) if name in CAUSE_OF else judged


def _capacity(reading: OomReading, report: Report) -> int:
    """Return the bytes of the device; 2**60, more than any device has, if unknown."""
    named = report.verdict.usable_bytes if report.verdict is not None else 0
    return reading.size("capacity") or named or 1 << 60


def overfull(reading: OomReading, report: Report) -> bool:
    """Return whether the weights alone exceed the device and the program did not get past loading
    them."""
    weights = report.fullest.binding().of("weights").low
    return reading.place in ("", "load") and weights > _capacity(reading, report)


def mismatch(reading: OomReading, report: Report) -> tuple[str, ...]:
    """Return a warning if the program got further than the given settings would allow."""
    weights = report.fullest.binding().of("weights").expected
    if reading.place in ("", "load") or weights <= _capacity(reading, report):
        return ()
    return (sentence("oom.came_further", weights=human(weights)),)


def _as(judged: Judged, cause: str, why: str, nbytes: int) -> Judged:
    others = tuple(c for c in dict.fromkeys((judged.cause, *judged.others)) if c and c != cause)
    return replace(
        judged, cause=cause, why=why, sure="computed", others=others, figures={"model": nbytes}
    )


def _largest(device: Device, *, without_weights: bool = False) -> tuple[str, int]:
    """Return (name, bytes) of the largest component at the peak; `without_weights` if the weights
    fit and the question is what a step adds."""
    sums: dict[str, int] = {}
    for c in device.binding().components:
        if without_weights and c.name == "weights":
            continue
        sums[c.name] = sums.get(c.name, 0) + c.bytes.expected
    return max(sums.items(), key=lambda item: item[1], default=("weights", 0))


def _of_device(report: Report) -> Iterator[Match]:
    """Yield the largest component at the peak, as the one that fills the device."""
    name, nbytes = _largest(report.fullest)
    parts = (c for c in report.fullest.binding().components if c.name == name)
    part = max(parts, key=lambda c: c.bytes.expected)
    yield Match(name, nbytes, part.formula, "device")


def _cache_of_needed_size(reading: OomReading, report: Report) -> Iterator[Match]:
    """Yield one request's KV cache, if it has the size that the message says is needed."""
    needed = reading.size("needed_kv")
    need = report.derived.get("kv_cache_bytes_per_request")
    if needed and isinstance(need, int) and _prints_as(needed, need):
        yield Match("kv_cache", need, _one_request(report, need), "needed")


def _one_request(report: Report, nbytes: int) -> str:
    """Return the formula of one request's cache: tokens x bytes, if that is `nbytes` exactly."""
    context, each = report.workload.get("context"), report.derived.get("kv_cache_bytes_per_token")
    if context and each and context * each == nbytes:
        return f"{context:,} tokens x {each:,} B"
    return "one request of the whole context"


def _of_requested_size(reading: OomReading, report: Report, model: Model) -> Iterator[Match]:
    """Yield the first component or tensor of the model with the size of the failed request."""
    requested = reading.size("requested")
    if requested is None or requested <= SMALLEST:
        return
    for component, nbytes, formula in _candidates(report, model):
        if any(_prints_as(requested, each) for each in _asked_for(reading, nbytes)):
            yield Match(component, nbytes, formula, "request")
            return


def _asked_for(reading: OomReading, nbytes: int) -> tuple[int, ...]:
    """Return the bytes that PyTorch may request from the driver for a tensor: whole segments, and
    with Unsloth before torch 2.9 also rounded to steps between two powers of two."""
    if not reading.wording.startswith("torch") or "cpu" in reading.wording:
        return (nbytes,)
    rounded = (OF_UNSLOTH.round_size(nbytes),) if reading.engine == "unsloth" else ()
    return tuple(align_up(each, SEGMENT) for each in (nbytes, *rounded))


def _prints_as(printed: int, nbytes: int) -> bool:
    """Return whether `nbytes` shows as `printed` with two decimals (one in newer vLLM)."""
    unit = GIB if printed >= GIB else MIB if printed >= MIB else KIB
    return abs(printed - nbytes) <= unit // 200 + 1


def _candidates(report: Report, model: Model) -> Iterator[tuple[str, int, str]]:
    shape = _shape(model)
    batch, length = _tokens(report.workload)
    vocabulary, heads = shape.get("vocab_size"), shape.get("num_attention_heads")
    inner = shape.get("intermediate_size") if report.task == "train" else None
    for width in WIDTHS:
        if vocabulary and length:
            formula = f"{batch} x {length:,} tokens x {vocabulary:,} x {width} B"
            yield "logits", batch * length * vocabulary * width, formula
            yield (
                "logits",
                batch * (length - 1) * vocabulary * width,
                f"{formula}, less the last token",
            )
        if heads and length:
            formula = f"{batch} x {heads} heads x {length:,} x {length:,} x {width} B"
            yield "attention_matrix", batch * heads * length * length * width, formula
        if inner and length:
            formula = f"{batch} x {length:,} tokens x {inner:,} x {width} B"
            yield "activations", batch * length * inner * width, formula
    yield from _caches(report)
    yield from _tensors(model)


def _caches(report: Report) -> Iterator[tuple[str, int, str]]:
    for c in report.fullest.binding().components:
        if c.name == "kv_cache":
            yield "kv_cache", c.bytes.expected, c.formula


def _tensors(model: Model) -> Iterator[tuple[str, int, str]]:
    """Yield (component, bytes, formula) of each weight, in 2 and in 4 bytes per element."""
    for part in model.parts:
        for param, _ in part.blueprint.distinct():
            for width in WIDTHS:
                formula = f"{param.name}: {' x '.join(f'{n:,}' for n in param.shape)} x {width} B"
                yield "weights", param.numel * width, formula


def _shape(model: Model) -> Mapping[str, int]:
    """Return the vocabulary size, heads and MLP size in a language model's config, by name."""
    sizes: dict[str, int] = {}
    for part in model.parts:
        text = part.config.get("text_config")
        for config in (part.config, text if isinstance(text, Mapping) else {}):
            for key in ("vocab_size", "num_attention_heads", "intermediate_size"):
                if isinstance(config.get(key), int):
                    sizes[key] = config[key]
    return sizes


def _tokens(workload: Mapping[str, Any]) -> tuple[int, int]:
    length = workload.get("seq_len") or workload.get("prompt_len") or workload.get("context") or 0
    return int(workload.get("batch_size") or 1), int(length)
