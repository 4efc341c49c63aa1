"""The `llama-server` command line for a workload, with what differs from its defaults. If no file
of the format exists, the lines that make one from the checkpoint come first.

    python convert_hf_to_gguf.py --remote org/name --outfile name-BF16.gguf --outtype bf16
    llama-quantize name-BF16.gguf name-Q6_K.gguf Q6_K
    llama-server -m name-Q6_K.gguf -c 4096

Source: llama.cpp convert_hf_to_gguf.py (main), tools/quantize/quantize.cpp (main: formats of one or
two bits are refused without an imatrix), tools/imatrix.
"""

import re
import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from weighbridge.base.sentences import sentence
from weighbridge.engines import launch_line
from weighbridge.engines.interface import Subject
from weighbridge.engines.llama_cpp.components import projector
from weighbridge.engines.llama_cpp.effective import LlamaCppLaunch
from weighbridge.engines.llama_cpp.settings import LlamaCpp
from weighbridge.memory.report.keys import DerivedFacts
from weighbridge.models.catalogue.files import gguf_of
from weighbridge.models.sources.reference import CatalogueRef, HubRef, LocalRef
from weighbridge.settings.setting import Setting

if TYPE_CHECKING:
    from weighbridge.models.catalogue.files import PublishedFile
    from weighbridge.workload import Infer

# Types that the converter writes directly -> its --outtype (convert_hf_to_gguf.py in
# llama-cpp-python 0.3.25); it keeps MXFP4 without one. --remote reads a repository, not a folder
CONVERTED = {name: name.lower() for name in ("F32", "F16", "BF16", "Q8_0")}
KEPT = "MXFP4_MOE"
MATRIX = ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "Q2_K_S")  # need an imatrix
TEXTS = "calibration.txt"  # the user's texts to compute the imatrix from
TOWER = "mmproj-F16"  # the converter keeps a name that has "mmproj" in it
OF_FILES = "gguf"  # a word in names of repositories with GGUF files
UNTAGGED = ("Q4_K_M", KEPT)  # what -hf takes of one: common/download.cpp; the only one there is
PROGRAM = {"server": "llama-server", "cli": "llama-cli"}


def command(
    subject: Subject, effective: LlamaCppLaunch, w: "Infer", *, narrow: bool = False
) -> str:
    words = [PROGRAM[effective.program], *_model(subject)]
    words += [
        word
        for flag, value in _flags(subject, effective, w, narrow)
        for word in (flag, value)
        if word
    ]
    if _makes_tower(subject, w):
        words += ["-mm", _named(subject, TOWER)]
    return " ".join(words)


def _makes_tower(subject: Subject, w: "Infer") -> bool:
    """Return whether an mmproj file is made from the model's checkpoint."""
    return w.mmproj_auto and _makes(subject) and projector(subject, w) is not None


def _leaves_tower(subject: Subject, w: "Infer") -> bool:
    """Return whether -hf would load an encoder (mmproj) that the estimate does not count."""
    by_itself = projector(subject, w.but(mmproj_auto=True)) is not None
    return _model(subject)[0] == "-hf" and by_itself and projector(subject, w) is None


def _makes(subject: Subject) -> bool:
    """Return whether a GGUF file is made, since none is published in that format."""
    return from_checkpoint(subject) and published(subject) is None


def from_checkpoint(subject: Subject) -> bool:
    """Return whether a GGUF file is made from a checkpoint. Not if the model's files are GGUF, or
    if its repository, which may be out of reach, has such files by its name or by `:Q4_K_M` after
    it."""
    origin = subject.model.origin
    if subject.part.library == "gguf" or not isinstance(origin, HubRef):
        return subject.part.library != "gguf"
    return not origin.quant and OF_FILES not in re.split(r"[-_.]", origin.repo_id.lower())


def published(subject: Subject) -> "PublishedFile | None":
    """Return the published file of a catalogue model in that format, None without one."""
    origin = subject.model.origin
    if subject.part.library == "gguf" or not isinstance(origin, CatalogueRef):
        return None
    return gguf_of(launch_line.place(subject).model, subject.choice.name)


def facts(subject: Subject, effective: LlamaCppLaunch, w: "Infer", *, narrow: bool) -> DerivedFacts:
    """Return the command line after the lines that make its files, or a note why there is none. If
    room is `narrow` it has -ngl, since the build would move some layers otherwise."""
    if w.base_model:
        return {
            "launch_note": sentence("no_line", reason=sentence("file_class", engine="llama.cpp"))
        }
    line = command(subject, effective, w, narrow=narrow)
    drafts = [subject.draft] if subject.draft else []
    made = [*filter(from_checkpoint, drafts), *filter(_makes, (subject,))]
    if not made:
        known = published(subject)
        return {"launch": line} if known is None else {"launch": line, "launch_note": known.note}
    lines = [each for s in made for each in making(s)]
    files = [*map(file, made)]
    if _makes_tower(subject, w):
        files.append(_named(subject, TOWER))
        lines.append(
            f"python convert_hf_to_gguf.py {_source(subject)} --outfile {files[-1]} "
            "--outtype f16 --mmproj"
        )
    note = sentence("made_llama", file=" and ".join(files))
    return {"launch": "\n".join((*lines, line)), "launch_note": note}


def making(subject: Subject) -> Iterator[str]:
    """Yield the command lines that make the GGUF file from a checkpoint."""
    form, made = subject.choice.name, file(subject)
    convert = f"python convert_hf_to_gguf.py {_source(subject)} --outfile"
    if form in CONVERTED:
        yield f"{convert} {made} --outtype {CONVERTED[form]}"
        return
    if form == KEPT:
        yield f"{convert} {made}"
        return
    whole = _named(subject, "BF16")
    yield f"{convert} {whole} --outtype bf16"
    if form in MATRIX:
        yield f"llama-imatrix -m {whole} -f {TEXTS} -o imatrix.gguf"
    by = "--imatrix imatrix.gguf " if form in MATRIX else ""
    yield f"llama-quantize {by}{whole} {made} {form}"


def _source(subject: Subject) -> str:
    """Return the converter's source: a folder, or `--remote` and a repository."""
    name = shlex.quote(launch_line.place(subject).model or subject.model.name)
    return f"--remote {name}" if isinstance(subject.model.origin, HubRef | CatalogueRef) else name


def file(subject: Subject) -> str:
    """Return the name of the GGUF file that is made from a checkpoint."""
    return _named(subject, subject.choice.name)


def _named(subject: Subject, form: str) -> str:
    return shlex.quote(f"{subject.model.name.rpartition('/')[2]}-{form}.gguf")


def _draft(subject: Subject, w: "Infer") -> str:
    """Return the draft model's file: as the user named it, or made from its checkpoint."""
    if subject.draft and from_checkpoint(subject.draft):
        return file(subject.draft)
    return shlex.quote(w.draft_model or "")


def _model(subject: Subject) -> tuple[str, ...]:
    """Return the flag and value of a file, a repository, a URL, or a file that is made."""
    known = published(subject)
    if known is not None:
        return "-hf", known.repo_id
    if from_checkpoint(subject):
        return "-m", file(subject)
    place = launch_line.place(subject)
    if not isinstance(subject.model.origin, HubRef):
        name = (
            subject.model.reference if isinstance(subject.model.origin, LocalRef) else place.model
        )
        return "-mu" if "://" in name else "-m", shlex.quote(name or subject.model.loads_as)
    form = subject.choice.name
    named = form in UNTAGGED or form.lower() in place.model.lower()
    untagged = named or subject.part.library == "gguf"
    quant = place.quant or ("" if untagged else form)
    repo = shlex.quote(f"{place.model}:{quant}" if quant else place.model)
    return ("-hf", repo, "-hff", shlex.quote(place.file)) if place.file else ("-hf", repo)


def _told_apart(effective: LlamaCppLaunch) -> bool:
    """Return whether --kv-unified is needed: without it, -np would give each slot its own cache."""
    return (
        effective.unified
        and not effective.rules.unified
        and effective.slots != effective.rules.server_slots
    )


KINDS = {"draft": "draft-simple", "mtp": "draft-mtp", "ngram": "ngram-simple"}


def _flags(
    subject: Subject, effective: LlamaCppLaunch, w: "Infer", narrow: bool
) -> Iterator[tuple[str, str]]:
    numbers, switches = _numbers(subject, effective, w, narrow), _switches(effective, w)
    of_fork = (("-mla", w.mla_attn), ("-amb", w.attn_max_b))
    yield "-c", str(effective.n_ctx)
    yield from ((one.written, str(value)) for one, value, said in numbers if said)
    yield from ((flag, str(value)) for flag, value in of_fork if value is not None)
    yield from ((one.written, "") for one, on in switches if on)
    others = (
        ("--no-mmproj", _leaves_tower(subject, w)),
        ("--embeddings", effective.embeds),
        ("-fmoe", bool(w.fused_moe)),
        ("-rtr", effective.repacks),
    )
    yield from ((flag, "") for flag, on in others if on)
    written = {*WRITTEN, *(row[0].name for row in numbers), *(row[0].name for row in switches)}
    for flag, value in launch_line.others(LlamaCpp, w, written):
        yield flag, "" if value is True else str(value)


# Settings without a flag, or written as the first words of a line
WRITTEN = (LlamaCpp.program.name, LlamaCpp.sched_max_copies.name)


def _numbers(
    subject: Subject, effective: LlamaCppLaunch, w: "Infer", narrow: bool
) -> tuple[tuple[Setting[Any], object, object], ...]:
    """Return (setting, value, whether it is written)."""
    by_default = effective.gpus and effective.rules.gpu_layers == 0
    said = w.n_gpu_layers is not None or by_default or narrow
    proposes = KINDS.get(w.speculative_method or "", "")
    proposed = w.num_speculative_tokens
    return (
        (LlamaCpp.n_gpu_layers, effective.gpu_layers, said),
        (LlamaCpp.override_tensor, _patterns(effective), effective.overrides),
        (LlamaCpp.n_cpu_moe, effective.cpu_moe, effective.cpu_moe),
        (
            LlamaCpp.parallel,
            effective.slots,
            w.parallel or effective.slots != effective.rules.server_slots,
        ),
        (LlamaCpp.n_batch, effective.batch, w.n_batch),
        (LlamaCpp.ubatch_size, effective.ubatch, w.ubatch_size),
        (LlamaCpp.flash_attn, effective.asked_flash, w.flash_attn),
        (LlamaCpp.cache_type_k, effective.type_k.name.lower(), effective.type_k.name != "F16"),
        (LlamaCpp.cache_type_v, effective.type_v.name.lower(), effective.type_v.name != "F16"),
        (LlamaCpp.split_mode, effective.split_mode, w.split_mode),
        (
            LlamaCpp.tensor_split,
            ",".join(f"{x:g}" for x in effective.tensor_split),
            effective.tensor_split,
        ),
        (LlamaCpp.main_gpu, effective.main_gpu, w.main_gpu),
        (LlamaCpp.cache_ram, effective.cache_ram, w.cache_ram is not None),
        (LlamaCpp.mmproj, w.mmproj and shlex.quote(w.mmproj), w.mmproj),
        (LlamaCpp.draft_model, _draft(subject, w), w.draft_model),
        (LlamaCpp.speculative_method, proposes, proposes),
        (LlamaCpp.num_speculative_tokens, proposed, proposed is not None),
    )


def _patterns(effective: LlamaCppLaunch) -> str:
    """Return the patterns of -ot, written before --n-cpu-moe, which takes what they leave."""
    return shlex.quote(",".join(each.written for each in effective.overrides))


def _switches(effective: LlamaCppLaunch, w: "Infer") -> tuple[tuple[Setting[Any], bool], ...]:
    """Return (setting, whether it is on)."""
    return (
        (LlamaCpp.kv_unified, bool(w.kv_unified) or _told_apart(effective)),
        (LlamaCpp.swa_full, w.swa_full),
        (LlamaCpp.no_kv_offload, not effective.cache_offload),
        (LlamaCpp.no_mmproj_offload, bool(w.no_mmproj_offload)),
        (LlamaCpp.no_mmap, w.no_mmap and not effective.repacks),
    )
