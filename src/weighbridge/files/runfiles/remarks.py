"""What the words and the figures of a text tell beside its run: an error that is none of memory, a
step that is too large, two releases with two figures, a table of processes.

Each rule is about a form of text, never about one text. A rule that lacks a figure says nothing.
"""

import re
from collections.abc import Iterator

from weighbridge.base.units import GIB, UNITS
from weighbridge.base.wording import clipped
from weighbridge.files.runfiles.findings import LogFinding

# The last line of a traceback, also of a notebook's and of a rank's
ERROR = re.compile(
    r"(?m)^[ \t]*(?:\[rank\d+\]:[ \t]*)?(?:[A-Za-z_]\w*\.){0,6}"
    r"(?P<name>[A-Z]\w*(?:Error|Exception))\b"
    r"(?::[ \t]*(?P<said>[^\n]{0,160})|[ \t]+Traceback)"
)
OF_MEMORY = re.compile(
    r"(?i)memory|OOM|alloc|KV ?cache|显存|内存|max seq len|cuBLAS|CUDNN|NCCL|illegal|exit code -?9"
)
SHOWN = 120  # characters of an error
USUAL_STEP = 8192  # tokens of a step: vLLM's default on cards of 80 GB
LARGE = 4  # times USUAL_STEP: a step that people set by mistake (assumed)
STEP = re.compile(r"(?i)max[-_]num[-_]batched[-_]tokens[`\"' =:]{1,4}(\d{4,7})\b")
OF_VLLM = re.compile(r"(?i)(?<![a-z])vllm(?![a-z])")
LACKS = re.compile(r"(?i)\bOOM|out of memory|KV cache|显存")
UNSLOTH_CACHE = re.compile(r"(?i)KV cache can use up to (\d{1,4}(?:\.\d{1,2})?) GB")
ROWS = re.compile(
    r"(?mi)^[ \t]*PID[ \t]+MEM\w*[ \t]*\((?P<unit>[GM]i?B)\)[^\n]*\n"
    r"(?P<rows>(?:[ \t]*\d[^\n]*\n?)+)"
)
ROW = re.compile(r"(?m)^[ \t]*\d{1,8}[ \t]+(\d{1,6}(?:\.\d{1,3})?)[ \t]")
HOST = re.compile(
    r"(?i)(?<![\w.])(\d{2,5}) ?G(?:i?B)? (?:of )?(?:CPU |host |system )?(?:memory|RAM)\b"
    r"|内存[是为:： ]{0,3}(\d{2,5}) ?G"
)
FULL = 0.85  # fraction of host memory: everything else takes the rest (assumed)


def remarks(text: str, *, explained: bool) -> Iterator[LogFinding]:
    """Yield findings from the text itself. `explained`: whether its message already states what ran
    out."""
    if not explained:
        yield from _not_memory(text)
    yield from _large_step(text)
    match = UNSLOTH_CACHE.search(text)
    if match is not None:
        size = round(float(match[1]) * GIB)
        yield LogFinding("no_cache" if not size else "small_cache", {"cache_bytes": size})
    yield from _processes(text)


def _not_memory(text: str) -> Iterator[LogFinding]:
    """Yield a text's last error, if none of its errors is about memory."""
    errors = list(ERROR.finditer(text))
    if not errors or any(OF_MEMORY.search(f"{e['name']} {e['said'] or ''}") for e in errors):
        return
    last = errors[-1]
    message = " ".join((last["said"] or "").split())
    shown = f"{last['name']}: {clipped(message, SHOWN)}" if message else last["name"]
    error = shown if shown.endswith("...") else shown.strip(" .")
    yield LogFinding("not_memory", {"error": error})


def _large_step(text: str) -> Iterator[LogFinding]:
    """Yield a step with so many tokens that vLLM's profile run leaves no room for a cache."""
    steps = [int(match[1]) for match in STEP.finditer(text)]
    if not steps or min(steps) < LARGE * USUAL_STEP:
        return
    if OF_VLLM.search(text) and LACKS.search(text):
        values = {
            "tokens": min(steps),
            "usual": USUAL_STEP,
            "times": round(min(steps) / USUAL_STEP),
        }
        yield LogFinding("large_step", values)


def _processes(text: str) -> Iterator[LogFinding]:
    """Yield the sum of a process table, compared with the machine's memory."""
    table, host = ROWS.search(text), HOST.search(text)
    sizes = [float(size) for size in ROW.findall(table["rows"])] if table is not None else []
    if table is None or len(sizes) < 2:
        return
    unit = UNITS["GB" if table["unit"].upper() == "GB" else table["unit"]]
    total = round(sum(sizes) * unit)
    values = {"count": len(sizes), "sum_bytes": total}
    if host is None:
        yield LogFinding("processes", values)
        return
    whole = int(host[1] or host[2]) * UNITS["GB"]
    key = "processes.full" if total > FULL * whole else "processes.room"
    yield LogFinding(key, {**values, "ram_bytes": whole, "left_bytes": max(whole - total, 0)})
