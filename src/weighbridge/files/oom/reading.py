"""The text of a log -> which wording of an out-of-memory message is in it, and its figures.

    wordings.jsonl  a wording is named after the program that prints it and the versions that print
                    it so. Any pattern of `says` tells it; where several are in one log, the first
                    line of the file decides: what says most comes first. `reads` are groups of
                    figures; `means` is a line of conclusions.jsonl, where the wording alone tells
    figures.jsonl   a figure: its group, the pattern in front of it and its kind: a size (unless it
                    is said), MiB, GiB, count, number or text. `before`: it may stand before the
                    message, in the log that leads to it. Those of engines stand in ../logs.jsonl
    stated.jsonl    a setting of ours, the words that logs have for it (those of the Trainer's and
                    Unsloth's banner, too: unsloth/tokenizer_utils.py), and what follows them

Patterns are written with spaces, to be read; they are searched in text that has none (text.py),
each within a window of the message, and each repetition is bounded: no input makes them slow.

Sources of the texts: pytorch c10/cuda/CUDACachingAllocator.cpp (malloc), CUDAMallocAsyncAllocator
.cpp, c10/xpu/XPUCachingAllocator.cpp, c10/core/impl/alloc_cpu.cpp, aten/src/ATen/mps/
MPSAllocator.mm; vllm worker/worker.py, v1/core/kv_cache_utils.py, v1/worker/gpu_worker.py and
gpu_model_runner.py; sglang srt/model_executor; ggml/src of llama.cpp; ollama llm/server.go; the
kernel's mm/oom_kill.c; flashinfer include/flashinfer/allocator.h; and the messages of
tests/oom/messages.jsonl, each with its thread.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from weighbridge.base.errors import BadFileError
from weighbridge.base.parsed import lines_beside
from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import sentence
from weighbridge.files.oom.changes import LEARNERS
from weighbridge.files.oom.record import ALWAYS, SERVER, OomReading, table
from weighbridge.files.oom.text import SIZE, Log, log, read_size
from weighbridge.files.programs import length_lines, log_lines, rules_of, told_by

AHEAD = 6000  # characters of one message: fifteen listed processes are 900
BEHIND = 20_000  # of the log that leads to it
NEAR = 120  # lines of a traceback before or after it
HEAD = 160  # before the text that tells a wording: the class of the error
WINDOWS = r"\b[A-Z]:\\\w|\\c10\\|CPUAllocator: not enough memory"
RESERVE = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF", "PYTORCH_ALLOC_CONF")
NUMBERED = r"(\d{1,12})"
LISTED = r"Process (\d{1,12}) has {SIZE} memory in use"

# Lines of a traceback -> what the program was doing, and what it lacked room for then. The first
# that is found decides, and what is called by others stands before them.
PLACES = [line.split(maxsplit=2) for line in lines_beside(__file__, "places.txt")]

# Placeholders in patterns of stated.jsonl: a number, and a fraction of a card
STANDS = {"{COUNT}": r"[= ]{1,20}(\d{1,9})\b", "{SHARE}": r"[= ]{1,3}([01]?\.\d{1,6}|1)\b"}
KINDS: Mapping[str, Callable[[str], Any]] = {"int": int, "float": float, "str": str}
MOST_SEARCHED = 200_000  # characters of a log in which a model is looked for
MOST_PLACES = 50  # of one word that are looked at


class StatedSetting(NamedTuple):
    """A line of stated.jsonl: our setting, its names in logs, and the pattern of its value."""

    setting: str
    kind: str
    words: Sequence[str]
    follows: str

    @property
    def pattern(self) -> str:
        """Return the pattern of the value that follows one of `words`."""
        return STANDS.get(self.follows, self.follows)


@cache
def stated_settings() -> tuple[StatedSetting, ...]:
    """Return the lines of stated.jsonl, in order."""
    return tuple(StatedSetting(**line) for line in table("stated"))


class Wording(NamedTuple):
    """A line of wordings.jsonl: one form of an out-of-memory message."""

    name: str
    tool: str
    says: Sequence[str]
    reads: Sequence[str] = ()
    means: str = ""
    versions: Mapping[str, str] = {}  # name -> pattern: the first that is found tells the version


class WordingFigure(NamedTuple):
    """A line of figures.jsonl, or one of logs.jsonl whose program is the group."""

    group: str
    name: str
    pattern: str
    kind: str = "size"
    before: bool = False


@cache
def wordings() -> tuple[Wording, ...]:
    return tuple(Wording(**line) for line in table("wordings"))


@cache
def wording_figures() -> tuple[WordingFigure, ...]:
    logs = (
        WordingFigure(one.program, one.figure, one.pattern, one.kind, one.before)
        for one in log_lines()
        if one.figure
    )
    return (*(WordingFigure(**line) for line in table("figures")), *logs)


@cache
def packed(pattern: str) -> re.Pattern[str]:
    """Return `pattern` compiled for a log without whitespace; its spaces only help readers."""
    plain = pattern.replace(" ", "").replace("{SIZE}", SIZE).replace("{COUNT}", NUMBERED)
    return re.compile(plain)


def read(text: str, name: str = "the text") -> OomReading:
    """Return a log's message, program and figures. Raises BadFileError if it has no out-of-memory
    message."""
    pasted = log(text)
    wording, start = _recognised(pasted, name)
    lines, near = "\n".join(pasted.lines), pasted.around(start, NEAR)
    ahead = pasted.packed[start : start + AHEAD]
    message = pasted.packed[max(start - HEAD, 0) : start + AHEAD]
    parsed = {
        **dict.fromkeys(ALWAYS),
        **_figures(wording, ahead, pasted.packed[max(start - BEHIND, 0) : start + AHEAD]),
    }
    # searched in lines: in packed text the next line may begin with a digit
    context = length_in(lines, "llama.cpp")
    if wording.name.startswith("ggml"):
        parsed |= {"n_ctx": context} if context else {}
        parsed |= _logged_buffers(lines, parsed)
    tool = _tool(wording, text)
    rocm = "HIPoutofmemory" in message or str(parsed.get("buffer", "")).startswith("ROCm")
    return OomReading(
        wording=_version(wording, message),
        tool="torch-rocm" if rocm and tool == "torch" else tool,
        parsed=parsed,
        engine=engine_of(tool, text),
        place=place_of(near),
        windows=bool(re.search(WINDOWS, near)),
        virtual="/mnt/c/" in text or "WSL" in text or "microsoft-standard" in text,
        hint=next((name for name in RESERVE if name in message), ""),
        stated=stated_in(lines),
        message=message,
        model=model_in(lines),
        means=wording.means,
    )


def _recognised(pasted: Log, name: str) -> tuple[Wording, int]:
    """Return the first known wording in a log, and where its match begins in the packed text."""
    for wording in wordings():
        for pattern in wording.says:
            if pattern.startswith("^"):
                if re.search(pattern, "\n".join(pasted.lines), re.MULTILINE):
                    return wording, 0
            elif match := packed(pattern).search(pasted.packed):
                return wording, match.start()
    raise BadFileError(sentence("oom.no_message", name=name))


def _tool(wording: Wording, text: str) -> str:
    """Return the program that printed the message. It is llama.cpp if the driver's error comes with
    its command and without a Python traceback (ggml-cuda.cu, ggml_cuda_error)."""
    if wording.name != "cuda-error" or re.search(PYTHON, text):
        return wording.tool
    return "llama.cpp" if re.search(GGML, text) else wording.tool


def _figures(wording: Wording, ahead: str, around: str) -> dict[str, Any]:
    """Return a message's figures by name; "unknown" lists those that mean "no limit"."""
    read: dict[str, Any] = {}
    figures = wording_figures()
    for figure in (each for group in wording.reads for each in figures if each.group == group):
        match = packed(figure.pattern).search(around if figure.before else ahead)
        if figure.name not in read and match is not None:
            read[figure.name] = _value(figure.kind, match[match.lastindex or 0])
    values = {name: value for name, value in read.items() if value is not None}
    if len(values) < len(read):
        values["unknown"] = [name for name in read if name not in values]
    return {**values, **_processes(wording, ahead, values)}


def _logged_buffers(lines: str, parsed: Mapping[str, Any]) -> dict[str, int]:
    """Return {"buffers_bytes": sum} of the buffers that llama.cpp logged for the message's device:
    device names that end with its number, each line once."""
    number = re.sub(r"\D", "", str(parsed.get("buffer") or parsed.get("device", "")))
    held = {
        (line.part, match["device"], read_size(f"{match['size']}{match['unit']}iB"))
        for line in log_lines()
        if line.program == "llama.cpp" and "{DEVICE}" in line.pattern
        for match in re.finditer(line.searched, lines)
        if match["device"].endswith(number) and number
    }
    total = sum(size or 0 for _, _, size in held)
    return {"buffers_bytes": total} if total else {}


def _value(kind: str, text: str) -> Any:
    """Return a figure as a number or text; None if it is no number or means no limit."""
    if kind == "size":
        return int(text) if text.isdecimal() else read_size(text)
    if kind in ("MiB", "GiB"):
        return read_size(f"{text}{kind}")
    if kind == "number":
        return float(text) if re.fullmatch(r"\d{1,9}(\.\d{1,12})?", text) else None
    return int(text) if kind == "count" else text


def _processes(wording: Wording, ahead: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the processes listed in the message; for the Linux kernel's, the resident bytes of the
    process it killed."""
    if "kernel" in wording.reads:
        pages = [
            values[name]
            for name in ("anon_rss_bytes", "file_rss_bytes", "shmem_rss_bytes")
            if name in values
        ]
        return {"process_bytes": sum(pages)} if pages else {}
    listed = packed(LISTED).findall(ahead) if "torch" in wording.reads else []
    rows = [{"pid": int(pid), "bytes": read_size(size)} for pid, size in listed]
    return {"listed_processes": rows} if rows else {}


def _version(wording: Wording, message: str) -> str:
    """Return the name of the releases that print `message` in this wording."""
    versions = (
        name for name, pattern in wording.versions.items() if packed(pattern).search(message)
    )
    return next(versions, wording.name)


# What a log says outside of its message


def engine_of(tool: str, text: str) -> str:
    """Return the engine that printed the message: of `tool`, else the one named in the log; "" if
    unknown."""
    if rules_of(tool):
        return tool
    # a trainer comes before the server that it starts: its flags are the ones to change
    learners = sorted(told_by("signs"), key=lambda program: program.name not in LEARNERS)
    known = (p.name for p in learners if any(s in text for s in p.signs))
    return next(known, "") or _started_server(text)


def _started_server(text: str) -> str:
    """Return the server that a command in the log starts: SERVER for an unknown one, "" without a
    command."""
    line = re.search(SERVES, text)
    if line is None:
        return ""
    commands = ((each, p.name) for p in told_by("commands") for each in p.commands)
    names = [name for each, name in commands if re.fullmatch(each, line["program"])]
    return next((name for name in names if rules_of(name)), "") if names else SERVER


def place_of(lines: str) -> str:
    """Return what the program was doing, a name of PLACES, by its traceback; "" if unknown."""
    return next((name for name, _, pattern in PLACES if re.search(pattern, lines)), "")


def stated_in(lines: str) -> Mapping[str, Any]:
    """Return the settings stated in the log; of each the first word that has a value after it."""
    context = length_in(lines)
    stated: dict[str, Any] = {"context": context} if context else {}
    for row in stated_settings():
        value = next((v for word in row.words if (v := _after(lines, word, row.pattern))), None)
        if value is not None:
            stated[row.setting] = KINDS[row.kind](value)
    return stated


def length_in(lines: str, program: str = "") -> int | None:
    """Return the longest request stated in a log, in tokens; None if not stated. `program`: only
    its lines."""
    matches = (re.search(pattern, lines) for pattern in length_lines(program))
    return next((int(match["count"].replace(",", "")) for match in matches if match), None)


PYTHON = r"Traceback|RuntimeError|torch\.|\bpython"
GGML = r"(?m)^(?:\S{0,200}/)?llama-\w{1,20} |\bggml[-_]cuda|\bin function \w{1,60} at "
# A line that starts a server
SERVES = (
    r"(?m)^[$># ]{0,4}(?P<program>[\w./-]{1,60}) (?:serve|server|run-server)"
    r"(?: [\w./:-]{1,120})? --\w"
)

# What is loaded: words of commands, of engines' first lines and of Python, before a Hub id
LOADS = r"""(?x)
    (?: vllm\ serve\  | --model(?:-path|-name-or-path|_name_or_path)?[= ] | \bmodel(?:_path)?=
      | from_pretrained\( | \bollama\ run\  | \ -m\  | tensors\ from\  | load\ model\  )
    ['"]? (?:[^\s'"]{0,300}[/\\](?=[\w.-]{1,96}\.gguf))?
    ([\w.-]{1,96}\.gguf (?![\w./-]) | [\w.-]{1,96}/[\w.-]{1,96} (?![\w./-]))
"""


def model_in(lines: str) -> str:
    """Return the Hub id or GGUF file of the model that the log loads; "" for none or several."""
    named = dict.fromkeys(re.findall(LOADS, lines[-MOST_SEARCHED:]))
    return next(iter(named)) if len(named) == 1 else ""


def _after(lines: str, word: str, pattern: str) -> str | None:
    """Return what matches `pattern` directly after `word`, a whole word or option; None without a
    match."""
    value, place = re.compile(pattern), -1
    for _ in range(MOST_PLACES):
        place = lines.find(word, place + 1)
        if place < 0:
            return None
        match = value.match(lines, place + len(word))
        alone = place == 0 or not (lines[place - 1].isalnum() or lines[place - 1] == "_")
        if match and alone:
            return match[1]
    return None
