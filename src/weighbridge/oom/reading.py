"""The text of a log -> which wording is in it, and the figures that it prints."""

import re
from collections.abc import Iterator
from typing import Any

from weighbridge.errors import BadFileError
from weighbridge.oom.record import ALWAYS, OomReading
from weighbridge.oom.sizes import read_size
from weighbridge.oom.surroundings import engine_of, model_in, place_of, stated_in
from weighbridge.oom.text import Log, log
from weighbridge.oom.wordings import (
    FIELDS,
    LISTED,
    N_CTX,
    TORCH,
    WORDINGS,
    Wording,
    WordingField,
    packed,
)

AHEAD = 6000  # characters of one message: fifteen listed processes are 900
BEHIND = 20_000  # of the log that leads to it
NEAR = 120  # lines of a traceback before or after it
HEAD = 160  # before the text that tells a wording: the class of the error
WINDOWS = r"\b[A-Z]:\\\w|\\c10\\|CPUAllocator: not enough memory"
RESERVE = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF", "PYTORCH_ALLOC_CONF")
TELLS = "paste the lines around 'out of memory', or the whole log"


def read(text: str, name: str = "the text") -> OomReading:
    """What `text` says. Raises BadFileError where no message is in it."""
    pasted = log(text)
    wording, at = _recognised(pasted, name)
    lines, near = "\n".join(pasted.lines), pasted.around(at, NEAR)
    ahead = pasted.packed[at : at + AHEAD]
    message = pasted.packed[max(at - HEAD, 0) : at + AHEAD]
    parsed = {
        **dict.fromkeys(ALWAYS),
        **_figures(wording, ahead, pasted.packed[max(at - BEHIND, 0) : at + AHEAD]),
    }
    if wording.name.startswith("ggml") and (context := re.search(N_CTX, lines)):
        parsed["n_ctx"] = int(context[1])
    rocm = "HIPoutofmemory" in message or str(parsed.get("buffer", "")).startswith("ROCm")
    return OomReading(
        wording=_version(wording, message),
        tool="torch-rocm" if rocm and wording.tool == "torch" else wording.tool,
        parsed=parsed,
        engine=engine_of(wording, text),
        place=place_of(near),
        windows=bool(re.search(WINDOWS, near)),
        virtual="/mnt/c/" in text or "WSL" in text or "microsoft-standard" in text,
        hint=next((name for name in RESERVE if name in message), ""),
        stated=stated_in(lines),
        message=message,
        model=model_in(lines),
    )


def _recognised(pasted: Log, name: str) -> tuple[Wording, int]:
    for wording in WORDINGS:
        for pattern in wording.says:
            if pattern.startswith("^"):
                if re.search(pattern, "\n".join(pasted.lines), re.MULTILINE):
                    return wording, 0
            elif found := packed(pattern).search(pasted.packed):
                return wording, found.start()
    raise BadFileError(f"{name} has no out-of-memory message that we know; {TELLS}")


def _figures(wording: Wording, ahead: str, around: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    unlimited = []
    for field in _fields(wording):
        if field.name in found or field.name in unlimited:
            continue
        match = packed(field.pattern).search(around if field.before else ahead)
        if match is None:
            continue
        value = _value(field, match[match.lastindex or 0])
        if value is None:
            unlimited.append(field.name)
        else:
            found[field.name] = value
    if unlimited:
        found["unknown"] = unlimited
    return {**found, **_processes(wording, ahead, found)}


def _fields(wording: Wording) -> Iterator[WordingField]:
    for group in wording.reads:
        yield from FIELDS[group]


def _value(field: WordingField, text: str) -> Any:
    if field.kind == "size":
        return int(text) if text.isdecimal() else read_size(text)
    if field.kind in ("MiB", "GiB"):
        return read_size(f"{text}{field.kind}")
    if field.kind == "number":
        return float(text) if re.fullmatch(r"\d{1,9}(\.\d{1,12})?", text) else None
    return int(text) if field.kind == "count" else text


def _processes(wording: Wording, ahead: str, found: dict[str, Any]) -> dict[str, Any]:
    """Read the processes that the message lists; from the kernel's message, the pages of the one it
    killed."""
    if "kernel" in wording.reads:
        pages = [
            found[k] for k in ("anon_rss_bytes", "file_rss_bytes", "shmem_rss_bytes") if k in found
        ]
        return {"process_bytes": sum(pages)} if pages else {}
    listed = packed(LISTED).findall(ahead) if "torch" in wording.reads else []
    rows = [{"pid": int(pid), "bytes": read_size(size)} for pid, size in listed]
    return {"listed_processes": rows} if rows else {}


def _version(wording: Wording, message: str) -> str:
    if wording.name != "torch":
        return wording.name
    return next(name for name, pattern in TORCH if packed(pattern).search(message))
