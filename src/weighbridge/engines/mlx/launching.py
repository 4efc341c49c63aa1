"""The line to paste: `mlx_lm.generate` for one request, `mlx_lm.server` for several.

How long a request gets is no flag of either: caches grow with it. A checkpoint that is not in the
format that was sized has to be converted first.
"""

import re
import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING

from weighbridge.engines import launch_line
from weighbridge.engines.interface import Subject
from weighbridge.engines.mlx.plan import GENERATE, GROUP, Plan
from weighbridge.engines.mlx.rules import DECODED
from weighbridge.report.keys import DerivedFacts

if TYPE_CHECKING:
    from weighbridge.workload import Infer

AFFINE = re.compile(r"mlx-(\d)bit-g(\d+)")


def facts(s: Subject, w: "Infer", p: Plan) -> DerivedFacts:
    """The line, and what has to be made before it; or why there is none."""
    why = unwritten(s, w)
    if why:
        return {"launch_note": f"no line to paste: {why}"}
    line = " ".join((p.program, *_flags(s, w, p)))
    made = converted(s)
    return {"launch": line, "launch_note": made} if made else {"launch": line}


def unwritten(s: Subject, w: "Infer") -> str:
    if w.base_model:
        return "mlx-lm runs the class with its head"
    if s.choice.scheme is None and s.choice.dtype.nbytes < 2:
        return f"mlx-lm holds no weights in {s.choice.dtype.name} alike"
    return launch_line.place(s).why


def converted(s: Subject) -> str:
    """What mlx_lm.convert is to make of the checkpoint; "" where it is loaded as it is."""
    form = s.choice.scheme
    if form is None or s.choice.as_stored or s.part.packed:
        return ""
    affine = AFFINE.fullmatch(form.name)
    bits = f"--q-bits {affine[1]} --q-group-size {affine[2]}" if affine else ""
    how = bits or f"--q-mode {form.name.removeprefix('mlx-')}"
    model = shlex.quote(launch_line.place(s).model)
    made = f"mlx_lm.convert --hf-path {model} -q {how} --mlx-path {_folder(s)}"
    return f"{_folder(s)} has to be made first: {made}"


def _folder(s: Subject) -> str:
    name = s.model.name.rpartition("/")[2]
    return shlex.quote(f"{name}-{s.choice.name.removeprefix('mlx-')}")


def _flags(s: Subject, w: "Infer", p: Plan) -> Iterator[str]:
    yield f"--model {_folder(s) if converted(s) else shlex.quote(launch_line.place(s).model)}"
    if p.program != GENERATE:
        if p.batch > DECODED:
            yield f"--decode-concurrency {p.batch}"
        if w.prefill_step_size is not None:
            yield f"--prefill-step-size {p.piece}"
        return
    if w.max_new_tokens is not None:
        yield f"--max-tokens {w.max_new_tokens}"
    if p.most is not None:
        yield f"--max-kv-size {p.most}"
    if p.bits is not None:
        yield f"--kv-bits {p.bits} --kv-group-size {GROUP} --quantized-kv-start 0"
    yield "--prompt - < prompt.txt"
