"""Devices that a server runs on, and the 16-bit dtype that it uses there.

    Apple             refused: other engines serve there
    other vendors     estimated as a CUDA device, with the margin of an engine that was not read
                      (engines/ignorance.py, "device")
    ROCm              estimated as a CUDA device of Hopper's kind, with a warning
    before 8.0        no bfloat16: vLLM's "auto" and SGLang use float16 if the model is in bfloat16;
                      vLLM uses float32 for families it considers unstable in float16, and refuses
                      a bfloat16 that the user sets
    before 7.5        SGLang does not start; before 7.0 vLLM does not (CUDA_SUPPORTED_ARCHS of its
                      CMakeLists.txt), and wheels of vLLM since 0.21 (CUDA 12.9 and 13.0) have no
                      kernels (vllm#39878, #42756; gpu.cuda.inc.md asks for 7.5): read, so it warns

Source: vllm 0.33 and 0.19 config/model.py (_resolve_auto_dtype, _FLOAT16_NOT_SUPPORTED_MODELS),
platforms/cuda.py (supported_dtypes, check_if_supports_dtype); sglang 0.5.23 srt/model_executor/
model_runner_components/load_model_utils.py (maybe_downgrade_dtype_for_legacy_gpu).
"""

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from weighbridge.base.dtypes import BFLOAT16, FLOAT16, FLOAT32, DType
from weighbridge.base.errors import NotServedError, TriedError
from weighbridge.base.memory import Bytes, exactly
from weighbridge.base.records import NamedTuple, replace
from weighbridge.base.sentences import clauses, sentence
from weighbridge.base.units import GIB, MIB
from weighbridge.base.wording import spelled_like
from weighbridge.engines.engine import Engine, Version
from weighbridge.engines.interface import Subject
from weighbridge.engines.weight_formats import FLOAT8, WeightFormat, reading_row
from weighbridge.machines.accelerators.chips import BFLOAT16_SINCE, OF_THE_SYSTEM
from weighbridge.memory.components.weights import FormatChoice
from weighbridge.models.tensors import torch_dtype

if TYPE_CHECKING:
    from weighbridge.machines.accelerators.budget import Budget
    from weighbridge.workload import Infer

NEAREST = {"Apple": "on_metal"}  # vendor -> sentence on what serves on its devices


class Needs(NamedTuple):
    """What an engine needs of a card, and what it does on one without bfloat16."""

    engine: str
    oldest: tuple[int, int] = (0, 0)  # lowest compute capability
    wheels: tuple[int, int] = (0, 0)  # lowest of its wheels, since `wheels_since`
    wheels_since: Version = ()
    refuses: bool = False  # refuses a bfloat16 that the user sets
    unstable: Callable[[str], bool] = lambda _: False  # model type -> whether float16 is unstable


def unknown_backend(name: str, engine: str, known: Sequence[str]) -> str:
    """Return the refusal of an unknown attention backend, with the nearest known name."""
    close = spelled_like(name, known)
    near = sentence("near.known", names=", ".join(known))
    if close:
        near = sentence("near", names=close[0])
    return clauses(sentence("no_backend", name=name, engine=engine), near)


def suited(subject: Subject, w: "Infer", budget: "Budget | None", needs: Needs) -> Subject:
    """Return the model as the engine runs it on that device. May raise NotServedError."""
    if budget is None:
        return subject
    part = budget.choice.part
    if part.vendor in NEAREST:
        raise NotServedError(
            sentence("cuda_rocm", card=part.name, engine=needs.engine),
            sentence(NEAREST[part.vendor]),
        )
    number = part.capability
    if number is None or number >= BFLOAT16_SINCE:
        return subject
    if number < needs.oldest:
        oldest, has = (".".join(map(str, n)) for n in (needs.oldest, number))
        raise NotServedError(
            sentence(
                "capability.engine", card=part.name, engine=needs.engine, oldest=oldest, has=has
            ),
            sentence("nearest", engine="llama.cpp"),
        )
    return _without_bfloat16(subject, w.dtype, needs, "{}.{}".format(*number))


def caution(budget: "Budget | None", engine: Engine) -> tuple[str, ...]:
    if budget is None or budget.choice.part.stack != "hip":
        return ()
    warning = sentence("rocm", card=budget.choice.part.name, engine=engine.name)
    return (warning,)


def unbuilt(budget: "Budget | None", needs: Needs, version: Version) -> tuple[str, ...]:
    """Return a warning if the engine's wheels lack kernels for the card: torch says so at start."""
    card = None if budget is None else budget.choice.part
    if card is None or card.stack != "cuda" or card.capability is None:
        return ()
    if version < needs.wheels_since or card.capability >= needs.wheels:
        return ()
    since, oldest = (".".join(map(str, n)) for n in (needs.wheels_since, needs.wheels))
    named = {"card": card.name, "engine": needs.engine, "since": since, "oldest": oldest}
    return (sentence("unbuilt", **named),)


def packed_alone(
    subject: Subject, budget: "Budget | None", engine: Engine, version: Version
) -> tuple[str, ...]:
    """Return a warning if the card does not multiply in the weights' format: Marlin's kernels then
    dequantize on the fly."""
    form, card = subject.choice.scheme, budget.choice.part if budget else None
    if card is None or form is None or card.stack != "cuda" or card.capability is None:
        return ()
    row = reading_row(engine.reading, WeightFormat(form.name), version, card)
    if row is None or card.capability >= row.native:
        return ()
    units = "float8" if re.fullmatch(FLOAT8, form.name) else form.name
    number = "{}.{}".format(*card.capability)
    lacking = sentence("no_units.number", card=card.name, units=units, number=number)
    return (sentence("keeps_packed", lacking=lacking, engine=engine.name),)


def _without_bfloat16(subject: Subject, asked: str | None, needs: Needs, number: str) -> Subject:
    """Return the subject on a card without bfloat16; `asked` is the user's dtype."""
    if subject.choice.dtype != BFLOAT16:
        return subject
    if needs.refuses and asked and torch_dtype(asked, "--dtype") == BFLOAT16:
        raise TriedError(
            sentence("refuses_bfloat16", asked=asked, engine=needs.engine, number=number),
            seen="vllm 0.33 and sglang 0.5.23: Bfloat16 is only supported on GPUs with compute "
            "capability of at least 8.0",
        )
    dtype = FLOAT32 if needs.unstable(subject.model_type) else FLOAT16
    draft = subject.draft
    return replace(
        subject,
        choice=_in(subject.choice, dtype),
        choices={name: _in(c, dtype) for name, c in subject.choices.items()},
        narrowed=True,
        why=f"compute capability {number} has no bfloat16",
        draft=None if draft is None else _without_bfloat16(draft, None, needs, number),
    )


def _in(choice: FormatChoice, dtype: DType) -> FormatChoice:
    return replace(choice, dtype=dtype) if choice.dtype == BFLOAT16 else choice


# Servers on CUDA chips that share the system's memory: Orin, Thor and Spark.
#
# There vLLM and SGLang take the system's available memory for the device's free memory. So what
# their own processes allocate on the host between two snapshots seems to be used on the device:
#
#     processes   deducted from the pool of blocks or tokens, as the weights are
#     graphs      what a capture takes of both
#     estimate    of vLLM's graphs, which the pool loses: 1.94 GiB for 0.94 taken (GB10), 1.55 for
#                 0.71 (Strix Halo)
#
# No rule is published. On a GB10, 1.1 GiB (Qwen3 0.6B), 1.9 (Qwen2.5 3B) and 4.6 (Qwen3.8 27B,
# multimodal) were off the pool in vLLM 0.27 and 0.28, and 1.2 in SGLang 0.5.15; that printed 1.38
# GiB of graphs, of which 0.1 are the device's. Snapshots: vllm 0.33 utils/mem_utils.py
# (MemorySnapshot.measure, shared_sysmem_device_mem_sms); sglang 0.5.23 srt/utils/common.py
# (get_available_gpu_memory, SHARED_SYSMEM_DEVICE_MEM_SMS).

PROCESSES = Bytes(GIB, 19 * GIB // 10, 5 * GIB)
CAPTURED = Bytes(0, 1280 * MIB, 1800 * MIB)
LOGGED = "logs of vLLM 0.27, 0.28 and SGLang 0.5.15 on a GB10"
NOTHING = exactly(0)


def host_processes(capability: tuple[int, int] | None) -> Bytes:
    """Return the host memory of a rank that its engine sees as used on the device, in bytes."""
    return PROCESSES if capability in OF_THE_SYSTEM else NOTHING


def host_of_graphs(capability: tuple[int, int] | None) -> Bytes:
    """Return the host memory of a graph capture, which the engine counts with the graphs."""
    return CAPTURED if capability in OF_THE_SYSTEM else NOTHING


def expected_graphs(graphs: Bytes) -> Bytes:
    """Return vLLM's estimate for graphs of `graphs` bytes: 1 to 2 times as much, 1.5 expected."""
    return Bytes(graphs.low, graphs.expected * 3 // 2, 2 * graphs.high)
