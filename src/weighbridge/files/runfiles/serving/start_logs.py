"""What a server wrote when it started: its model, its settings, and what each part took.

Lines of vLLM (v1/worker/gpu_worker.py, v1/core/kv_cache_utils.py, worker/worker.py before them,
and `non-default args` of entrypoints/utils.py), SGLang (srt/model_executor/model_runner.py,
srt/managers/scheduler.py), llama.cpp (src/llama-model.cpp, llama-kv-cache.cpp, llama-context.cpp)
and Ollama (llm/server.go, its line `offload`; runner/ollamarunner). A text may hold the starts of
several servers: where a part comes again, another start begins. Every size that they print is a
power of 1024, whatever its unit is called.
"""

import json
import re
import shlex
from ast import literal_eval
from collections.abc import Iterator
from typing import Any

from weighbridge.base.records import replace
from weighbridge.base.units import GIB, KIB, MIB
from weighbridge.engines.format_names import meant
from weighbridge.engines.launch.paths import is_path, model_of
from weighbridge.files.programs import SIZE, LogLine, length_lines, log_lines
from weighbridge.files.runfiles.document import Document
from weighbridge.files.runfiles.record import PlannedRun, ServerStart, StartPart, Understood
from weighbridge.models.catalogue import everyday

MOST_TEXT = 200_000  # characters of a log that are read
MOST_STARTS = 8
MOST_ARGS = 20_000  # characters of one line of arguments
POWERS = {"K": KIB, "M": MIB, "G": GIB}
LINES = tuple(line for line in log_lines() if line.part)
# A line of a later rank, which takes as much as the first
OTHER_RANK = re.compile(r"[ _\[(](?:TP|PP|DP|EP)_?[1-9]\d{0,2}\b")
COUNTS = ("tokens", "context", "layers", "loaded_layers")
CARDS = re.compile(r'memory\.available="\[([^\]"]{1,400})\]"')  # Ollama: free memory per card
HEAD = (  # vLLM: version and model
    re.compile(
        r"(?:LLM engine \(v|\bversion |\bvllm[- ]v)(?P<version>\d{1,2}\.\d{1,3}(?:\.\d{1,3})?)"
    ),
    re.compile(
        r"(?:\] {1,4}model {1,4}(?!weights )|with config: model='?)(?P<model>[\w./-]{3,120}\w)"
    ),
)
ARGS = re.compile(r"non-default args: (?=\{)")
NAMESPACE = re.compile(r"\bargs: Namespace\(")  # older releases: all arguments
_OF_NAMESPACE = """
model max_model_len tensor_parallel_size pipeline_parallel_size quantization
gpu_memory_utilization max_num_seqs max_num_batched_tokens enforce_eager kv_cache_dtype
cpu_offload_gb
"""
OF_NAMESPACE = tuple(_OF_NAMESPACE.split())
SERVER_ARGS = re.compile(r"server_args=ServerArgs\((?=[a-z])")
VALUE = r"(?P<value>'[^'\n]{0,300}'|-?\d[\d.e+-]{0,20}|True|False|None)"
BRACKETS = re.compile(
    r"'(?:[^'\\]|\\.){0,2000}'|\"(?:[^\"\\]|\\.){0,2000}\"|[\[\](){},]"
)  # and texts
ITEM = re.compile(r"\s*'(?P<key>[a-z_]{2,60})': (?P<value>.{1,4000})")
PLAIN = re.compile(rf"\b(?P<key>[a-z_]{{2,60}})={VALUE}")  # of a call
_SGLANG_NAMES = """
tp_size pp_size dp_size ep_size mem_fraction_static context_length chunked_prefill_size
max_running_requests cuda_graph_max_bs kv_cache_dtype quantization page_size
"""
SGLANG_NAMES = tuple(_SGLANG_NAMES.split())
GGUF = re.compile(
    r"(?:from|model (?:file )?path:?|loading model) \S{0,300}?(?P<file>[\w.-]{3,120})\.gguf\b"
)
GENERAL = re.compile(r"general\.name +str +?= (?P<file>[^\n]{2,80})")
OLLAMA = re.compile(r"Listening on [^\n]{0,40}\(version (\d{1,2}\.\d{1,3}(?:\.\d{1,3})?)\)")
BUILD = re.compile(r"(?m)\bbuild: (\d{3,6})\b")
N_CTX = re.compile(next(length_lines("llama.cpp")))
CTX_SIZE = re.compile(r"(?:--ctx-size |KvSize:)(\d{1,9})\b")  # Ollama's runners
FILE_TYPE = re.compile(
    r"(?:file type|model ftype)\s*= (?P<type>[A-Z0-9_]{2,8})(?: - (?P<size>Small|Medium|Large))?"
)


def starts(document: Document) -> list[ServerStart]:
    """Return what each server in a text logged when it started, in order."""
    text = document.text[:MOST_TEXT]
    lines = (line for line in LINES if not line.unless or line.unless not in text)
    matches = sorted(
        (
            (match.start(), line, match)
            for line in lines
            for match in re.finditer(line.searched, text)
            if not OTHER_RANK.search(text, text.rfind("\n", 0, match.start()) + 1, match.start())
        ),
        key=lambda each: each[0],
    )
    gathered: list[_Start] = []
    for place, line, match in matches:
        part = _part(line, match, document.line_of(place))
        if not gathered or gathered[-1].has(part):
            if len(gathered) == MOST_STARTS:
                break
            gathered.append(_Start(line.program))
        gathered[-1].add(line.program, part)
    free = CARDS.search(text)
    cards = tuple(_bytes(m) for m in re.finditer(SIZE, free[1])) if free else ()
    return [each.record(cards) for each in gathered if each.parts]


class _Start:
    """A server's start while its lines are collected."""

    def __init__(self, program: str) -> None:
        self.program = program
        self.parts: list[StartPart] = []
        self.counts: dict[str, int] = {}

    def has(self, part: StartPart) -> bool:
        """Return whether this start already has the part; a repeated length counts as the same
        one."""
        if part.name in COUNTS:
            counted = self.counts.get(part.name)
            return counted is not None and counted != part.value
        return any(p.name == part.name and p.device == part.device for p in self.parts)

    def add(self, program: str, part: StartPart) -> None:
        if part.name in COUNTS:
            self.counts[part.name] = part.value
        else:
            self.parts.append(part)
            self.program = self.program if self.program == "ollama" else program

    def record(self, cards: tuple[int, ...]) -> ServerStart:
        return ServerStart(self.program, tuple(self.parts), self.counts, cards)


def _part(line: LogLine, match: "re.Match[str]", line_number: int) -> StartPart:
    groups = match.groupdict()
    if line.part in COUNTS:
        return StartPart(line.part, int(groups["count"].replace(",", "")), line_number)
    nbytes = _bytes(match)
    if groups.get("more"):
        nbytes += round(float(groups["more"]) * GIB)
    return StartPart(line.part, nbytes, line_number, groups.get("device") or "")


def _bytes(match: "re.Match[str]") -> int:
    unit = match.groupdict().get("unit")
    return round(float(match["size"]) * (POWERS[unit] if unit else 1))


# The run of a log


def runs(document: Document) -> Iterator[PlannedRun]:
    """Yield the run of a vLLM, SGLang or llama.cpp log that names its model."""
    text = document.text[:MOST_TEXT]
    for reader in (_vllm, _sglang, _llama_cpp):
        run = reader(document, text)
        if run is not None:
            yield _elsewhere(run)
            return


def _elsewhere(run: PlannedRun) -> PlannedRun:
    """Return the run with its model's name, if its model is a path on another machine."""
    name = model_of(run.model) if is_path(run.model) else run.model
    if name in ("", run.model):
        return run
    return replace(run, model=name, command=run.command.replace(shlex.quote(run.model), name))


def _vllm(document: Document, text: str) -> PlannedRun | None:
    version, model = (pattern.search(text) for pattern in HEAD)
    arguments = _arguments(text)
    names = [str(arguments.pop(key, "") or "") for key in ("model_tag", "model")]
    name = next(filter(None, names), model["model"] if model else "")
    if not name or not (version or arguments):
        return None
    flags = [word for key, value in arguments.items() for word in as_flag(key, value)]
    head = model or version
    line_number = document.line_of(head.start()) if head else 0
    return PlannedRun(
        task="infer",
        model=name,
        settings={"engine_version": version["version"]} if version else {},
        command=shlex.join(["vllm", "serve", name, *flags]),
        understood=(Understood(key="log of vLLM", value=name, setting="model", line=line_number),),
    )


def _arguments(text: str) -> dict[str, Any]:
    """Return the arguments in vLLM's log line, as far as they were pasted."""
    match = ARGS.search(text)
    if match is None:
        whole = NAMESPACE.search(text)
        arguments = _pairs(text[whole.end() : whole.end() + MOST_ARGS], PLAIN) if whole else {}
        usual = (None, "auto", 1)
        return {name: arguments[name] for name in OF_NAMESPACE if arguments.get(name) not in usual}
    return dict(_items(text[match.end() : match.end() + MOST_ARGS].partition("\n")[0]))


def _items(mapping: str) -> Iterator[tuple[str, Any]]:
    """Yield the plain items of a printed Python mapping, and of its complete inner mappings; of a
    truncated text only the complete ones."""
    depth, begin = 0, 1
    for match in BRACKETS.finditer(mapping):
        depth += {"{": 1, "[": 1, "(": 1, "}": -1, "]": -1, ")": -1}.get(match[0], 0)
        if depth > 1 or (depth == 1 and match[0] != ","):
            continue
        item = ITEM.fullmatch(mapping[begin : match.start()])
        begin = match.end()
        if item is None:
            continue
        try:
            value = literal_eval(item["value"])
        except (ValueError, SyntaxError, MemoryError, RecursionError):  # the repr of a class
            continue
        if isinstance(value, dict | str | int | float | None):
            yield item["key"], value
        if depth < 1:
            return


def _pairs(text: str, pattern: re.Pattern[str]) -> dict[str, Any]:
    """Return the plain arguments in one line, by name."""
    matches = pattern.finditer(text.partition("\n")[0])
    return {pair["key"]: literal_eval(pair["value"]) for pair in matches}


def as_flag(key: str, value: Any) -> list[str]:
    """Return a Python argument as words of the flag with that name."""
    flag = f"--{key.replace('_', '-')}"
    if isinstance(value, bool):
        return [flag] if value else []
    text = json.dumps(value) if isinstance(value, dict) else str(value)
    return [] if value is None else [flag, text]


def _sglang(document: Document, text: str) -> PlannedRun | None:
    match = SERVER_ARGS.search(text)
    if match is None:
        return None
    pairs = _pairs(text[match.end() : match.end() + MOST_ARGS], PLAIN)
    name = pairs.get("model_path")
    if not isinstance(name, str):
        return None
    words = [
        word
        for key in SGLANG_NAMES
        if pairs.get(key) not in (None, "auto", 1)
        for word in as_flag(key, str(pairs[key]))
    ]
    line_number = document.line_of(match.start())
    return PlannedRun(
        task="infer",
        model=name,
        command=shlex.join(["python", "-m", "sglang.launch_server", "--model-path", name, *words]),
        understood=(
            Understood(key="log of SGLang", value=name, setting="model", line=line_number),
        ),
    )


def _llama_cpp(document: Document, text: str) -> PlannedRun | None:
    """Return the run of a llama.cpp log, or of Ollama's, which contains one; None without
    either."""
    match = GGUF.search(text) or GENERAL.search(text)
    ollama = OLLAMA.search(text)
    context = next((m for p in (CTX_SIZE, N_CTX) if (m := p.search(text))), None)
    if match is None or context is None:
        return None
    file = match["file"].strip()
    packed = re.search(r"(?i)\b(?:IQ\d|Q\d|BF16|F16)[A-Z0-9_]*$", file.replace("-", " "))
    form = packed[0] if packed else _type(text)
    line_number = document.line_of(match.start())
    engine = "ollama" if ollama else "llama.cpp"
    settings: dict[str, Any] = {"engine": engine, "context": int(context[1])}
    build = ollama or BUILD.search(text)
    if build is not None:
        settings["engine_version"] = build[1]
    if form:
        settings["quantization"] = meant(form.upper(), "llama.cpp")
    return PlannedRun(
        task="infer",
        model=beginning(file),
        settings=settings,
        understood=(
            Understood(key=f"log of {engine}", value=file, setting="model", line=line_number),
        ),
    )


def beginning(file: str) -> str:
    """Return the catalogue name that begins a file's name; "" without one."""
    words = re.split(r"(?<=[-_. ])", file)
    for count in range(len(words), 0, -1):
        name = "".join(words[:count]).strip("-_. ")
        meaning = everyday.meaning(name) if len(name) > 3 else None
        if meaning is not None:
            return name
    return ""


def _type(text: str) -> str:
    match = FILE_TYPE.search(text)
    return f"{match['type']}{'_' + match['size'][0] if match['size'] else ''}" if match else ""
