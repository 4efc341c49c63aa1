"""The line to paste: variables for `ollama serve`, and the model that `ollama run` is told.

    OLLAMA_CONTEXT_LENGTH=8192 OLLAMA_NUM_PARALLEL=2 ollama serve & ollama run llama3.1:8b

What has no variable is a PARAMETER of a Modelfile; a model that is no tag is made of one.
"""

import re
import shlex
from collections.abc import Iterator

from weighbridge.catalogue import everyday
from weighbridge.engines import launch_line
from weighbridge.engines.interface import Subject
from weighbridge.engines.ollama.rules import USUAL
from weighbridge.report_keys import DerivedFacts
from weighbridge.workload import Infer

FLASH = {"on": "1", "off": "0"}
KEPT = ("MXFP4_MOE",)  # what a checkpoint is in already
FLOATS = ("BF16", "F16", "F32")
TAG = re.compile(r"[\w.-]+(/[\w.-]+)?:[\w.-]+", re.ASCII)


def facts(s: Subject, w: Infer, on: Infer) -> DerivedFacts:
    """The line, and what has to be made before it; or why there is none. `on` is the workload with
    Ollama's defaults."""
    if w.base_model:
        return {"launch_note": "no line to paste: Ollama runs the class that a file holds"}
    name, made = model(s)
    told = tuple(parameters(w))
    if told and not made:
        name, made = f"{_plain(s)}-own", f"FROM {name}"
    notes = "; ".join((made, *(f"PARAMETER {p}" for p in told))) if made else ""
    how = _create(s, name) if made else ""
    line = " ".join((*variables(w, on), "ollama serve & ollama run", shlex.quote(name)))
    found: DerivedFacts = {"launch": line}
    if made:
        found["launch_note"] = f"{name} has to be made first: {how} with a Modelfile of {notes}"
    return found


def variables(w: Infer, on: Infer) -> Iterator[str]:
    yield f"OLLAMA_CONTEXT_LENGTH={on.context}"
    if on.parallel != 1:
        yield f"OLLAMA_NUM_PARALLEL={on.parallel}"
    if w.flash_attn in FLASH:
        yield f"OLLAMA_FLASH_ATTENTION={FLASH[w.flash_attn]}"
    if w.kv_cache_dtype is not None:
        yield f"OLLAMA_KV_CACHE_TYPE={w.kv_cache_dtype.lower()}"
    if w.split_mode == "layer":
        yield "OLLAMA_SCHED_SPREAD=1"


def parameters(w: Infer) -> Iterator[str]:
    """Options of one model (api/types.go, Runner)."""
    numbers = (("num_gpu", w.n_gpu_layers), ("num_batch", w.n_batch), ("main_gpu", w.main_gpu))
    yield from (f"{name} {value}" for name, value in numbers if value is not None)
    if w.no_mmap:
        yield "use_mmap false"


def model(s: Subject) -> tuple[str, str]:
    """(what `ollama run` is told, what that has to be made of first or "")"""
    if s.part.library != "gguf":
        return _tag(s)
    at = launch_line.place(s)
    if at.model and s.model.repo_id and not at.file:
        return f"hf.co/{at.model}{f':{at.quant}' if at.quant else ''}", ""
    return _plain(s), f"FROM {shlex.quote(s.model.reference)}"


def _tag(s: Subject) -> tuple[str, str]:
    """A tag of its library as it was typed; else one that is made of the checkpoint."""
    typed, form = s.model.reference.strip(), s.choice.name
    if TAG.fullmatch(typed) and form in _of_tag(typed):
        return typed, ""
    name = _plain(s) if form in KEPT else f"{_plain(s)}:{form.lower()}"
    return name, f"FROM {launch_line.place(s).model or s.model.name}"


def _of_tag(typed: str) -> tuple[str, ...]:
    """Formats that a tag may be stored in: what its name says, else how its model is published or
    the library's usual one."""
    known = everyday.meaning(typed)
    if known is None:
        return USUAL, typed.rpartition("-")[2].upper()
    if known.quantization:
        return (known.quantization.upper(),)
    return KEPT if everyday.in_mxfp4(known.entry) else (USUAL,)


def _create(s: Subject, name: str) -> str:
    form = s.choice.name
    packs = s.part.library != "gguf" and form not in (*KEPT, *FLOATS)
    return f"ollama create {f'-q {form.lower()} ' * packs}{shlex.quote(name)}"


def _plain(s: Subject) -> str:
    """A name that Ollama takes: letters, digits and . _ - alone."""
    found = s.model.name.rpartition("/")[2].removesuffix(".gguf")
    return re.sub(r"[^\w.-]+", "-", found, flags=re.ASCII)
