"""Why memory ran out: rules over the wording, the place and the figures, the first that holds.

A rule that the figures decide comes before one that a traceback suggests: where others hold half
of the card, the line that happened to ask last is not to blame. What no rule decides is answered
by what the wording alone means (`means` of wordings.jsonl), or by what is likeliest for such a
message, and said to be so; or by nothing.

A rule names its conclusion, a line of conclusions.jsonl: the cause, how sure it is (record.py),
what else it may be, and the sentence that says why where that has another name.
"""

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from weighbridge.base.errors import WeighbridgeError
from weighbridge.base.records import replace
from weighbridge.base.units import GIB, MIB
from weighbridge.files.oom.changes import trains
from weighbridge.files.oom.figures import in_process, others, share_between, spilled, unallocated
from weighbridge.files.oom.reading import PLACES
from weighbridge.files.oom.record import Judged, OomReading, table

Settings = Mapping[str, Any]
Rule = Callable[[OomReading, Settings], Judged | None]

# Shares of a device, in percent. Fragmentation's is that of the project's definition of the cause;
# the others are assumed, between the messages whose threads tell the cause.
FRAGMENTED = 10
OTHERS_HOLD = 25
OTHERS_MAY = 20  # where others may be to blame, too
FREE, ROOM = 10, 4  # percent of a card, or times what was asked for: there was room (assumed)
CONTEXT = GIB  # a process's own context and libraries outside the allocator, at most (assumed)
CROWDED = 15  # held before a server starts; less is what drivers and desktops hold
FULL = 90
UNUSED = 0.5  # of what was never freed: nothing but weights went to the card so far
SMALL = 2  # a request of one weight
HIGH = 0.92  # vLLM's own default from 0.12; a share above it was asked for
LOW = 0.8
LONG = 16_384  # tokens of a context whose cache is larger than many a model

MAKERS = {"torch": "NVIDIA", "torch-rocm": "AMD", "torch-xpu": "Intel", "torch-npu": "Huawei"}
USUAL = ("weights_too_big", "activations", "other_process", "host_memory")
POSSIBLE = {  # where nothing tells, by the program
    "llama.cpp": ("kv_cache_too_big", "weights_too_big", "compute_buffer"),
    "ollama": ("weights_too_big", "kv_cache_too_big", "compute_buffer"),
    "tensorrt-llm": ("kv_cache_too_big", "weights_too_big", "activations"),
    "sglang": ("kv_cache_too_big", "request_slots"),
    "jax": ("activations", "weights_too_big", "other_process"),
    "mlx": ("kv_cache_too_big", "activations", "weights_too_big"),
}
CAUSES = {place: cause for place, cause, _ in PLACES}


@cache
def conclusions() -> Mapping[str, Judged]:
    """Return the conclusions by name, from conclusions.jsonl."""
    return {
        line["name"]: Judged(
            line["cause"],
            line.get("why", line["name"]),
            line["sure"],
            tuple(line.get("others", ())),
        )
        for line in table("conclusions")
    }


def conclude(name: str, **figures: int) -> Judged:
    """Return the conclusion `name`, with the figures in its sentence: bytes, or percent."""
    return replace(conclusions()[name], figures=figures)


def judge(reading: OomReading, settings: Settings) -> Judged:
    """Return the cause of an out-of-memory message. The user's `settings` override those in the
    log."""
    return with_others(reading, _judged(reading, {**reading.stated, **settings}))


def _judged(reading: OomReading, known: Settings) -> Judged:
    card = reading.wording.startswith("torch") and not reading.means
    for rule in RULES.get(reading.wording, ON_A_CARD if card else ()):
        judged = rule(reading, known)
        if judged is not None:
            return judged
    means = reading.means or ("comfyui" if reading.engine == "comfyui" else "")
    if means:
        return conclude(means)
    return Judged(None, "unknown", "unknown", POSSIBLE.get(reading.tool, USUAL))


def with_others(reading: OomReading, judged: Judged) -> Judged:
    """Return `judged` with other programs as a further possible cause, if they hold at least a
    fifth of the card."""
    capacity, theirs = reading.size("capacity"), others(reading)
    if not capacity or theirs is None or theirs * 100 < capacity * OTHERS_MAY:
        return judged
    if theirs < CONTEXT or "other_process" in (judged.cause, *judged.others):
        return judged
    return replace(judged, others=("other_process", *judged.others))


def without_cache(judged: Judged) -> Judged:
    """Return `judged` without the KV cache as a possible cause, which training steps do not
    have."""
    others = tuple(cause for cause in judged.others if cause != "kv_cache_too_big")
    return replace(judged, others=others)


# vLLM and SGLang


def _server_memory_fraction(known: Settings, reading: OomReading) -> float | None:
    """Return the fraction of the device's memory that the server may use, None if unknown."""
    for value in (
        reading.parsed.get("utilization"),
        known.get("gpu_memory_utilization"),
        known.get("mem_fraction_static"),
    ):
        if isinstance(value, int | float):
            return float(value)
    return None


def _is_reserving_server(reading: OomReading, known: Settings) -> bool:
    """Return whether the program is a server that reserves a fraction of the device when it
    starts."""
    engine = known.get("engine") or reading.engine
    return engine in ("vllm", "sglang") or (_server_memory_fraction(known, reading) or 0) > HIGH


def _started_short(reading: OomReading, known: Settings) -> Judged | None:
    capacity, free = reading.size("capacity"), reading.size("free")
    if not capacity or free is None:
        return None
    crowded = (capacity - free) * 100 > capacity * CROWDED
    name = "startup.others" if crowded else "startup.share"
    return conclude(name, others=capacity - free, free=free)


def _no_blocks(reading: OomReading, known: Settings) -> Judged:
    share = _server_memory_fraction(known, reading)
    return conclude("share.low" if share is not None and share < LOW else "no_blocks")


def _sampler(reading: OomReading, known: Settings) -> Judged:
    return conclude(
        "sampler.share" if (_server_memory_fraction(known, reading) or 0) > HIGH else "sampler"
    )


def _sglang(reading: OomReading, known: Settings) -> Judged:
    if "Capturecudagraphfailed" in reading.message:
        return conclude("cuda_graphs")
    if "alloc_req_slots" in reading.message:
        return conclude("request_slots")
    if "increase--mem-fraction-static" in reading.message:
        return _no_blocks(reading, known)
    if "leavenoGPUmemory" in reading.message or "profiled_tokens" in reading.parsed:
        # SGLang prints the fraction that would be enough: one above 1 cannot be set
        least = reading.parsed.get("least_share")
        return conclude("share.low") if least and least < HIGH else _no_blocks(reading, known)
    requested, there = (
        reading.parsed.get(name) for name in ("requested_tokens", "available_tokens")
    )
    room = requested is not None and there is not None and requested <= there
    return conclude("pool.room" if room else "pool")


# llama.cpp and Ollama


def _ggml(reading: OomReading, known: Settings) -> Judged | None:
    text = reading.message
    if "exceedsdevicebuffersizelimit" in text:
        return conclude("buffer_limit")
    if "bufferforkvcache" in text:
        return conclude("ggml.kv")
    if "retryingwithoutpipelineparallelism" in text and "n_slots" in text:
        return conclude("ggml.retried")
    if "ggml_gallocr_reserve" in text or "computebuffers" in text:
        return conclude("ggml.compute")
    if "alloc_tensor_range" in text or "unabletoallocate" in text:
        return conclude("ggml.weights")
    return None


def _metal(reading: OomReading, known: Settings) -> Judged | None:
    """Return the KV cache as the cause if the weights take less than half of the limit and the
    context is long."""
    capacity, loaded = reading.size("capacity"), reading.size("allocated")
    if (reading.parsed.get("n_ctx") or 0) < LONG or not capacity or loaded is None:
        return None
    return conclude("metal.context") if 2 * loaded < capacity else None


def _mlx(reading: OomReading, known: Settings) -> Judged | None:
    """Return the weights as the cause if mlx-lm warned that they nearly fill macOS's limit for the
    GPU: it warns from 90 % on."""
    limit, weights = reading.size("capacity"), reading.size("allocated")
    return conclude("mlx.weights", weights=weights, limit=limit) if weights and limit else None


def _ollama(reading: OomReading, known: Settings) -> Judged | None:
    """Return host memory as the cause if the message states what it needs there; the message has no
    figures of the card."""
    needed = reading.size("needed_host")
    return None if needed is None else conclude("ollama", needed=needed)


# Bare errors, and other programs


def _bare(reading: OomReading, known: Settings) -> Judged | None:
    if reading.virtual:
        return conclude("wsl")
    if reading.place:
        return _by_traceback_phase(reading, known)
    return conclude("outside_share") if _is_reserving_server(reading, known) else None


def _xla(reading: OomReading, known: Settings) -> Judged | None:
    if "onhost" in reading.message:
        return conclude("pinned")
    parameter, temp = reading.size("parameter") or 0, reading.size("temp") or 0
    whole, requested = reading.size("total"), reading.size("requested")
    if not whole or requested is None or whole < 64 * MIB:
        return None
    if temp and abs(requested - temp) * 100 <= temp:
        return conclude("xla.temp", temp=temp)
    if parameter * 2 > whole:
        return conclude("xla.parameters", parameter=parameter)
    return conclude("xla.live")


def _dataloader(reading: OomReading, known: Settings) -> Judged:
    return conclude("worker_killed" if "signal:Killed" in reading.message else "shared_memory")


def _tensorrt(reading: OomReading, known: Settings) -> Judged | None:
    return conclude("trt.kv") if "maxTokensInPagedKvCache" in reading.message else None


# PyTorch on a card


def _others(reading: OomReading, known: Settings) -> Judged | None:
    capacity, theirs = reading.size("capacity"), others(reading)
    if not capacity or theirs is None or theirs < max(CONTEXT, capacity * OTHERS_HOLD // 100):
        return None
    if (reading.size("requested") or 0) > capacity:
        return None
    return conclude("others", others=theirs)


def _too_large(reading: OomReading, known: Settings) -> Judged | None:
    return larger_than(reading.size("capacity") or _card(reading, known), reading, known)


def larger_than(capacity: int, reading: OomReading, known: Settings) -> Judged | None:
    """Return one tensor as the cause if the request exceeds `capacity`, the bytes of the device or
    of the largest such card."""
    requested = reading.size("requested")
    if requested is None or requested <= capacity:
        return None
    if reading.size("allocated") == 0:
        return _first_allocation(reading, known)
    name = f"one_tensor.{CAUSES.get(reading.place)}"
    return conclude(name if name in conclusions() else "one_tensor")


def _card(reading: OomReading, known: Settings) -> int:
    """Return the bytes of the user's card, else of its vendor's largest card."""
    from weighbridge.machines.accelerators.names import find
    from weighbridge.machines.accelerators.parts import parts

    try:
        named = [find(str(known["gpu"])).part] if known.get("gpu") else []
    except WeighbridgeError:
        named = []
    maker = MAKERS.get(reading.tool)
    largest = (part for part in parts().values() if maker in (None, part.vendor))
    return max(part.total.bytes.high for part in named or largest)


def _first_allocation(reading: OomReading, known: Settings) -> Judged | None:
    """Return the driver as the cause if the very first allocation fails."""
    if reading.size("allocated") != 0 or not reading.size("requested"):
        return None
    return conclude("first_allocation")


def _reached_printed_limit(reading: OomReading) -> bool:
    """Return whether the process reached a limit that the message states. False for MPS, which
    always states one."""
    allowed, mine = reading.size("allowed"), in_process(reading)
    requested = reading.size("requested") or 0
    if not allowed or mine is None or reading.tool == "torch-mps":
        return False
    return (reading.size("free") or 0) >= requested or mine + requested > allowed


def _limit_with_room(reading: OomReading, known: Settings) -> Judged | None:
    """Return a limit by the user or the driver as the cause, if the device has room for the
    request."""
    free, requested = reading.size("free"), reading.size("requested")
    if _reached_printed_limit(reading):
        return conclude("cap.said", allowed=reading.size("allowed") or 0)
    if free is None or requested is None or free < requested:
        return None
    if free * 100 < (reading.size("capacity") or 0) * FREE and free < ROOM * requested:
        return None  # the card is full: hardly more than the request is free
    share = share_between(reading)
    return conclude("refused") if share is None else conclude("cap.share", share=share)


def _fragmented(reading: OomReading, known: Settings) -> Judged | None:
    capacity, requested = reading.size("capacity"), reading.size("requested")
    cached = unallocated(reading)
    if not capacity or requested is None or cached is None:
        return None
    if cached < requested or cached * 100 < capacity * FRAGMENTED or spilled(reading):
        return None
    return conclude("fragmentation", unallocated=cached)


def _by_traceback_phase(reading: OomReading, known: Settings) -> Judged | None:
    """Return the likely cause by the run's phase in the traceback: optimizer states in the first
    step, CUDA graphs during capture."""
    cause = CAUSES.get(reading.place)
    if cause is None:
        return None
    beside = tuple(c for c in ("weights_too_big", "activations") if c != cause)
    return Judged(cause, f"place.{reading.place}", "likely", beside)


def _comfy(reading: OomReading, known: Settings) -> Judged | None:
    """Return the stage whose model ComfyUI loaded last as the cause; the sampling step, if that
    model was loaded in part."""
    loading = str(reading.parsed.get("loading") or "")
    if re.search("VAE|Autoencod", loading):
        return conclude("comfyui.decode")
    if re.search("Clip|T5|TEModel|TE_", loading):
        return conclude("comfyui.encode")
    return conclude("comfyui.partly") if reading.size("in_part") else None


def _only_weights_grew(reading: OomReading, known: Settings) -> Judged | None:
    """Return the weights as the cause: the card is full, nothing was freed so far, and the request
    is small."""
    capacity, requested, mine = (
        reading.size("capacity"),
        reading.size("requested"),
        in_process(reading),
    )
    if not capacity or requested is None or mine is None or requested * 100 > capacity * SMALL:
        return None
    if trains(reading, known):  # what a step keeps grows as weights do
        return None
    cached = unallocated(reading) or 0
    grown = mine * 100 >= capacity * FULL and cached * 100 <= capacity * UNUSED
    return conclude("only_grew") if grown or spilled(reading) else None


def _server_fraction_too_large(reading: OomReading, known: Settings) -> Judged | None:
    """Return the server's memory fraction as the cause: after its cache is allocated, nothing else
    has room."""
    return conclude("outside_share.card") if _is_reserving_server(reading, known) else None


def _filled_by_step(reading: OomReading, known: Settings) -> Judged | None:
    """Return a step's tensors as the cause, if this program itself fills the card."""
    if reading.size("allocated") is None and reading.wording != "torch-mps-buffer":
        return None
    free, requested, cached = reading.size("free"), reading.size("requested"), unallocated(reading)
    if not free or not cached or requested is None or free + cached < requested:
        return conclude("full")
    return conclude("full_in_pieces", free=free, unallocated=cached)


ON_A_CARD: tuple[Rule, ...] = (
    _fragmented,
    _others,
    _too_large,
    _first_allocation,
    _limit_with_room,
    _comfy,
    _by_traceback_phase,
    _only_weights_grew,
    _server_fraction_too_large,
    _filled_by_step,
)
RULES: Mapping[str, tuple[Rule, ...]] = {  # by wording
    "vllm-startup": (_started_short,),
    "vllm-no-blocks": (_no_blocks,),
    "vllm-sampler": (_sampler,),
    "sglang": (_sglang,),
    "tensorrt-llm": (_tensorrt,),
    "ggml-cuda": (_ggml,),
    "ggml-cpu": (_ggml,),
    "ggml-vulkan": (_ggml,),
    "ggml-metal": (_ggml, _metal),
    "mlx-metal": (_mlx,),
    "torch-mps-buffer": (_by_traceback_phase, _filled_by_step),
    "jax": (_xla,),
    "cuda-error": (_bare,),
    "dataloader": (_dataloader,),
    "ollama": (_ollama,),
    "comfyui": (_comfy, _by_traceback_phase),
}
