"""Why memory ran out: rules over the wording, the place and the figures, the first that holds.

A rule that the figures decide comes before one that a traceback suggests: where others hold half
of the card, the line that happened to ask last is not to blame. What no rule decides is answered
by what is likeliest for such a message, and said to be so; or by nothing.
"""

from collections.abc import Callable, Mapping
from typing import Any

from weighbridge.oom.figures import held, others, share_between, spilled, unallocated
from weighbridge.oom.record import Found, Judged
from weighbridge.units import GIB, MIB

Rule = Callable[[Found, Mapping[str, Any]], Judged | None]

# Shares of a device, in percent. Fragmentation's is that of the project's definition of the cause;
# the others are assumed, between the messages whose threads tell the cause.
FRAGMENTED = 10
OTHERS_HOLD = 25
CONTEXT = GIB  # a process's own context and libraries outside the allocator, at most (assumed)
CROWDED = 15  # held before a server starts; less is what drivers and desktops hold
FULL = 90
UNUSED = 0.5  # of what was never freed: nothing but weights went to the card so far
SMALL = 2  # a request of one weight
HIGH = 0.92  # vLLM's own default from 0.12; a share above it was asked for
LOW = 0.8
LONG = 16_384  # tokens of a context whose cache is larger than many a model

USUAL = ("weights_too_big", "activations", "other_process", "host_memory")
POSSIBLE = {  # where nothing tells, by the program
    "llama.cpp": ("kv_cache_too_big", "weights_too_big", "compute_buffer"),
    "ollama": ("weights_too_big", "kv_cache_too_big", "compute_buffer"),
    "tensorrt-llm": ("kv_cache_too_big", "weights_too_big", "activations"),
    "sglang": ("kv_cache_too_big", "request_slots"),
    "jax": ("activations", "weights_too_big", "other_process"),
}
PLACES = {
    "optimizer": "optimizer_states",
    "cuda_graph": "cuda_graphs",
    "kv_cache": "kv_cache_too_big",
    "sampler": "logits",
    "logits": "logits",
    "attention": "attention_matrix",
    "saving": "checkpoint_saving",
    "vae": "vae_decode",
    "gather": "communication_buffers",
    "load": "weights_too_big",
    "backward": "activations",
}
TENSOR = ("attention_matrix", "logits")


def judge(found: Found, settings: Mapping[str, Any]) -> Judged:
    """The cause of `found`, under the settings that are known."""
    known = {**found.stated, **settings}
    rules = BY_WORDING.get(found.wording, ON_A_CARD if found.wording.startswith("torch") else ())
    for rule in rules:
        judged = rule(found, known)
        if judged is not None:
            return judged
    return Judged(None, "unknown", "unknown", POSSIBLE.get(found.tool, USUAL))


def _says(cause: str, why: str = "", *others: str) -> Rule:
    """The wording alone tells."""
    return lambda found, known: Judged(cause, why or cause, "said", others)


def _likely(cause: str, why: str, *others: str) -> Rule:
    return lambda found, known: Judged(cause, why, "likely", others)


# vLLM and SGLang


def _share(known: Mapping[str, Any], found: Found) -> float | None:
    for value in (
        found.parsed.get("utilization"),
        known.get("gpu_memory_utilization"),
        known.get("mem_fraction_static"),
    ):
        if isinstance(value, int | float):
            return float(value)
    return None


def _serves(found: Found, known: Mapping[str, Any]) -> bool:
    """Whether a server ran that takes a share of the device before it answers."""
    engine = known.get("engine") or found.engine
    return engine in ("vllm", "sglang") or (_share(known, found) or 0) > HIGH


def _started_short(found: Found, known: Mapping[str, Any]) -> Judged | None:
    capacity, free = found.size("capacity"), found.size("free")
    if not capacity or free is None:
        return None
    figures = {"others": capacity - free, "free": free}
    if (capacity - free) * 100 > capacity * CROWDED:
        return Judged(
            "other_process", "startup.others", "computed", ("utilization_set_too_high",), figures
        )
    return Judged(
        "utilization_set_too_high", "startup.share", "computed", ("other_process",), figures
    )


def _no_blocks(found: Found, known: Mapping[str, Any]) -> Judged | None:
    share = _share(known, found)
    if share is not None and share < LOW:
        return Judged("utilization_set_too_low", "share.low", "likely", ("weights_too_big",))
    return Judged(
        "weights_too_big", "no_blocks", "likely", ("utilization_set_too_low", "other_process")
    )


def _sampler(found: Found, known: Mapping[str, Any]) -> Judged | None:
    if (_share(known, found) or 0) > HIGH:
        return Judged("utilization_set_too_high", "sampler.share", "likely", ("logits",))
    return Judged("logits", "sampler", "said", ("utilization_set_too_high",))


def _sglang(found: Found, known: Mapping[str, Any]) -> Judged | None:
    if "Capturecudagraphfailed" in found.message:
        return Judged("cuda_graphs", "cuda_graphs", "said", ("utilization_set_too_high",))
    if "alloc_req_slots" in found.message:
        return Judged("request_slots", "request_slots", "said")
    if "increase--mem-fraction-static" in found.message:
        return _no_blocks(found, known)
    asked, there = (found.parsed.get(name) for name in ("requested_tokens", "available_tokens"))
    if asked is not None and there is not None and asked <= there:
        return Judged(None, "pool", "unknown", ("kv_cache_too_big", "request_slots"))
    return Judged("kv_cache_too_big", "pool", "likely", ("request_slots",))


# llama.cpp


def _ggml(found: Found, known: Mapping[str, Any]) -> Judged | None:
    text = found.message
    if "exceedsdevicebuffersizelimit" in text:
        return Judged("device_limit", "buffer_limit", "said", ("compute_buffer",))
    if "bufferforkvcache" in text:
        return Judged("kv_cache_too_big", "ggml.kv", "said")
    if "ggml_gallocr_reserve" in text or "computebuffers" in text:
        return Judged("compute_buffer", "ggml.compute", "said", ("kv_cache_too_big",))
    if "alloc_tensor_range" in text or "unabletoallocate" in text:
        return Judged("weights_too_big", "ggml.weights", "said")
    return None


def _metal(found: Found, known: Mapping[str, Any]) -> Judged | None:
    """Weights fit with room to spare, and the context is long: its cache fills the rest."""
    capacity, loaded = found.size("capacity"), found.size("allocated")
    if (found.parsed.get("n_ctx") or 0) < LONG or not capacity or loaded is None:
        return None
    return (
        Judged("kv_cache_too_big", "metal.context", "likely", ("compute_buffer",))
        if 2 * loaded < capacity
        else None
    )


# bare errors


def _bare(found: Found, known: Mapping[str, Any]) -> Judged | None:
    if found.virtual:
        return Judged("host_memory", "wsl", "likely", ("weights_too_big", "other_process"))
    if found.place:
        return _place(found, known)
    if _serves(found, known):
        return Judged(
            "utilization_set_too_high", "outside_share", "likely", ("cuda_graphs", "other_process")
        )
    return None


def _xla(found: Found, known: Mapping[str, Any]) -> Judged | None:
    if "onhost" in found.message:
        return Judged("host_memory", "pinned", "said")
    sizes = {name: found.size(name) or 0 for name in ("parameter", "live_out", "temp")}
    whole, requested = found.size("total"), found.size("requested")
    if not whole or requested is None or whole < 64 * MIB:
        return None
    if sizes["temp"] and abs(requested - sizes["temp"]) * 100 <= sizes["temp"]:
        return Judged("activations", "xla.temp", "computed", figures={"temp": sizes["temp"]})
    if sizes["parameter"] * 2 > whole:
        return Judged(
            "weights_too_big",
            "xla.parameters",
            "computed",
            figures={"parameter": sizes["parameter"]},
        )
    return Judged("activations", "xla.live", "likely")


def _shm(found: Found, known: Mapping[str, Any]) -> Judged | None:
    if "signal:Killed" in found.message:
        return Judged("host_memory", "worker_killed", "said", ("shared_memory",))
    return Judged("shared_memory", "shared_memory", "said", ("host_memory",))


def _trt(found: Found, known: Mapping[str, Any]) -> Judged | None:
    if "maxTokensInPagedKvCache" in found.message:
        return Judged("kv_cache_too_big", "trt.kv", "said")
    return None


# PyTorch on a card


def _others(found: Found, known: Mapping[str, Any]) -> Judged | None:
    capacity, theirs, requested = found.size("capacity"), others(found), found.size("requested")
    if not capacity or theirs is None or theirs < max(CONTEXT, capacity * OTHERS_HOLD // 100):
        return None
    if (requested or 0) > capacity:
        return None
    return Judged("other_process", "others", "computed", ("activations",), {"others": theirs})


def _too_large(found: Found, known: Mapping[str, Any]) -> Judged | None:
    """One tensor that no such card could hold."""
    capacity, requested = found.size("capacity"), found.size("requested")
    if not capacity or requested is None or requested <= capacity:
        return None
    if found.size("allocated") == 0:
        return _first(found, known)
    cause = PLACES.get(found.place, "activations")
    cause = cause if cause in TENSOR else "activations"
    return Judged(cause, "one_tensor", "computed", tuple(c for c in TENSOR if c != cause))


def _first(found: Found, known: Mapping[str, Any]) -> Judged | None:
    """The very first allocation is refused: no program has filled anything."""
    if found.size("allocated") != 0 or not found.size("requested"):
        return None
    return Judged("device_limit", "first_allocation", "computed", ("other_process",))


def _capped(found: Found) -> bool:
    """Whether a limit that the message prints is what was reached. MPS prints its own always."""
    allowed, mine, requested = found.size("allowed"), held(found), found.size("requested") or 0
    if not allowed or mine is None or found.tool == "torch-mps":
        return False
    return (found.size("free") or 0) >= requested or mine + requested > allowed


def _free(found: Found, known: Mapping[str, Any]) -> Judged | None:
    """Blame a limit that somebody or the driver set: there is room, and it is refused."""
    free, requested = found.size("free"), found.size("requested")
    if _capped(found):
        figures = {"allowed": found.size("allowed") or 0}
        return Judged("memory_fraction_cap", "cap.said", "said", figures=figures)
    if free is None or requested is None or free < requested:
        return None
    share = share_between(found)
    if share is not None:
        return Judged(
            "memory_fraction_cap",
            "cap.share",
            "likely",
            ("device_limit", "fragmentation"),
            {"share": share},
        )
    return Judged(
        "device_limit",
        "refused",
        "likely",
        ("memory_fraction_cap", "fragmentation", "other_process"),
    )


def _fragmented(found: Found, known: Mapping[str, Any]) -> Judged | None:
    capacity, requested, cached = (
        found.size("capacity"),
        found.size("requested"),
        unallocated(found),
    )
    if not capacity or requested is None or cached is None:
        return None
    if cached < requested or cached * 100 < capacity * FRAGMENTED or spilled(found):
        return None
    return Judged(
        "fragmentation", "fragmentation", "computed", ("activations",), {"unallocated": cached}
    )


def _place(found: Found, known: Mapping[str, Any]) -> Judged | None:
    cause = PLACES.get(found.place)
    if cause is None:
        return None
    return Judged(
        cause,
        f"place.{found.place}",
        "likely",
        tuple(c for c in ("weights_too_big", "activations") if c != cause),
    )


def _weights(found: Found, known: Mapping[str, Any]) -> Judged | None:
    """The card is full, nothing was freed so far, and one weight more is asked for."""
    capacity, requested, mine = found.size("capacity"), found.size("requested"), held(found)
    if not capacity or requested is None or mine is None or requested * 100 > capacity * SMALL:
        return None
    cached = unallocated(found) or 0
    grown = mine * 100 >= capacity * FULL and cached * 100 <= capacity * UNUSED
    if grown or spilled(found):
        return Judged("weights_too_big", "only_grew", "likely", ("activations", "kv_cache_too_big"))
    return None


def _serving(found: Found, known: Mapping[str, Any]) -> Judged | None:
    """A server has laid out its cache, and what comes beside it has no room."""
    if not _serves(found, known):
        return None
    return Judged(
        "utilization_set_too_high", "outside_share", "likely", ("cuda_graphs", "activations")
    )


def _full(found: Found, known: Mapping[str, Any]) -> Judged | None:
    """The card is full of this program's own tensors: in the end, those of a step."""
    if found.size("allocated") is None and found.wording != "torch-mps-buffer":
        return None
    return Judged(
        "activations", "full", "likely", ("weights_too_big", "kv_cache_too_big", "optimizer_states")
    )


ON_A_CARD: tuple[Rule, ...] = (
    _fragmented,
    _others,
    _too_large,
    _first,
    _free,
    _place,
    _weights,
    _serving,
    _full,
)
HOST = _says("host_memory")
BY_WORDING: dict[str, tuple[Rule, ...]] = {
    "vllm-kv-tokens": (_says("kv_cache_too_big", "kv_tokens", "utilization_set_too_low"),),
    "vllm-kv-bytes": (_says("kv_cache_too_big", "kv_bytes", "utilization_set_too_low"),),
    "vllm-startup": (_started_short,),
    "vllm-no-blocks": (_no_blocks,),
    "vllm-sampler": (_sampler,),
    "sglang": (_sglang,),
    "tgi": (_likely("activations", "tgi", "weights_too_big", "other_process"),),
    "exllama": (_says("kv_cache_too_big", "exllama", "weights_too_big"),),
    "tensorrt-llm": (_trt,),
    "onnxruntime": (_likely("activations", "onnxruntime", "cuda_graphs", "weights_too_big"),),
    "ggml-cuda": (_ggml,),
    "ggml-cpu": (_ggml, HOST),
    "ggml-vulkan": (
        _ggml,
        _likely("weights_too_big", "vulkan", "compute_buffer", "kv_cache_too_big"),
    ),
    "ggml-cuda-pool": (_says("compute_buffer", "ggml.pool", "kv_cache_too_big"),),
    "ggml-pinned": (_says("host_memory", "pinned"),),
    "ggml-metal": (_ggml, _metal),
    "torch-mps-buffer": (_place, _full),
    "ipex-block-limit": (_says("device_limit", "buffer_limit"),),
    "mlx": (_says("device_limit", "buffer_limit", "attention_matrix", "kv_cache_too_big"),),
    "jax": (_xla,),
    "tensorflow": (_likely("activations", "tensorflow", "weights_too_big"),),
    "nccl": (_says("communication_buffers", "", "weights_too_big", "activations"),),
    "cublas-status": (_likely("activations", "cublas", "weights_too_big", "other_process"),),
    "cuda-error": (_bare,),
    "dataloader": (_shm,),
    "torch-cpu": (HOST,),
    "numpy": (HOST,),
    "kernel-oom": (HOST,),
    "windows-commit": (_says("host_memory", "page_file"),),
    "bad-alloc": (HOST,),
    "exit-137": (_likely("host_memory", "killed"),),
}


def ollama(found: Found, known: Mapping[str, Any]) -> Judged | None:
    """Host memory where it says so; of the card it gives no figures."""
    if found.size("needed_host") is not None:
        return Judged(
            "host_memory", "ollama", "said", figures={"needed": found.size("needed_host") or 0}
        )
    return None


BY_WORDING["ollama"] = (ollama,)
