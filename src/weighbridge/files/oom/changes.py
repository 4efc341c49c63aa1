"""Changes for a cause and a program: rows of a table, with figures of the message.

    changes.jsonl   a row is taken where the program has all of its `tags` (`tags_of`), in this
                    order; words in braces are `figures`, and {spelled} is the change in the own
                    words of a program that learns from rewards; `cost` is a key of words/oom.json

Every line to paste is what that program takes, in its own flags and for its own version: a PyTorch
before 2.1 has no expandable segments, and a share that leaves no room for a cache is to rise where
one that leaves no room beside the cache is to fall.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from string import Formatter
from typing import Any

from weighbridge.base.records import NamedTuple
from weighbridge.base.units import GIB, MIB, align_up, parse_size
from weighbridge.base.words import words_in
from weighbridge.files.oom.figures import listed
from weighbridge.files.oom.record import SERVER, Change, Judged, OomReading, table
from weighbridge.training.learning.words import spelled

MOST = 4  # most changes shown: people do not read more
BLOCK = 16  # tokens of a block of vLLM's cache, which a length is a whole number of
NEAR = 1.25  # times the cache: what a few more percent of the card can give (assumed)
RANKS = 3  # processes of equal size on one card: ranks that all began on the first
HINTS = ("torch-2.1", "torch-2.2..", "torch-2.4..")  # wordings of versions with expandable segments


class ChangeRow(NamedTuple):
    """A line of changes.jsonl: a change for a cause and a program."""

    cause: str
    tags: Sequence[str]
    change: Mapping[str, str]
    cost: str
    paste: str = ""


@cache
def rows() -> tuple[ChangeRow, ...]:
    return tuple(ChangeRow(**line) for line in table("changes"))


def changes(reading: OomReading, judged: Judged, settings: Mapping[str, Any]) -> tuple[Change, ...]:
    """Return at most MOST changes for this cause and program, with the message's figures filled in;
    for an unknown cause, one per possible cause."""
    if not reading.tool:  # a program that we do not know
        return ()
    tags = tags_of(reading, judged, settings)
    values = figures(reading, settings)
    known = {"model": reading.model, **reading.stated, **settings}
    able = (row for row in rows() if set(row.tags) <= tags and _known(row, values))
    fit = [row for row in able if not _is_set(row, known)]
    return tuple(filled(row, values) for row in _rows_for_cause(fit, judged)[:MOST])


def _rows_for_cause(rows: Sequence[ChangeRow], judged: Judged) -> list[ChangeRow]:
    """Return the rows for the cause, the first per setting; for an unknown cause, the first row of
    each possible cause."""
    if judged.cause is None:
        first = (next((row for row in rows if row.cause == cause), None) for cause in judged.others)
        return [row for row in first if row is not None]
    mine = [row for row in rows if row.cause == judged.cause]
    settings = [tuple(row.change) for row in mine]
    return [row for i, row in enumerate(mine) if settings[i] not in settings[:i]]


def _is_set(row: ChangeRow, known: Mapping[str, Any]) -> bool:
    """Return whether the user has already made the change, such as an 8-bit cache or a batch size
    of 1."""
    same = [name for name, v in row.change.items() if str(known.get(name)) == v]
    if "quantization" in row.change and STORED.search(str(known.get("model") or "")):
        return True  # it is stored in few bits already
    return len(same) == len(row.change) > 0 or "batch_size" in same


def filled(row: ChangeRow, values: Mapping[str, Any]) -> Change:
    """Return the change in `row`, with the message's figures filled in, and its cost in English."""
    change = {name: _typed(value.format_map(values)) for name, value in row.change.items()}
    cost = words_in("en", "oom")(f"cost.{row.cost}")
    if row.paste == "{spelled}":
        return Change(change, cost, spelled(values["spelled"], change)[0])
    return Change(change, cost, row.paste.format_map(values))


def cured(setting: str, value: int) -> Change:
    """Return the change of `setting` to `value`, with its cost from a row on the same setting."""
    row = next(row for row in rows() if setting in row.change)
    cost = words_in("en", "oom")(f"cost.{row.cost}")
    return Change({setting: value}, cost, row.paste.replace(row.change[setting], str(value)))


def _typed(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    return int(text) if text.isdecimal() else text


def _known(row: ChangeRow, values: Mapping[str, Any]) -> bool:
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
    "mlx": ("mlx",),
    "tensorrt-llm": ("tensorrt-llm", "nvidia"),
}
DEVICES = {"torch-npu": "npu", "torch-xpu": "xpu"}  # as torch's modules are called
TRAINS = ("optimizer", "backward", "saving", "gather")
LEARNERS = ("verl", "OpenRLHF", "NeMo-RL")  # trainers that start a server beside them
TRAINERS = ("trainer", "deepspeed", "unsloth", *LEARNERS)
SCRIPTED = ("trainer", "trl", "unsloth", "plain", "transformers")  # what people write in Python
# How names say that weights are stored in 8 bits or fewer
STORED = re.compile(
    r"(?i)(?:^|[-_./:])(?:(?:nv|mx)?fp[48]|nf4|awq|gptq|gguf|w[48]a\d+|(?:int)?[48]-?bit|int[48]|bnb|i?q\d)"
    r"(?=$|[-_./])"
)
NO_PYTHON = ("comfyui", "webui", "vllm", "sglang", "mlx", SERVER)


def trains(reading: OomReading, settings: Mapping[str, Any]) -> bool:
    """Return whether the settings, the traceback or the program show that the run trains."""
    engine = str(settings.get("engine") or reading.engine)
    is_told = settings.get("task") == "train" or bool({"method", "optimizer"} & set(settings))
    return is_told or reading.place in TRAINS or engine in TRAINERS


def tags_of(reading: OomReading, judged: Judged, settings: Mapping[str, Any]) -> set[str]:
    """Return the tags for what is known of the program; rows of changes.jsonl require tags."""
    engine = str(settings.get("engine") or reading.engine)
    framework = str(settings.get("framework") or SCRIPTED[0])
    tags = {
        *TOOLS.get(reading.tool, (reading.tool,)),
        engine,
        framework,
        *_allocator_tag(reading),
        *_machine(reading),
    }
    training = trains(reading, settings)
    script = framework in SCRIPTED and "pictures" not in settings
    facts = {
        # Rows with arguments of the Trainer
        "train": training and script and engine not in LEARNERS,
        "not_train": not training,
        "not_learner": engine not in LEARNERS,
        "pictures": "pictures" in settings,
        "python": script and engine not in (*NO_PYTHON, *LEARNERS),
        "not_sglang": engine != "sglang" and reading.tool != "sglang",
        "not_vllm": engine != "vllm",
        "bitsandbytes": reading.tool != "torch-npu",  # bitsandbytes has no kernels for it
        "foreach": "_foreach_" in reading.message,
        "one_stage": known_ranks({**reading.stated, **settings}, "pipeline") == 1,
        "copies": "pipelineparallelismenabled" in reading.message,
        "no_blocks": judged.why == "no_blocks",
        "in_pieces": judged.why == "full_in_pieces",
        "half_fits": _needed_per_available_cache(reading) <= 2,
        "near": _needed_per_available_cache(reading) <= NEAR,
        "no_context": "n_ctx" not in reading.parsed and "context" not in settings,
        "vulkan": reading.wording == "ggml-vulkan",
        "ranks": _ranks(reading),
        "fitting": _fitting_memory_fraction(reading) is not None,
        "not_fitting": _fitting_memory_fraction(reading) is None,
        "pinned": judged.why == "pinned" and reading.tool == "llama.cpp",
        "wsl": judged.why == "wsl",
        "container": reading.wording in ("exit-137", "kernel-oom"),
        "loads": reading.wording == "torch-cpu",
    }
    return tags | {name for name, holds in facts.items() if holds}


def _needed_per_available_cache(reading: OomReading) -> float:
    """Return needed / available KV cache, as a ratio; 1 if the message states neither."""
    needed, there = reading.size("needed_kv"), reading.size("available_kv")
    if needed is None:
        needed, there = reading.parsed.get("max_model_len"), reading.parsed.get("max_tokens")
    return needed / there if needed and there else 1


def _allocator_tag(reading: OomReading) -> set[str]:
    """Return the tag of the allocator setting against fragmentation in this PyTorch version; empty
    if it has none."""
    if reading.wording in HINTS and not reading.windows:
        return {"expandable"}
    if reading.wording in (*HINTS, "torch-1.10..2.0"):
        return {"split"}
    return {"first"} if reading.wording.startswith("torch-1.") else set()


def _machine(reading: OomReading) -> set[str]:
    windows = reading.windows or reading.wording == "windows-commit"
    return {"windows" if windows else "not_windows"}


def _ranks(reading: OomReading) -> bool:
    sizes = [row["bytes"] for row in listed(reading)]
    return len(sizes) >= RANKS and len(set(sizes)) * 2 <= len(sizes)


def figures(reading: OomReading, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values for the braces in rows, as far as the message and the settings have
    them."""
    known = {
        **reading.stated,
        **settings,
        **{k: v for k, v in reading.parsed.items() if v is not None},
    }
    share = known.get(
        "utilization", known.get("gpu_memory_utilization", known.get("mem_fraction_static"))
    )
    ubatch = int(known.get("ubatch_size", 512))  # llama.cpp's own default
    values: dict[str, Any] = {
        "twice_ranks": 2 * known_ranks(known, "tensor"),
        "variable": reading.hint or "PYTORCH_CUDA_ALLOC_CONF",
        "device": DEVICES.get(reading.tool, "cuda"),
        "half_ubatch": max(ubatch // 2, 32),
        "slots": max(int(known.get("available_slots", 1)), 1),
        "up": "0.95" if not isinstance(share, float) or share < 0.95 else None,
        "down": _lower_memory_fraction(share, reading),
        "length": _longest_fitting_request(reading),
        "fitting": _fitting_memory_fraction(reading),
        "half_prefill": _half(known.get("prefill_tokens")),
        "workspace": _larger_workspace(reading),
        "wired": _higher_mac_limit(reading),
        "half_seqs": _half(known.get("dummy_requests") or known.get("max_num_seqs")),
        "memory": _twice_container_memory(known.get("ram")),
        "spelled": reading.engine.lower() if reading.engine in LEARNERS else None,
        "half_context": _half(known.get("n_ctx") or known.get("context")),
    }
    return {name: value for name, value in values.items() if value is not None}


def _lower_memory_fraction(share: Any, reading: OomReading) -> str:
    """Return a smaller memory fraction than the server's, as text. If that is unknown: "0.85", or
    "0.4" next to a trainer (verl's rollout.gpu_memory_utilization)."""
    if isinstance(share, float):
        return f"{max(share - 0.05, 0.05):.2f}"
    return "0.4" if reading.engine in LEARNERS else "0.85"


def known_ranks(known: Mapping[str, Any], way: str) -> int:
    """Return the number of cards that split the model along `way` ("tensor", "pipeline"); 1 if
    unknown. A server uses all of its cards for tensor parallelism."""
    cards = str(known.get("gpu") or "").rpartition(":")[2] if way == "tensor" else ""
    size = str(known.get(f"{way}_parallel_size") or cards or 1)
    return int(size) if size.isdecimal() else 1


def _twice_container_memory(ram: Any) -> str:
    """Return twice a container's memory, in Docker's spelling ("16g"); "SIZE" if unknown."""
    return f"{2 * parse_size(ram) // GIB}g" if isinstance(ram, str) else "SIZE"


def _larger_workspace(reading: OomReading) -> int | None:
    """Return the bytes of a workspace with room for twice the request, in whole GiB, since it holds
    other buffers too; None if unknown."""
    requested = reading.size("requested")
    return None if requested is None else align_up(2 * requested, GIB)


def _higher_mac_limit(reading: OomReading) -> int | None:
    """Return a higher GPU limit for a Mac in MiB: half way between macOS's limit (three quarters of
    its memory, assumed) and all of its memory. None if unknown."""
    limit = reading.size("capacity")
    return None if limit is None else limit * 7 // 6 // MIB


def _half(value: Any) -> int | None:
    return max(int(value) // 2, 1) if isinstance(value, int) else None


def _longest_fitting_request(reading: OomReading) -> int | None:
    """Return the longest request that fits the cache, in tokens rounded down to blocks; None if
    unknown."""
    printed = reading.parsed.get("estimated_max_model_len") or reading.parsed.get("max_tokens")
    if printed:
        return int(printed)
    asked, needed, there = (
        reading.parsed.get("max_model_len"),
        reading.size("needed_kv"),
        reading.size("available_kv"),
    )
    if not asked or not needed or there is None:
        return None
    return asked * there // needed // BLOCK * BLOCK or None


def _fitting_memory_fraction(reading: OomReading) -> str | None:
    """Return the largest memory fraction that fits into what is free now, such as "0.85"; None if
    unknown."""
    capacity, free = reading.size("capacity"), reading.size("free")
    if reading.wording != "vllm-startup" or not capacity or free is None or capacity < GIB:
        return None
    share = free * 100 // capacity
    return f"{share / 100:.2f}" if share >= 10 else None
