"""The model as an engine's launch line names it, and what the line of a server cannot express, or
expresses otherwise than was meant:

    dtype     only float16, bfloat16 and float32; what the card has instead of bfloat16
    formats   made while loading: Engine.written; all others are read from checkpoints stored so
    context   beyond the model's maximum needs an environment variable
    images    whose tokens are more than the context

Source: vllm 0.33 config/model.py (_STR_DTYPE_TO_TORCH_DTYPE, _get_and_verify_max_len),
model_executor/layers/quantization/; sglang 0.5.23 srt/configs/model_config.py
(_derive_context_length), srt/arg_groups/choices.py.
"""

import json
import shlex
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from weighbridge.base.errors import TriedError
from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import clauses, sentence
from weighbridge.engines.engine import Engine
from weighbridge.engines.format_choice import ASKED, SAID_OF_IT
from weighbridge.engines.interface import Subject
from weighbridge.engines.weight_formats import makes
from weighbridge.memory.report.keys import DerivedFacts
from weighbridge.models.sources.reference import (
    FILES,
    CatalogueRef,
    HubRef,
    LocalRef,
    Reference,
    UrlRef,
)
from weighbridge.models.tensors import torch_dtype
from weighbridge.settings.setting import Settings, launched

if TYPE_CHECKING:
    from weighbridge.models.catalogue.copies import Copy
    from weighbridge.settings.shared import DraftSettings
    from weighbridge.workload import Infer

GGUF = ".gguf"
DTYPES: Mapping[str, str] = {"float16": "half", "bfloat16": "bfloat16", "float32": "float"}


class LoadTarget(NamedTuple):
    """What an engine loads: a repository or a folder, and a GGUF file in it; or why it cannot
    load."""

    model: str = ""
    revision: str | None = None
    file: str = ""
    quant: str = ""  # quantization of a repository's GGUF files
    why: str = ""


def place(subject: Subject) -> LoadTarget:
    origin = subject.model.origin
    target = _place(origin, subject) if origin is not None else _unread(subject)
    stored = subject.part.stored or subject.model.repo_id or isinstance(origin, HubRef)
    if target.why or stored or origin is None:
        return target
    return LoadTarget(why=sentence("no_weights"))


def served(subject: Subject, w: "Infer", engine: Engine) -> LoadTarget:
    """Return what a server loads: a repository with the model in the format, if the engine does not
    quantize to it, else the model's own place."""
    copy = packed(subject, w, engine)
    return place(subject) if copy is None else LoadTarget(copy.repo_id)


def packed(subject: Subject, w: "Infer", engine: Engine) -> "Copy | None":
    """Return the known repository of the model in a format that the engine does not make; None if
    it makes it, or if none is known."""
    scheme, origin = subject.choice.scheme, subject.model.origin
    if (
        scheme is None
        or not _from_file(subject, w, engine)
        or not isinstance(origin, CatalogueRef | HubRef)
    ):
        return None
    if makes(engine.reading, scheme.name) or (isinstance(origin, HubRef) and origin.revision):
        return None
    from weighbridge.models.catalogue.copies import packed_copy

    return packed_copy(place(subject).model, scheme.name)


def _from_file(subject: Subject, w: "Infer", engine: Engine) -> bool:
    """Return whether no flag sets the format, so that a checkpoint must be stored in it."""
    return not subject.part.packed and quantization(subject, w, engine) is None


def draft(subject: Subject, w: "DraftSettings") -> str:
    """Return the repository or folder of the draft model, "" without one."""
    return (subject.draft and place(subject.draft).model) or w.draft_model or ""


def _place(origin: Reference, subject: Subject) -> LoadTarget:
    match origin:
        case HubRef():
            return of_repository(origin)
        case LocalRef():
            return of_path(origin)
        case UrlRef():
            return LoadTarget(
                origin.url if origin.filename.endswith(GGUF) else "", why=of_url(origin)
            )
        case CatalogueRef():
            return LoadTarget(subject.model.loads_as)
    return LoadTarget(why=sentence("no_checkpoint", reference=subject.model.reference))


def of_repository(reference: HubRef) -> LoadTarget:
    if reference.subfolder:
        return LoadTarget(why=sentence("inner_folder", folder=reference.subfolder))
    if reference.filename and not reference.filename.endswith(GGUF):
        return LoadTarget(why=sentence("one_file_of", file=reference.filename))
    return LoadTarget(
        reference.repo_id, reference.revision, reference.filename or "", reference.quant or ""
    )


def of_path(reference: LocalRef) -> LoadTarget:
    if reference.path.endswith(GGUF):
        folder, _, name = reference.path.rpartition("/")
        return LoadTarget(folder or ".", file=name)
    if reference.path.endswith(FILES):
        return LoadTarget(why=sentence("one_file", file=reference.path))
    return LoadTarget(reference.path, reference.revision)


def of_url(origin: UrlRef) -> str:
    return "" if origin.filename.endswith(GGUF) else sentence("download_first")


def _unread(subject: Subject) -> LoadTarget:
    """Return a config's repository, which transformers writes into it on saving."""
    name = subject.part.config.get("_name_or_path")
    if isinstance(name, str) and name:
        return LoadTarget(name)
    key = "no_files.module" if subject.part.library == "torch" else "no_files.config"
    return LoadTarget(why=sentence(key))


def line(
    subject: Subject,
    w: "Infer",
    engine: Engine,
    program: str,
    flags: Iterable[tuple[str, object]],
) -> str:
    """Return a server's command line; a flag whose value is True is written without it."""
    where = served(subject, w, engine)
    revision = [("--revision", where.revision)] if where.revision else []
    words = [*before(subject, w, engine), program, shlex.quote(where.model)]
    for flag, value in (*revision, *flags):
        words.append(flag if value is True else f"{flag} {shlex.quote(str(value))}")
    return " ".join(words)


def before(subject: Subject, w: "Infer", engine: Engine) -> Iterator[str]:
    """Yield environment variables before the program: stages' layers, a longer context."""
    if w.pp_layer_partition is not None:
        yield f"{engine.stages}={','.join(f'{layers:g}' for layers in w.pp_layer_partition)}"
    if subject.longest is not None and subject.context > subject.longest:
        yield f"{engine.longer}=1"


def dtype(subject: Subject, w: "Infer") -> str | None:
    """Return the value of --dtype: the user's, or what the card has instead of bfloat16."""
    if subject.narrowed:
        return DTYPES[subject.choice.dtype.name]
    asked = w.dtype and torch_dtype(w.dtype, "--dtype").name
    return w.dtype if asked in DTYPES else None


def quantization(subject: Subject, w: "Infer", engine: Engine) -> str | None:
    """Return the value of --quantization: the engine's name of the format that it makes, or the
    user's name of the format of a packed checkpoint, which may choose kernels."""
    scheme = subject.choice.scheme
    if scheme is None or subject.part.packed:
        name = (w.quantization or "").lower()
        return name if name in SAID_OF_IT else None
    if w.quantization and engine.makes(w.quantization) == scheme.name:
        return w.quantization.lower()
    return engine.written.get(scheme.name)


def unwritten(subject: Subject, w: "Infer", engine: Engine) -> str:
    """Return a sentence on what a server's command line cannot express, "" if nothing."""
    name, scheme = engine.title, subject.choice.scheme
    if w.base_model:
        return sentence("headless", engine=name)
    if w.dtype and dtype(subject, w) is None:
        return sentence("three_dtypes", engine=name, dtype=w.dtype)
    published = packed(subject, w, engine)
    if scheme is not None and published is None and _from_file(subject, w, engine):
        if makes(engine.reading, scheme.name):
            return sentence("torchao_config", engine=name, form=scheme.name)
        return sentence("not_made", engine=name, form=scheme.name, same=scheme.name)
    if subject.part.packed and w.quantization and subject.why == ASKED:
        return sentence("packed_already", form=w.quantization)
    target = place(subject)
    return target.why or (sentence("of_llama_cpp") if target.file or target.quant else "")


def facts(subject: Subject, w: "Infer", engine: Engine, line: str) -> DerivedFacts:
    """Return the launch line with its notes, or a note why there is none."""
    why = unwritten(subject, w, engine)
    if why:
        return {"launch_note": sentence("no_line", reason=why)}
    copy = packed(subject, w, engine)
    notes = (copy and copy.note, _together(w, engine))
    note = clauses(*notes)
    return {"launch": line, "launch_note": note} if note else {"launch": line}


def _together(w: "Infer", engine: Engine) -> str:
    """Return what joins the machines of a launch; "" if one machine has all devices."""
    budget = w.budget()
    if budget is None:
        return ""
    from weighbridge.machines.accelerators.machines import nodes  # only needed with a card

    count = nodes(budget.choice.part, budget.choice.count)
    return sentence(engine.joins, count=count) if count > 1 else ""


def of_weights(subject: Subject, w: "Infer", engine: Engine) -> Iterator[tuple[str, str]]:
    """Yield flags that say how weights are loaded."""
    named = ("--dtype", dtype(subject, w)), ("--quantization", quantization(subject, w, engine))
    yield from ((flag, value) for flag, value in named if value)


def of_images(subject: Subject, w: "Infer", flag: str) -> Iterator[tuple[str, str]]:
    """Yield the flag that limits the images of a request."""
    if w.images is not None and _image_tokens(subject):
        yield flag, json.dumps({"image": w.images})


def holds_images(subject: Subject, w: "Infer", engine: Engine) -> None:
    """Raise UsageError if the images need more tokens than a request has."""
    tokens = (w.images or 0) * _image_tokens(subject)
    if tokens > subject.context:
        raise TriedError(
            sentence(
                "images_beyond",
                images=w.images,
                tokens=tokens,
                context=subject.context,
                engine=engine.title,
            ),
            seen="vllm 0.33: The decoder prompt (length N) is longer than the maximum model "
            "length of M",
        )


def warnings(subject: Subject, w: "Infer", engine: Engine) -> Iterator[str]:
    why = unwritten(subject, w, engine)
    if why:
        yield sentence("no_line", reason=why)


def _image_tokens(subject: Subject) -> int:
    """Return the tokens of one image, 0 if the model takes none."""
    return max((t.tokens for t in subject.body.towers if t.kind == "image"), default=0)


def others(
    declared: type[Settings], w: "Infer", written: Container[str]
) -> Iterator[tuple[str, object]]:
    """Yield flags and values of the user's settings that are not in `written`."""
    for setting, said in launched(declared):
        value = w.said.get(setting.name)
        if setting.name in written or said.names[0] != setting.written or value is None:
            continue
        yield (f"--no-{setting.written[2:]}", True) if value is False else (setting.written, value)
