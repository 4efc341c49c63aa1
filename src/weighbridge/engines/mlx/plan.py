"""The effective settings of a question: the user's, and mlx-lm's defaults; with refusals.

program   as in the command, else mlx_lm.generate for one request; mlx_lm.server for several,
          which quantizes no cache
piece     2,048 tokens per prefill chunk (512 before 0.22.2), of up to 8 prompts
bits      --kv-bits, from the first token: the line to paste has --quantized-kv-start 0
"""

import re
from typing import TYPE_CHECKING

from weighbridge.base.dtypes import DType
from weighbridge.base.errors import (
    ContradictionError,
    NotServedError,
    TriedError,
    UnsupportedError,
)
from weighbridge.base.records import frozen_record, replace
from weighbridge.base.sentences import about, sentence
from weighbridge.engines.interface import Subject
from weighbridge.engines.mlx.caches import MlxCacheSetting
from weighbridge.engines.mlx.rules import (
    PROMPTS,
    MlxRules,
)
from weighbridge.machines.accelerators.budget import Budget
from weighbridge.memory.components.weights import FormatChoice
from weighbridge.memory.report.keys import EffectiveSettings
from weighbridge.models.arch.model_types import facts

if TYPE_CHECKING:
    from weighbridge.workload import Infer

BITS, GROUP = (2, 3, 4, 5, 6, 8), 64  # of mx.quantize; --kv-group-size
GENERATE, SERVER = "mlx_lm.generate", "mlx_lm.server"
LARGE = frozenset(("Max", "Ultra"))  # a word in their chips' names
FLOATS = ("float32", "float16", "bfloat16")


@frozen_record
class MlxPlan:
    """A question as mlx-lm runs it: settings, with defaults for unset ones."""

    rules: MlxRules
    context: int
    prompt: int
    batch: int
    piece: int
    bits: int | None
    most: int | None
    windows: bool
    expanded: bool
    large: bool  # a chip called Max or Ultra
    dtype: DType
    serves: bool  # the user's command starts the server

    @property
    def program(self) -> str:
        return SERVER if self.serves or self.batch > 1 else GENERATE

    @property
    def step(self) -> int:
        """Return the tokens per prefill step."""
        return min(self.piece, max(1, self.prompt - 1)) * min(self.batch, PROMPTS)

    @property
    def rest(self) -> int:
        """Return the tokens in the last chunks of the prompts that are prefilled together."""
        return ((self.prompt - 1) % self.piece + 1) * min(self.batch, PROMPTS)

    def setting(self, *, reading: bool) -> MlxCacheSetting:
        return MlxCacheSetting(
            prompt=self.prompt,
            tokens=self.context,
            batch=self.batch,
            piece=self.piece,
            dtype=self.dtype,
            bits=self.bits,
            group=GROUP,
            windows=self.windows,
            most=self.most,
            expanded=self.expanded,
            reading=reading,
        )

    def to_dict(self) -> EffectiveSettings:
        return {
            "program": self.program,
            "context": self.context,
            "batch_size": self.batch,
            "kv_cache_dtype": f"{self.bits}bit" if self.bits else self.dtype.name,
            "max_kv_size": self.most,
            "prefill_step_size": self.piece,
        }


def planned(subject: Subject, w: "Infer", budget: Budget | None, rules: MlxRules) -> MlxPlan:
    """Return the plan. Raises UsageError or UnsupportedError for what mlx-lm refuses."""
    runs_on(budget)
    loads(subject)
    kind = subject.model_type
    bits = _bits(w)
    windows = facts(kind).mlx.windows == "always" or (rules.llama_windows and _as_llama(kind))
    if bits and windows:
        raise TriedError(
            sentence("rotating_cache", dtype=w.kv_cache_dtype, kind=kind),
            seen="mlx-lm models/cache.py: RotatingKVCache Quantization NYI",
        )
    return MlxPlan(
        rules=rules,
        context=subject.context,
        prompt=min(w.prompt_len or subject.context, subject.context),
        batch=w.batch_size or 1,
        piece=w.prefill_step_size or rules.prefill_step,
        bits=bits,
        most=None
        if (facts(kind).mlx.own_caches or (rules.llama_windows and _as_llama(kind)))
        else w.max_kv_size,
        windows=windows,
        expanded=facts(kind).mlx.expands in rules.expands,
        large=budget is None or bool(LARGE & set(budget.choice.part.name.split())),
        dtype=subject.choice.dtype,
        serves=w.program == "server",
    )


def runs_on(budget: Budget | None) -> None:
    if budget is None or budget.choice.part.vendor == "":
        return
    part = budget.choice.part
    if part.vendor != "Apple":
        raise UnsupportedError(sentence("mlx_card", card=part.name))
    if budget.choice.count > 1:
        cards = f"{part.name}:{budget.choice.count}"
        raise UnsupportedError(sentence("mlx_macs", card=cards))


def loads(subject: Subject) -> None:
    """Raise unless mlx-lm has the model's class; it loads safetensors, formats.txt says which."""
    name = subject.model.reference
    if subject.part.library == "gguf":
        raise UnsupportedError(about(name, sentence("mlx_gguf")))
    kind = subject.config.model_type if subject.config is not None else ""
    known = facts(kind).mlx.has_class or facts(subject.model_type).mlx.has_class
    if kind and not (known or subject.model.rough):
        raise NotServedError(sentence("no_mlx_class", kind=kind), sentence("on_metal"), where=name)


def unpacked(subject: Subject) -> Subject:
    """Return the subject; float8 checkpoints load in 16 bits (models/deepseek_v3.py, sanitize)."""
    form = subject.choice.scheme
    if not subject.part.packed or form is None or not form.name.startswith("fp8"):
        return subject
    choices = {name: FormatChoice(dtype=c.dtype) for name, c in subject.choices.items()}
    return replace(subject, choice=FormatChoice(dtype=subject.choice.dtype), choices=choices)


def _as_llama(kind: str) -> bool:
    """Return whether a model type runs as Llama's class, which had no windows at first."""
    return facts(kind).mlx.windows == "as_llama"


def _bits(w: "Infer") -> int | None:
    name = (w.kv_cache_dtype or "auto").lower()
    if name in ("auto", *FLOATS):
        return None
    match = re.fullmatch(r"(?:int|q)?([2-8])(?:-?bits?)?", name)
    if not match or int(match[1]) not in BITS:
        raise ContradictionError(
            sentence("mlx_cache_bits", dtype=w.kv_cache_dtype, known=", ".join(map(str, BITS)))
        )
    if (w.batch_size or 1) > 1:
        raise ContradictionError(
            sentence("mlx_server_cache", dtype=w.kv_cache_dtype, batch=w.batch_size)
        )
    if w.max_kv_size is not None:
        raise TriedError(
            sentence("mlx_rotating", dtype=w.kv_cache_dtype, size=w.max_kv_size),
            seen="mlx-lm models/cache.py: RotatingKVCache Quantization NYI",
        )
    return int(match[1])
