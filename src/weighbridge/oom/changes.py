"""What to change: the rows of the table for a cause and a program, with figures of the message."""

from collections.abc import Mapping
from string import Formatter
from typing import Any

from weighbridge.oom.figures import listed
from weighbridge.oom.record import Change, Judged, OomReading
from weighbridge.oom.rows import ROWS, CauseRow
from weighbridge.units import GIB

MOST = 4  # changes that are told: more are not read
BLOCK = 16  # tokens of a block of vLLM's cache, which a length is a whole number of
NEAR = 1.25  # times the cache: what a few more percent of the card can give (assumed)
RANKS = 3  # processes of equal size on one card: ranks that all began on the first


HINTS = ("torch-2.1", "torch-2.2..", "torch-2.4..")  # wordings of versions with expandable segments


def changes(found: OomReading, judged: Judged, settings: Mapping[str, Any]) -> tuple[Change, ...]:
    """The rows for this cause and program, filled; at most MOST. Where the message does not tell
    the cause, the first row for each that is possible."""
    if not found.tool:  # a program that we do not know
        return ()
    tags = tags_of(found, judged, settings)
    values = figures(found, settings)
    rows = [row for row in ROWS if set(row.tags) <= tags and _known(row, values)]
    if judged.cause is not None:
        return tuple(filled(row, values) for row in rows if row.cause == judged.cause)[:MOST]
    first = (next((r for r in rows if r.cause == cause), None) for cause in judged.others)
    return tuple(filled(row, values) for row in first if row is not None)[:MOST]


def filled(row: CauseRow, values: Mapping[str, Any]) -> Change:
    """A row with its figures."""
    change = {name: _typed(value.format_map(values)) for name, value in row.change.items()}
    return Change(change, row.cost, row.paste.format_map(values))


def _typed(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    return int(text) if text.isdecimal() else text


def _known(row: CauseRow, values: Mapping[str, Any]) -> bool:
    texts = (row.paste, *row.change.values())
    return all(
        name in values for text in texts for _, name, _, _ in Formatter().parse(text) if name
    )


TOOLS: Mapping[str, tuple[str, ...]] = {
    "torch": ("torch", "nvidia"),
    "torch-rocm": ("torch", "rocm"),
    "torch-xpu": ("torch", "xpu"),
    "torch-npu": ("torch", "npu"),
    "torch-mps": ("mps",),
    "vllm": ("vllm", "nvidia"),
    "sglang": ("sglang", "nvidia"),
    "llama.cpp": ("llama.cpp",),
    "tensorrt-llm": ("tensorrt-llm", "nvidia"),
}
TRAINS = ("optimizer", "backward", "saving", "gather")
TRAINERS = ("trainer", "deepspeed")
NO_PYTHON = ("comfyui", "webui", "vllm", "sglang")


def tags_of(found: OomReading, judged: Judged, settings: Mapping[str, Any]) -> set[str]:
    """What is known of the program: the rows' vocabulary."""
    engine = str(settings.get("engine") or found.engine)
    tags = {*TOOLS.get(found.tool, (found.tool,)), engine, *_allocator(found), *_machine(found)}
    trains = (
        found.place in TRAINS or engine in TRAINERS or bool({"method", "optimizer"} & set(settings))
    )
    facts = {
        "train": trains,
        "not_train": not trains,
        "python": engine not in NO_PYTHON,
        "not_sglang": engine != "sglang" and found.tool != "sglang",
        "foreach": "_foreach_" in found.message,
        "copies": "pipelineparallelismenabled" in found.message,
        "no_blocks": judged.why == "no_blocks",
        "half_fits": _missing(found) <= 2,
        "near": _missing(found) <= NEAR,
        "no_context": "n_ctx" not in found.parsed and "context" not in settings,
        "vulkan": found.wording == "ggml-vulkan",
        "ranks": _ranks(found),
        "fitting": _fitting(found) is not None,
        "not_fitting": _fitting(found) is None,
        "pinned": judged.why == "pinned" and found.tool == "llama.cpp",
        "wsl": judged.why == "wsl",
        "container": found.wording in ("exit-137", "kernel-oom"),
        "loads": found.wording == "torch-cpu",
    }
    return tags | {name for name, holds in facts.items() if holds}


def _missing(found: OomReading) -> float:
    """How many times the cache that there is would do."""
    needed, there = found.size("needed_kv"), found.size("available_kv")
    if needed is None:
        needed, there = found.parsed.get("max_model_len"), found.parsed.get("max_tokens")
    return needed / there if needed and there else 1


def _allocator(found: OomReading) -> set[str]:
    """What the version of PyTorch can be told about fragmentation."""
    if found.wording in HINTS and not found.windows:
        return {"expandable"}
    if found.wording in (*HINTS, "torch-1.10..2.0"):
        return {"split"}
    return {"first"} if found.wording.startswith("torch-1.") else set()


def _machine(found: OomReading) -> set[str]:
    return {"windows"} if found.windows or found.wording == "windows-commit" else {"not_windows"}


def _ranks(found: OomReading) -> bool:
    sizes = [row["bytes"] for row in listed(found)]
    return len(sizes) >= RANKS and len(set(sizes)) * 2 <= len(sizes)


def figures(found: OomReading, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Values for the rows, as far as the message or the settings give them."""
    known = {**found.stated, **settings, **{k: v for k, v in found.parsed.items() if v is not None}}
    share = known.get(
        "utilization", known.get("gpu_memory_utilization", known.get("mem_fraction_static"))
    )
    ubatch = int(known.get("ubatch_size", 512))  # llama.cpp's own default
    values: dict[str, Any] = {
        "variable": found.hint or "PYTORCH_CUDA_ALLOC_CONF",
        "half_ubatch": max(ubatch // 2, 32),
        "slots": max(int(known.get("available_slots", 1)), 1),
        "up": "0.95" if not isinstance(share, float) or share < 0.95 else None,
        "down": f"{max(share - 0.05, 0.05):.2f}" if isinstance(share, float) else "0.85",
        "length": _length(found),
        "fitting": _fitting(found),
        "half_prefill": _half(known.get("prefill_tokens")),
        "half_seqs": _half(known.get("dummy_requests") or known.get("max_num_seqs")),
        "half_context": _half(known.get("n_ctx") or known.get("context")),
    }
    return {name: value for name, value in values.items() if value is not None}


def _half(value: Any) -> int | None:
    return max(int(value) // 2, 1) if isinstance(value, int) else None


def _length(found: OomReading) -> int | None:
    """The longest request that the cache can hold, in whole blocks."""
    said = found.parsed.get("estimated_max_model_len") or found.parsed.get("max_tokens")
    if said:
        return int(said)
    asked, needed, there = (
        found.parsed.get("max_model_len"),
        found.size("needed_kv"),
        found.size("available_kv"),
    )
    if not asked or not needed or there is None:
        return None
    return asked * there // needed // BLOCK * BLOCK or None


def _fitting(found: OomReading) -> str | None:
    """The largest share, in percent, that is free on the card now."""
    capacity, free = found.size("capacity"), found.size("free")
    if found.wording != "vllm-startup" or not capacity or free is None or capacity < GIB:
        return None
    share = free * 100 // capacity
    return f"{share / 100:.2f}" if share >= 10 else None
