"""The command line for this workload: `llama-server`, with what differs from its defaults."""

import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from weighbridge.engines import launch_line
from weighbridge.engines.interface import Subject
from weighbridge.engines.llama_cpp.effective import LlamaCppLaunch
from weighbridge.engines.llama_cpp.settings import LlamaCpp
from weighbridge.report.keys import DerivedFacts
from weighbridge.settings.setting import Setting
from weighbridge.sources.reference import CatalogueRef, HubRef, LocalRef

if TYPE_CHECKING:
    from weighbridge.workload import Infer

# What the converter writes by itself, and as which --outtype (convert_hf_to_gguf.py in
# llama-cpp-python 0.3.25); MXFP4 is kept unasked. --remote reads a repository, not a folder
CONVERTED = {name: name.lower() for name in ("F32", "F16", "BF16", "Q8_0")}
KEPT = "MXFP4_MOE"
PROGRAM = {"server": "llama-server", "cli": "llama-cli"}


def command(subject: Subject, at: LlamaCppLaunch, w: "Infer") -> str:
    words = [PROGRAM[at.program], *_model(subject)]
    words += [word for flag, value in _flags(subject, at, w) for word in (flag, value) if word]
    return " ".join(words)


def facts(subject: Subject, at: LlamaCppLaunch, w: "Infer") -> DerivedFacts:
    """The line, and what has to be made before it; or why there is none."""
    if w.base_model:
        return {"launch_note": "no line to paste: llama.cpp runs the class that a file holds"}
    found: DerivedFacts = {"launch": command(subject, at, w)}
    if subject.part.library == "gguf":
        return found
    form = subject.choice.name
    made = f"convert_hf_to_gguf.py {_source(subject)} --outfile FILE"
    made += f" --outtype {CONVERTED[form]}" if form in CONVERTED else ""
    made += f", then llama-quantize to {form}" if form not in (*CONVERTED, KEPT) else ""
    return {**found, "launch_note": f"{_file(subject)} has to be made first: {made}"}


def _source(subject: Subject) -> str:
    """Return what the converter is given: a folder, or a repository that it reads from afar."""
    name = shlex.quote(launch_line.place(subject).model or subject.model.name)
    return f"--remote {name}" if isinstance(subject.model.origin, HubRef | CatalogueRef) else name


def _file(subject: Subject) -> str:
    name = subject.model.name.rpartition("/")[2]
    return shlex.quote(f"{name}-{subject.choice.name}.gguf")


def _draft(subject: Subject, w: "Infer") -> str:
    """The file of the model that proposes tokens: one here, or the one that is made of it."""
    made = subject.draft is not None and subject.draft.part.library != "gguf"
    return _file(subject.draft) if subject.draft and made else shlex.quote(w.draft_model or "")


def _model(subject: Subject) -> tuple[str, ...]:
    """A file here, one of a repository, one at a URL, or the one that is made of the model."""
    if subject.part.library != "gguf":
        return "-m", _file(subject)
    at = launch_line.place(subject)
    if not isinstance(subject.model.origin, HubRef):
        name = subject.model.reference if isinstance(subject.model.origin, LocalRef) else at.model
        return "-mu" if "://" in name else "-m", shlex.quote(name or subject.model.loads_as)
    repo = shlex.quote(f"{at.model}:{at.quant}" if at.quant else at.model)
    return ("-hf", repo, "-hff", shlex.quote(at.file)) if at.file else ("-hf", repo)


def _told_apart(at: LlamaCppLaunch) -> bool:
    """Tell whether -np sets slots apart that without it share a cache."""
    return at.unified and not at.rules.unified and at.slots != at.rules.server_slots


KINDS = {"draft": "draft-simple", "mtp": "draft-mtp", "ngram": "ngram-simple"}


def _flags(subject: Subject, at: LlamaCppLaunch, w: "Infer") -> Iterator[tuple[str, str]]:
    numbers, switches = _numbers(subject, at, w), _switches(at, w)
    of_fork = (("-mla", w.mla_attn), ("-amb", w.attn_max_b))
    yield "-c", str(at.n_ctx)
    yield from ((one.written, str(value)) for one, value, said in numbers if said)
    yield from ((flag, str(value)) for flag, value in of_fork if value is not None)
    yield from ((one.written, "") for one, on in switches if on)
    others = (("--embeddings", at.embeds), ("-fmoe", bool(w.fused_moe)), ("-rtr", at.repacks))
    yield from ((flag, "") for flag, on in others if on)
    written = {*WRITTEN, *(row[0].name for row in numbers), *(row[0].name for row in switches)}
    for flag, value in launch_line.others(LlamaCpp, w, written):
        yield flag, "" if value is True else str(value)


# Settings that no flag of the program says, or the first words of a line
WRITTEN = (LlamaCpp.program.name, LlamaCpp.sched_max_copies.name)


def _numbers(
    subject: Subject, at: LlamaCppLaunch, w: "Infer"
) -> tuple[tuple[Setting[Any], object, object], ...]:
    """Return (setting, its value, whether it is said)."""
    by_default = at.gpus and at.rules.gpu_layers == 0
    proposes = KINDS.get(w.speculative_method or "", "")
    proposed = w.num_speculative_tokens
    return (
        (LlamaCpp.n_gpu_layers, at.gpu_layers, w.n_gpu_layers is not None or by_default),
        (LlamaCpp.n_cpu_moe, at.cpu_moe, at.cpu_moe),
        (LlamaCpp.parallel, at.slots, w.parallel or at.slots != at.rules.server_slots),
        (LlamaCpp.n_batch, at.batch, w.n_batch),
        (LlamaCpp.ubatch_size, at.ubatch, w.ubatch_size),
        (LlamaCpp.flash_attn, at.asked_flash, w.flash_attn),
        (LlamaCpp.cache_type_k, at.type_k.name.lower(), at.type_k.name != "F16"),
        (LlamaCpp.cache_type_v, at.type_v.name.lower(), at.type_v.name != "F16"),
        (LlamaCpp.split_mode, at.split_mode, w.split_mode),
        (LlamaCpp.tensor_split, ",".join(f"{x:g}" for x in at.tensor_split), at.tensor_split),
        (LlamaCpp.main_gpu, at.main_gpu, w.main_gpu),
        (LlamaCpp.cache_ram, at.cache_ram, w.cache_ram is not None),
        (LlamaCpp.mmproj, w.mmproj and shlex.quote(w.mmproj), w.mmproj),
        (LlamaCpp.draft_model, _draft(subject, w), w.draft_model),
        (LlamaCpp.speculative_method, proposes, proposes),
        (LlamaCpp.num_speculative_tokens, proposed, proposed is not None),
    )


def _switches(at: LlamaCppLaunch, w: "Infer") -> tuple[tuple[Setting[Any], bool], ...]:
    """Return (setting, whether it is on)."""
    return (
        (LlamaCpp.kv_unified, bool(w.kv_unified) or _told_apart(at)),
        (LlamaCpp.swa_full, w.swa_full),
        (LlamaCpp.no_kv_offload, not at.cache_offload),
        (LlamaCpp.no_mmap, not at.mmap and not at.repacks),
    )
