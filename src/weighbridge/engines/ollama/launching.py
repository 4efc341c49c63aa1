"""The lines to paste: variables for `ollama serve`, and the model for `ollama run`.

    ollama run llama3.1:8b
    OLLAMA_CONTEXT_LENGTH=8192 ollama serve & sleep 5; ollama run llama3.1:8b

A tag runs as it is. Other models are made first: Ollama's own converter and quantizer support some
classes and some formats; for others llama.cpp's tools make the file. What has no variable is a
PARAMETER of the Modelfile. A client that finds no server does not wait for one. Pulling a file of
the Hub that is in parts is answered 400 (ollama/ollama pull request 17743, huggingface/hub-docs
issue 2702). Source: ollama fb30760 convert/convert.go (loadModelMetadata), fs/ggml/type.go
(ParseFileType), cmd/cmd.go (CreateHandler), cmd/start_default.go, parser/parser.go.
"""

import re
import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING

from weighbridge.base.parsed import names_beside
from weighbridge.base.sentences import Sentence, sentence
from weighbridge.engines import launch_line
from weighbridge.engines.interface import Subject
from weighbridge.engines.llama_cpp import launching as llama_cpp
from weighbridge.engines.ollama import library
from weighbridge.memory.components.weights import weight_bytes
from weighbridge.memory.report.keys import DerivedFacts
from weighbridge.models.catalogue import everyday, ollama_tags
from weighbridge.models.sources.reference import LocalRef

if TYPE_CHECKING:
    from weighbridge.workload import Infer

FLASH = {"on": "1", "off": "0"}
KEPT = ("MXFP4_MOE",)  # checkpoints are in it already
FLOATS = ("BF16", "F16", "F32")
MADE = ("Q8_0", "Q4_K_S", "Q4_K_M")  # by `ollama create -q`
GGUF = ".gguf"
HUB = "hf.co/"
ONE_FILE = (
    50 * 10**9
)  # the Hub's limit of one file: larger ones are in parts, whose pull is refused
CONVERTS = names_beside(__file__, "converts.txt")
REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
TAG = re.compile(r"[\w.-]+(/[\w.-]+)?:[\w.-]+", re.ASCII)


def facts(subject: Subject, w: "Infer", on: "Infer", *, usual: int | None = None) -> DerivedFacts:
    """Return the lines, and what they make; or why there are none. `on` is the workload with
    Ollama's defaults, `usual` the context that it chooses by itself on these cards."""
    if w.base_model:
        return {"launch_note": sentence("no_line", reason=sentence("file_class", engine="Ollama"))}
    name, source = model(subject)
    why = launch_line.place(subject).why if source else ""
    if why:
        return {"launch_note": sentence("no_line", reason=why)}
    if name.startswith(HUB) and in_parts(subject):
        line = " ".join(("llama-server -hf", name.removeprefix(HUB), *_of_server(w, on)))
        return {"launch": line, "launch_note": sentence("in_parts")}
    options = tuple(parameters(w))
    if options and not source:
        source, name = name, f"{_plain(subject)}-own"
    lines = tuple(making(subject, name, source, options)) if source else ()
    served = " ".join((*variables(w, on, usual), "ollama serve & sleep 5"))
    runs = f"ollama run {shlex.quote(name)}"
    if not served.startswith("OLLAMA_"):
        whole = (*lines, runs)
    else:
        whole = (served, *lines, runs) if lines else (f"{served}; {runs}",)
    derived: DerivedFacts = {"launch": "\n".join(whole)}
    if lines:
        derived["launch_note"] = _made(name, subject, source)
    return derived


def in_parts(subject: Subject) -> bool:
    """Return whether a file exceeds the Hub's limit, so that its owner splits it."""
    return weight_bytes(subject.part, subject.choice, major=subject.major) > ONE_FILE


def _of_server(w: "Infer", on: "Infer") -> Iterator[str]:
    """Yield the flags of llama.cpp's own server for the same caches. It places layers by itself."""
    assert on.context is not None
    yield f"-c {on.context * (on.parallel or 1)} -np {on.parallel}"
    if w.n_gpu_layers is not None:
        yield f"-ngl {w.n_gpu_layers}"
    if w.kv_cache_dtype is not None:
        yield f"-ctk {w.kv_cache_dtype.lower()} -ctv {w.kv_cache_dtype.lower()}"


def making(subject: Subject, name: str, source: str, options: tuple[str, ...]) -> Iterator[str]:
    """Yield the lines that make a model of a checkpoint, a file or a tag."""
    form = subject.choice.name
    if source.endswith(GGUF) and subject.part.library != "gguf":
        yield from llama_cpp.making(subject)
    fetched = _fetched(subject) if source == _folder(subject) else ""
    if fetched:
        yield f"hf download {shlex.quote(fetched)} --local-dir {shlex.quote(source[2:])}"
    text = "".join(f"{line}\\n" for line in (f"FROM {_inside(source)}", *_set(options)))
    yield f"printf {shlex.quote(text)} > Modelfile"
    packs = fetched or (source == _folder(subject) and subject.part.library != "gguf")
    quantize = f"-q {form} " if packs and form not in (*KEPT, *FLOATS) else ""
    yield f"ollama create {quantize}{shlex.quote(name)}"


def _set(options: tuple[str, ...]) -> Iterator[str]:
    yield from (f"PARAMETER {option}" for option in options)


def _inside(source: str) -> str:
    """Return a path escaped for a Modelfile that printf writes."""
    safe = source.replace("\\", "\\\\").replace("%", "%%")
    return f'"{safe}"' if " " in source else safe


def _made(name: str, subject: Subject, source: str) -> Sentence:
    """Return a note on what makes a model, and why it is not Ollama if it is not."""
    if not source.endswith(GGUF) or subject.part.library == "gguf":
        return sentence("made", file=name)
    cls = subject.part.blueprint.cls
    if cls not in CONVERTS:
        return sentence("made_unconverted", file=name, cls=cls)
    return sentence("made_unquantized", file=name, form=subject.choice.name)


def variables(w: "Infer", on: "Infer", usual: int | None = None) -> Iterator[str]:
    """Yield the variables that differ from the server's defaults."""
    if on.context != usual:
        yield f"OLLAMA_CONTEXT_LENGTH={on.context}"
    if on.parallel != 1:
        yield f"OLLAMA_NUM_PARALLEL={on.parallel}"
    if w.flash_attn in FLASH:
        yield f"OLLAMA_FLASH_ATTENTION={FLASH[w.flash_attn]}"
    if w.kv_cache_dtype is not None:
        yield f"OLLAMA_KV_CACHE_TYPE={w.kv_cache_dtype.lower()}"
    if w.split_mode == "layer":
        yield "OLLAMA_SCHED_SPREAD=1"


def parameters(w: "Infer") -> Iterator[str]:
    """Yield a model's options (api/types.go, Runner)."""
    numbers = (("num_gpu", w.n_gpu_layers), ("num_batch", w.n_batch), ("main_gpu", w.main_gpu))
    yield from (f"{name} {value}" for name, value in numbers if value is not None)
    if w.no_mmap:
        yield "use_mmap false"


def model(subject: Subject) -> tuple[str, str]:
    """Return (the name for `ollama run`, the source to make it of, "" if none)."""
    if llama_cpp.from_checkpoint(subject):
        return _tag(subject)
    named = launch_line.place(subject)
    if named.model and subject.model.repo_id and not named.file:
        return f"{HUB}{named.model}{f':{named.quant}' if named.quant else ''}", ""
    return _plain(subject), subject.model.reference


def _tag(subject: Subject) -> tuple[str, str]:
    """Return its library tag, as typed or of the same model; else a file of that format on the Hub,
    or a name for a model made of the checkpoint."""
    typed, form = subject.model.reference.strip(), subject.choice.name
    tag = typed if TAG.fullmatch(typed) else library.tag_of(typed)
    if tag and form in _of_tag(tag):
        return tag, ""
    known = llama_cpp.published(subject)
    if known is not None:
        return f"{HUB}{known.repo_id}", ""
    name = _plain(subject) if form in KEPT else f"{_plain(subject)}:{form.lower()}"
    alone = subject.part.blueprint.cls in CONVERTS and form in (*MADE, *FLOATS, *KEPT)
    return name, _folder(subject) if alone else f"./{llama_cpp.file(subject)}"


def _folder(subject: Subject) -> str:
    """Return the folder of a checkpoint: where it is, or where it is downloaded to."""
    fetched = _fetched(subject)
    folder = f"./{fetched.rpartition('/')[2]}" if fetched else launch_line.place(subject).model
    return folder or subject.model.name


def _fetched(subject: Subject) -> str:
    """Return the repository whose files must be downloaded first: a Modelfile's FROM is a folder, a
    file or a model of Ollama's own (docs/modelfile.mdx of ollama 0.33)."""
    local = subject.part.library == "gguf" or isinstance(subject.model.origin, LocalRef)
    fetched = "" if local else launch_line.place(subject).model
    return fetched if REPOSITORY.fullmatch(fetched) else ""


def _of_tag(typed: str) -> tuple[str, ...]:
    """Return the formats that a tag may be stored in: by its name, else as its model is published,
    or the library's usual one."""
    known = everyday.meaning(typed)
    if known is None:
        return ollama_tags.USUAL, typed.rpartition("-")[2].upper()
    if known.quantization:
        return (known.quantization.upper(),)
    if everyday.in_mxfp4(known.entry):
        return KEPT
    return (ollama_tags.format_of(known.name),)


def _plain(subject: Subject) -> str:
    """Return a name that Ollama accepts: only letters, digits and . _ -"""
    stem = subject.model.name.rpartition("/")[2].removesuffix(".gguf")
    return re.sub(r"[^\w.-]+", "-", stem, flags=re.ASCII)
