"""Modelfiles of Ollama: the model that they begin with, and the parameters that decide memory.

Source: https://github.com/ollama/ollama, docs/modelfile.mdx (FROM, PARAMETER, ADAPTER).
"""

import re
from collections.abc import Iterator, Mapping

from weighbridge.base.records import replace
from weighbridge.engines.launch.paths import model_of
from weighbridge.files.runfiles.document import Document, Path, Place
from weighbridge.files.runfiles.record import Kind, PlannedRun, Understood, Unread, Value
from weighbridge.files.runfiles.tables import phrased

LINE = re.compile(r"(?im)^[ \t]*(FROM|PARAMETER|ADAPTER|DRAFT)[ \t]+([^\n]+?)[ \t]*$")
COUNTS = {"num_ctx": "context", "num_gpu": "n_gpu_layers"}
# Options and Runner of api/types.go: others take no memory, or Ollama sets them
KNOWN = {
    *COUNTS,
    *("num_keep", "seed", "num_predict", "top_k", "top_p", "min_p", "typical_p", "repeat_last_n"),
    *("temperature", "repeat_penalty", "presence_penalty", "frequency_penalty", "stop", "tfs_z"),
    *("num_batch", "main_gpu", "use_mmap", "num_thread", "draft_num_predict"),
    *("mirostat", "mirostat_tau", "mirostat_eta", "penalize_newline", "numa", "low_vram"),
    *("f16_kv", "logits_all", "vocab_only", "use_mlock"),  # from old releases
}
TEXTS = re.compile(r'"""[\s\S]*?"""')


def tells(document: Document) -> bool:
    """Return whether a text begins with FROM and is no Dockerfile."""
    instructions = TEXTS.sub("", document.text)
    first = next(
        (line for line in instructions.splitlines() if line.strip() and line[:1] != "#"), ""
    )
    of_docker = re.search(r"(?m)^(RUN|COPY|ENTRYPOINT|CMD|WORKDIR)\b", instructions)
    return re.match(r"(?i)\s*FROM\s+\S+\s*$", first) is not None and of_docker is None


def read(document: Document) -> Iterator[PlannedRun]:
    """Yield the run of a Modelfile."""
    blank = TEXTS.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), document.text)
    model, settings = "", dict[str, Value](engine="ollama")
    understood: list[Understood] = []
    unread: list[Unread] = []
    for match in LINE.finditer(blank):
        line, word, argument = document.line_of(match.start()), match[1].upper(), match[2]
        if word == "FROM" and not model:
            model = model_of(argument.strip('"'))
            understood.append(_understood("FROM", argument, "model", line, match))
        elif word == "FROM":
            unread.append(Unread(key="FROM", line=line, why="a projector beside the model"))
        elif word == "ADAPTER":
            unread.append(Unread(key="ADAPTER", line=line, why="an adapter beside the model"))
        elif word == "DRAFT":
            unread.append(Unread(key="DRAFT", line=line, why="a draft model beside the model"))
        else:
            name, _, value = argument.partition(" ")
            _parameter(name.lower(), value.strip(), settings, understood, (line, match))
            why = _refused(name.lower(), value.strip())
            unread += [Unread(key=f"PARAMETER {name}", line=line, why=why)] if why else []
    yield PlannedRun(
        task="infer",
        model=model,
        settings=settings,
        understood=tuple(understood),
        unread=tuple(unread),
    )


def _parameter(
    name: str,
    value: str,
    settings: dict[str, Value],
    understood: list[Understood],
    place: tuple[int, "re.Match[str]"],
) -> None:
    if name not in COUNTS or not value.isdigit():
        return
    line, match = place
    settings[COUNTS[name]] = int(value)
    understood.append(_understood(name, int(value), COUNTS[name], line, match, value))


def _refused(name: str, value: str) -> str:
    """Return why Ollama rejects a parameter; "" if it accepts it."""
    if name not in KNOWN:
        return "no parameter of Ollama's"
    if name in COUNTS and not re.fullmatch(r"-?\d+", value):
        return f"{value:.40} is no whole number"
    return ""


def _understood(
    key: str, value: Value, setting: str, line: int, match: "re.Match[str]", text: str = ""
) -> Understood:
    end = match.end(2)
    start = end - len(text) if text else match.start(2)
    return Understood(key=key, value=value, setting=setting, line=line, start=start, end=end)


# A change of the file


def written(change: Mapping[str, Value]) -> Mapping[str, Value] | None:
    """Return changed settings of ours as Ollama's parameters, None if it lacks one for them."""
    return phrased(change, {setting: name for name, setting in COUNTS.items()}, {})


def placed(document: Document) -> Document:
    """Return a Modelfile with the places of its parameters and of its model."""
    places: dict[Path, Place] = {}
    (run,) = read(document)
    for one in run.understood:
        places.setdefault((one.key,), Place(one.line, one.start, one.end))
    return replace(document, places=places)


# A new file

MADE_FROM = re.compile(r"FROM (\S+?)(?:\\n|'|$)")  # in a command that writes a Modelfile
RUN = re.compile(r"ollama run (\S+)")
LAYERS = re.compile(r"PARAMETER num_gpu (\d+)")


def fresh(run: PlannedRun) -> Mapping[str, Value]:
    """Return the lines of a new Modelfile: the launch line's model, its context and its layers on
    the card."""
    quantized, ran = MADE_FROM.search(run.command), RUN.search(run.command)
    file = quantized or ran
    words: dict[str, Value] = {
        "FROM": file[1] if file else run.model,
        "PARAMETER num_ctx": run.settings["context"],
    }
    layers = LAYERS.search(run.command)
    return words | ({"PARAMETER num_gpu": int(layers[1])} if layers else {})


KIND = Kind(
    name="modelfile",
    title="Modelfile",
    syntaxes=("modelfile", "text", "shell"),
    source="https://github.com/ollama/ollama/blob/main/docs/modelfile.mdx",
    tells=tells,
    read=read,
    written=written,
    placed=placed,
    fresh=fresh,
)
