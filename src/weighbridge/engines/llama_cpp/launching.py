"""The command line for this workload: `llama-server`, with what differs from its defaults."""

import shlex
from collections.abc import Iterator

from weighbridge.engines import launch_line
from weighbridge.engines.interface import Subject
from weighbridge.engines.llama_cpp.setting import LlamaCppLaunch
from weighbridge.report.keys import DerivedFacts
from weighbridge.settings import Infer
from weighbridge.sources.reference import CatalogueRef, HubRef, LocalRef

# What the converter writes by itself, and as which --outtype (convert_hf_to_gguf.py in
# llama-cpp-python 0.3.25); MXFP4 is kept unasked. --remote reads a repository, not a folder
CONVERTED = {name: name.lower() for name in ("F32", "F16", "BF16", "Q8_0")}
KEPT = "MXFP4_MOE"
PROGRAM = {"server": "llama-server", "cli": "llama-cli"}


def command(s: Subject, at: LlamaCppLaunch, w: Infer) -> str:
    words = [PROGRAM[at.program], *_model(s)]
    words += [word for flag, value in _flags(s, at, w) for word in (flag, value) if word]
    return " ".join(words)


def facts(s: Subject, at: LlamaCppLaunch, w: Infer) -> DerivedFacts:
    """The line, and what has to be made before it; or why there is none."""
    if w.base_model:
        return {"launch_note": "no line to paste: llama.cpp runs the class that a file holds"}
    found: DerivedFacts = {"launch": command(s, at, w)}
    if s.part.library == "gguf":
        return found
    form = s.choice.name
    made = f"convert_hf_to_gguf.py {_source(s)} --outfile FILE"
    made += f" --outtype {CONVERTED[form]}" if form in CONVERTED else ""
    made += f", then llama-quantize to {form}" if form not in (*CONVERTED, KEPT) else ""
    return {**found, "launch_note": f"{_file(s)} has to be made first: {made}"}


def _source(s: Subject) -> str:
    """What the converter is given: a folder, or a repository that it reads from afar."""
    name = shlex.quote(launch_line.place(s).model or s.model.name)
    return f"--remote {name}" if isinstance(s.model.origin, HubRef | CatalogueRef) else name


def _file(s: Subject) -> str:
    name = s.model.name.rpartition("/")[2]
    return shlex.quote(f"{name}-{s.choice.name}.gguf")


def _draft(s: Subject, w: Infer) -> str:
    """The file of the model that proposes tokens: one here, or the one that is made of it."""
    made = s.draft is not None and s.draft.part.library != "gguf"
    return _file(s.draft) if s.draft and made else shlex.quote(w.draft_model or "")


def _model(s: Subject) -> tuple[str, ...]:
    """A file here, one of a repository, one at a URL, or the one that is made of the model."""
    if s.part.library != "gguf":
        return "-m", _file(s)
    at = launch_line.place(s)
    if not isinstance(s.model.origin, HubRef):
        name = s.model.reference if isinstance(s.model.origin, LocalRef) else at.model
        return "-mu" if "://" in name else "-m", shlex.quote(name or s.model.loads_as)
    repo = shlex.quote(f"{at.model}:{at.quant}" if at.quant else at.model)
    return ("-hf", repo, "-hff", shlex.quote(at.file)) if at.file else ("-hf", repo)


def _told_apart(at: LlamaCppLaunch) -> bool:
    """Tell whether -np sets slots apart that without it share a cache."""
    return at.unified and not at.rules.unified and at.slots != at.rules.server_slots


KINDS = {"draft": "draft-simple", "mtp": "draft-mtp", "ngram": "ngram-simple"}


def _flags(s: Subject, at: LlamaCppLaunch, w: Infer) -> Iterator[tuple[str, str]]:
    numbers = (
        ("-c", at.n_ctx, True),
        (
            "-ngl",
            at.gpu_layers,
            w.n_gpu_layers is not None or (at.gpus and at.rules.gpu_layers == 0),
        ),
        ("-ncmoe", at.cpu_moe, at.cpu_moe),
        ("-np", at.slots, w.parallel or at.slots != at.rules.server_slots),
        ("-b", at.batch, w.n_batch),
        ("-ub", at.ubatch, w.ubatch_size),
        ("-fa", at.asked_flash, w.flash_attn),
        ("-ctk", at.type_k.name.lower(), at.type_k.name != "F16"),
        ("-ctv", at.type_v.name.lower(), at.type_v.name != "F16"),
        ("-sm", at.split_mode, w.split_mode),
        ("-ts", ",".join(f"{x:g}" for x in at.tensor_split), at.tensor_split),
        ("-mg", at.main_gpu, w.main_gpu),
        ("--cache-ram", at.cache_ram, w.cache_ram is not None),
        ("--mmproj", w.mmproj and shlex.quote(w.mmproj), w.mmproj),
        ("-md", _draft(s, w), w.draft_model),
        ("--spec-type", KINDS.get(w.speculative_method or "", ""), w.speculative_method in KINDS),
        ("--draft-max", w.num_speculative_tokens, w.num_speculative_tokens is not None),
        ("-mla", w.mla_attn, w.mla_attn is not None),
        ("-amb", w.attn_max_b, w.attn_max_b is not None),
    )
    yield from ((flag, str(value)) for flag, value, said in numbers if said)
    switches = (
        ("--kv-unified", bool(w.kv_unified) or _told_apart(at)),
        ("--swa-full", w.swa_full),
        ("--no-kv-offload", not at.cache_offload),
        ("--no-mmap", not at.mmap and not at.repacks),
        ("--embeddings", at.embeds),
        ("-fmoe", bool(w.fused_moe)),
        ("-rtr", at.repacks),
    )
    yield from ((flag, "") for flag, said in switches if said)
