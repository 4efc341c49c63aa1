"""The line to paste: variables for `ollama serve`, and the model that `ollama run` is told.

    OLLAMA_CONTEXT_LENGTH=8192 OLLAMA_NUM_PARALLEL=2 ollama serve & ollama run llama3.1:8b

What has no variable is a PARAMETER of a Modelfile; a model that is no tag is made of one.
"""

import re
import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING

from weighbridge.catalogue import everyday, ollama_tags
from weighbridge.engines import launch_line
from weighbridge.engines.interface import Subject
from weighbridge.engines.ollama import library
from weighbridge.report.keys import DerivedFacts
from weighbridge.sources.reference import LocalRef

if TYPE_CHECKING:
    from weighbridge.workload import Infer

FLASH = {"on": "1", "off": "0"}
KEPT = ("MXFP4_MOE",)  # what a checkpoint is in already
FLOATS = ("BF16", "F16", "F32")
REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
TAG = re.compile(r"[\w.-]+(/[\w.-]+)?:[\w.-]+", re.ASCII)


def facts(subject: Subject, w: "Infer", on: "Infer") -> DerivedFacts:
    """The line, and what has to be made before it; or why there is none. `on` is the workload with
    Ollama's defaults."""
    if w.base_model:
        return {"launch_note": "no line to paste: Ollama runs the class that a file holds"}
    name, modelfile = model(subject)
    why = launch_line.place(subject).why if modelfile else ""
    if why:
        return {"launch_note": f"no line to paste: {why}"}
    set_parameters, packs = tuple(parameters(w)), bool(modelfile)
    if set_parameters and not modelfile:
        name, modelfile = f"{_plain(subject)}-own", f"FROM {name}"
    notes = "; ".join((modelfile, *(f"PARAMETER {p}" for p in set_parameters))) if modelfile else ""
    how = _create(subject, name, packs=packs) if modelfile else ""
    fetched = _fetched(subject) if modelfile.startswith("FROM ./") else ""
    if fetched:
        how = f"hf download {fetched} --local-dir {fetched.rpartition('/')[2]}; {how}"
    line = " ".join((*variables(w, on), "ollama serve & ollama run", shlex.quote(name)))
    derived: DerivedFacts = {"launch": line}
    if modelfile:
        derived["launch_note"] = f"{name} has to be made first: {how} with a Modelfile of {notes}"
    return derived


def variables(w: "Infer", on: "Infer") -> Iterator[str]:
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
    """Options of one model (api/types.go, Runner)."""
    numbers = (("num_gpu", w.n_gpu_layers), ("num_batch", w.n_batch), ("main_gpu", w.main_gpu))
    yield from (f"{name} {value}" for name, value in numbers if value is not None)
    if w.no_mmap:
        yield "use_mmap false"


def model(subject: Subject) -> tuple[str, str]:
    """(what `ollama run` is told, what that has to be made of first or "")"""
    if subject.part.library != "gguf":
        return _tag(subject)
    named = launch_line.place(subject)
    if named.model and subject.model.repo_id and not named.file:
        return f"hf.co/{named.model}{f':{named.quant}' if named.quant else ''}", ""
    return _plain(subject), f"FROM {shlex.quote(subject.model.reference)}"


def _tag(subject: Subject) -> tuple[str, str]:
    """A tag of its library, as it was typed or the one of the same model; else one that is made of
    the checkpoint."""
    typed, form = subject.model.reference.strip(), subject.choice.name
    tag = typed if TAG.fullmatch(typed) else library.tag_of(typed)
    if tag and form in _of_tag(tag):
        return tag, ""
    name = _plain(subject) if form in KEPT else f"{_plain(subject)}:{form.lower()}"
    fetched = _fetched(subject)
    folder = f"./{fetched.rpartition('/')[2]}" if fetched else launch_line.place(subject).model
    return name, f"FROM {folder or subject.model.name}"


def _fetched(subject: Subject) -> str:
    """The repository whose files have to be fetched before: a Modelfile's FROM is a folder, a file
    or a model of Ollama's own (docs/modelfile.mdx of ollama 0.33)."""
    local = subject.part.library == "gguf" or isinstance(subject.model.origin, LocalRef)
    fetched = "" if local else launch_line.place(subject).model
    return fetched if REPOSITORY.fullmatch(fetched) else ""


def _of_tag(typed: str) -> tuple[str, ...]:
    """Formats that a tag may be stored in: what its name says, else how its model is published or
    the library's usual one."""
    known = everyday.meaning(typed)
    if known is None:
        return ollama_tags.USUAL, typed.rpartition("-")[2].upper()
    if known.quantization:
        return (known.quantization.upper(),)
    if everyday.in_mxfp4(known.entry):
        return KEPT
    return (ollama_tags.format_of(known.name),)


def _create(subject: Subject, name: str, *, packs: bool) -> str:
    """`packs`: it is made of floats, not of a model that Ollama has."""
    form = subject.choice.name
    packs = packs and subject.part.library != "gguf" and form not in (*KEPT, *FLOATS)
    return f"ollama create {f'-q {form.lower()} ' * packs}{shlex.quote(name)}"


def _plain(subject: Subject) -> str:
    """A name that Ollama takes: letters, digits and . _ - alone."""
    stem = subject.model.name.rpartition("/")[2].removesuffix(".gguf")
    return re.sub(r"[^\w.-]+", "-", stem, flags=re.ASCII)
