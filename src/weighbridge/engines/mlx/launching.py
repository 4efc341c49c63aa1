"""The line to paste: `mlx_lm.generate` for one request, `mlx_lm.server` for several.

Neither has a flag for a request's length: caches grow with it. A checkpoint that is not in the
estimated format has to be converted first.
"""

import re
import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING

from weighbridge.base.sentences import sentence
from weighbridge.engines import launch_line
from weighbridge.engines.interface import Subject
from weighbridge.engines.mlx.plan import GENERATE, GROUP, MlxPlan
from weighbridge.engines.mlx.rules import DECODED
from weighbridge.memory.report.keys import DerivedFacts
from weighbridge.models.catalogue.files import mlx_of
from weighbridge.models.sources.reference import CatalogueRef

if TYPE_CHECKING:
    from weighbridge.models.catalogue.files import PublishedFile
    from weighbridge.workload import Infer

AFFINE = re.compile(r"mlx-(\d)bit-g(\d+)")


def facts(subject: Subject, w: "Infer", plan: MlxPlan) -> DerivedFacts:
    """Return the line, and what to make before it; or why there is none."""
    why = unwritten(subject, w)
    if why:
        return {"launch_note": sentence("no_line", reason=why)}
    line = " ".join((plan.program, *_flags(subject, w, plan)))
    conversion = converted(subject)
    known = published(subject)
    if not conversion:
        return {"launch": line} if known is None else {"launch": line, "launch_note": known.note}
    note = sentence("made", file=_folder(subject))
    return {"launch": f"{conversion}\n{line}", "launch_note": note}


def unwritten(subject: Subject, w: "Infer") -> str:
    if w.base_model:
        return sentence("with_its_head")
    if subject.choice.scheme is None and subject.choice.dtype.nbytes < 2:
        return sentence("mlx_not_alike", dtype=subject.choice.dtype.name)
    return launch_line.place(subject).why


def converted(subject: Subject) -> str:
    """Return the line that converts the checkpoint; "" if it is loaded as it is."""
    form = subject.choice.scheme
    if published(subject) is not None:
        return ""
    if form is None or subject.choice.as_stored or subject.part.packed:
        return ""
    affine = AFFINE.fullmatch(form.name)
    bits = f"--q-bits {affine[1]} --q-group-size {affine[2]}" if affine else ""
    how = bits or f"--q-mode {form.name.removeprefix('mlx-')}"
    model = shlex.quote(launch_line.place(subject).model)
    return f"mlx_lm.convert --hf-path {model} -q {how} --mlx-path {_folder(subject)}"


def published(subject: Subject) -> "PublishedFile | None":
    """Return the published repository of a catalogue model in that format; None without one."""
    if subject.part.packed or not isinstance(subject.model.origin, CatalogueRef):
        return None
    return mlx_of(launch_line.place(subject).model, subject.choice.name)


def _folder(subject: Subject) -> str:
    name = subject.model.name.rpartition("/")[2]
    return shlex.quote(f"{name}-{subject.choice.name.removeprefix('mlx-')}")


def _flags(subject: Subject, w: "Infer", plan: MlxPlan) -> Iterator[str]:
    known = published(subject)
    named = shlex.quote(known.repo_id if known else launch_line.place(subject).model)
    yield f"--model {_folder(subject) if converted(subject) else named}"
    if plan.program != GENERATE:
        if plan.batch > DECODED:
            yield f"--decode-concurrency {plan.batch}"
        if w.prefill_step_size is not None:
            yield f"--prefill-step-size {plan.piece}"
        return
    if w.max_new_tokens is not None:
        yield f"--max-tokens {w.max_new_tokens}"
    if plan.most is not None:
        yield f"--max-kv-size {plan.most}"
    if plan.bits is not None:
        yield f"--kv-bits {plan.bits} --kv-group-size {GROUP} --quantized-kv-start 0"
    yield "--prompt - < prompt.txt"
