"""The format that an engine loads a part's weights in: as asked, as packed, or its own default.

A packed checkpoint stays packed whatever float dtype is asked for; that is of what its format
leaves alone.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from weighbridge.checkpoint.model import ModelPart
from weighbridge.components.weights import DIVISIONS, FLOATING, FormatChoice
from weighbridge.dtypes import BFLOAT16, FLOAT32, DType, torch_dtype
from weighbridge.errors import UnsupportedError, UsageError

if TYPE_CHECKING:
    from weighbridge.settings.shared import Weighed

ASKED = "as you asked"
Default = Callable[[ModelPart], tuple[DType, str]]  # the engine's own dtype of a part, and why


class Decision(NamedTuple):
    """The format that one part is loaded in, and in words why."""

    choice: FormatChoice
    why: str


def by_transformers(major: int) -> Default:
    """4: float32 whatever the checkpoint says; since 5 the model's own."""

    def default(part: ModelPart) -> tuple[DType, str]:
        if part.library == "torch" and part.declared_dtype:
            return torch_dtype(part.declared_dtype, "the module"), "as the module holds it"
        if major < 5:
            return FLOAT32, "the default of transformers 4"
        if part.library in ("diffusers", "timm"):
            return FLOAT32, f"the default of {part.library}"
        return own_dtype(part)

    return default


def by_server(part: ModelPart) -> tuple[DType, str]:
    """vLLM and SGLang serve a float32 model in 16 bits (vllm config/model.py,
    _get_and_verify_dtype; sglang srt/configs/model_config.py)."""
    dtype, why = own_dtype(part)
    if dtype != FLOAT32:
        return dtype, why
    return BFLOAT16, "the engine serves float32 models in bfloat16"


def decide(part: ModelPart, workload: "Weighed", default: Default) -> Decision:
    """The format that the loader gives one part."""
    plain = DIVISIONS.get(workload.dtype or "")
    divided = plain is not None and plain.nbytes < 2  # fp8, int8, int4: every weight alike
    if part.packed and not divided:
        packed = _packed(part, workload, default)
        if workload.quantization in (None, packed.choice.scheme and packed.choice.scheme.name):
            return packed
    if workload.quantization:
        from weighbridge.quantization.schemes import scheme  # here and below: of packed weights

        dtype, _ = _dtype(part, workload, by_transformers(5))
        asked = scheme(workload.quantization)
        form = asked.fitted(part.blueprint) if asked.fitted else asked
        why = ASKED if form is asked else f"{ASKED}: {asked.name} does not divide its widths"
        return Decision(FormatChoice(dtype=dtype, scheme=form), why)
    if plain is not None:
        return Decision(FormatChoice(dtype=plain), ASKED)
    dtype, why = _dtype(part, workload, default)
    return Decision(FormatChoice(dtype=dtype), why)


def _packed(part: ModelPart, workload: "Weighed", default: Default) -> Decision:
    """A checkpoint in a format of its own: its tensors where headers were read."""
    from weighbridge.quantization.declared import declared

    dtype = _dtype(part, workload, default)[0] if workload.dtype else native_dtype(part)
    if not part.stored:
        assert part.quantization is not None
        form = declared(part.quantization)
        return Decision(
            FormatChoice(dtype=dtype, scheme=form), "as the config's quantization declares"
        )
    try:
        known = declared(part.quantization) if part.quantization is not None else None
    except UnsupportedError:  # its tensors are read, so nothing depends on the name
        known = None
    choice = FormatChoice(dtype=dtype, scheme=known, as_stored=True)
    return Decision(choice, "as the checkpoint is stored")


def _dtype(part: ModelPart, workload: "Weighed", default: Default) -> tuple[DType, str]:
    """(dtype, why): the user's, else the engine's default."""
    if not workload.dtype:
        return default(part)
    dtype = torch_dtype(workload.dtype, "--dtype")
    if not dtype.name.startswith(FLOATING):
        packed = workload.quantization is not None  # beside a format a dtype is of what it leaves
        known = ", ".join(n for n, d in DIVISIONS.items() if not packed or d.nbytes >= 2)
        raise UsageError(f"--dtype {workload.dtype!r} is not a dtype of weights; use {known}")
    return dtype, ASKED


def own_dtype(part: ModelPart) -> tuple[DType, str]:
    """The model's own."""
    if part.declared_dtype:
        return torch_dtype(part.declared_dtype, "config.json: dtype"), "as the config declares"
    for t in part.stored:
        if t.dtype.name.startswith(FLOATING):
            return t.dtype, "as the first tensor of the checkpoint is stored"
    if part.quantization is not None:
        from weighbridge.quantization.declared import fallback_dtype

        return fallback_dtype(part.quantization), "as loaders of this quantization take it"
    if part.library == "size":
        return BFLOAT16, "assumed: 16 bits, as models of today are released"
    return FLOAT32, "torch's default, since the config declares none"


def native_dtype(part: ModelPart) -> DType:
    """The dtype that the model itself asks for, whatever the engine or the user does."""
    return by_transformers(5)(part)[0]
