"""The format that an engine loads a part's weights in: the user's, the stored one, or its default.

A packed checkpoint stays packed whatever float dtype the user sets; the dtype is then that of the
modules that its format does not quantize.

The servers' own --quantization names are of two kinds:

    Engine.online      quantize an unquantized checkpoint while loading: each is a format of ours
    OF_THE_CHECKPOINT  only say how the checkpoint is stored: its tensors are read

A packed checkpoint stays as it is under either.

Source: vllm 0.33 config/quantization.py, model_executor/layers/quantization/{fp8,bitsandbytes}.py;
sglang 0.5.23 srt/arg_groups/choices.py, srt/layers/quantization/.
"""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from weighbridge.base.dtypes import BFLOAT16, FLOAT16, FLOAT32, DType
from weighbridge.base.errors import TriedError, UnsupportedError, UsageError
from weighbridge.base.records import NamedTuple, replace
from weighbridge.base.sentences import sentence
from weighbridge.engines.engine import Engine
from weighbridge.engines.table import record
from weighbridge.engines.weight_formats import Loader, check_format, declared_name, of_mlx
from weighbridge.memory.components.weights import DIVISIONS, FLOATING, FormatChoice
from weighbridge.models.checkpoint.model import ModelPart
from weighbridge.models.tensors import torch_dtype

if TYPE_CHECKING:
    from weighbridge.settings.shared import Weighed
    from weighbridge.workload import Infer

ASKED = "as you asked"
NOT_STORED = "vllm 0.33 and sglang 0.5.23, get_quant_config: Cannot find the config file for awq"
Default = Callable[[ModelPart], tuple[DType, str]]  # part -> (the engine's default dtype, why)
# Bits in the name of another format -> GGUF types of as many bits
NEAR = {8: "Q8_0", 6: "Q6_K", 5: "Q5_K_M", 4: "Q4_K_M, Q4_0, MXFP4_MOE", 3: "Q3_K_M", 2: "Q2_K"}


class Decision(NamedTuple):
    """The format that one part is loaded in, and why, in words."""

    choice: FormatChoice
    why: str


def by_transformers(major: int) -> Default:
    """Return the default dtype of transformers: float32 before version 5, then the model's."""

    def default(part: ModelPart) -> tuple[DType, str]:
        if part.library == "torch" and part.declared_dtype:
            return torch_dtype(part.declared_dtype, "the module"), "as the module holds it"
        if major < 5:
            return FLOAT32, "the default of transformers 4"
        if part.library in ("diffusers", "timm", "ultralytics", "torchvision"):
            return FLOAT32, f"the default of {part.library}"
        return own_dtype(part)

    return default


# Modules that bitsandbytes leaves unquantized are float16 if no dtype is set: transformers 4.57
# quantizers/quantizer_bnb_8bit.py and _4bit.py, update_dtype; modeling_utils.py since 4.22. From 5
# on a dtype is always set: the checkpoint's
OF_BITSANDBYTES = ("bnb-", "nf4", "fp4")
HALF = (FLOAT16, "what transformers 4 asks for beside bitsandbytes")


def by_server(part: ModelPart) -> tuple[DType, str]:
    """Return the default dtype of vLLM and SGLang, which serve a float32 model in 16 bits (vllm
    config/model.py, _get_and_verify_dtype; sglang srt/configs/model_config.py)."""
    dtype, why = own_dtype(part)
    if dtype != FLOAT32:
        return dtype, why
    return BFLOAT16, "the engine serves float32 models in bfloat16"


def decide(part: ModelPart, workload: "Weighed", default: Default, *, major: int = 5) -> Decision:
    """Return the format that the loader gives one part; `major` is the version of transformers."""
    plain = DIVISIONS.get(workload.dtype or "")
    divided = plain is not None and plain.nbytes < 2  # fp8, int8, int4: every weight is cast
    if part.packed and not divided:
        packed = _packed(part, workload, default)
        if workload.quantization in (None, packed.choice.scheme and packed.choice.scheme.name):
            return packed
    if workload.quantization:
        from weighbridge.models.quantization.schemes import (
            scheme,  # here and below: of packed weights
        )

        asked = scheme(workload.quantization)
        half = major < 5 and asked.name.startswith(OF_BITSANDBYTES)
        dtype = (
            HALF if half and not workload.dtype else _dtype(part, workload, by_transformers(5))
        )[0]
        form = asked.fitted(part.blueprint) if asked.fitted else asked
        why = ASKED if form is asked else f"{ASKED}: {asked.name} does not divide its widths"
        return Decision(FormatChoice(dtype=dtype, scheme=form), why)
    if plain is not None:
        return Decision(FormatChoice(dtype=plain), ASKED)
    dtype, why = _dtype(part, workload, default)
    return Decision(FormatChoice(dtype=dtype), why)


def _packed(part: ModelPart, workload: "Weighed", default: Default) -> Decision:
    """Return a packed checkpoint's format: its tensors', or its config's without headers."""
    from weighbridge.models.quantization.declared import declared

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
    """Return (dtype, why): the user's dtype, else the engine's default."""
    if not workload.dtype:
        return default(part)
    dtype = torch_dtype(workload.dtype, "--dtype")
    if not dtype.name.startswith(FLOATING):
        packed = workload.quantization is not None  # then it is the dtype of unquantized modules
        known = ", ".join(n for n, d in DIVISIONS.items() if not packed or d.nbytes >= 2)
        raise UsageError(sentence("dtype.unknown", dtype=workload.dtype, known=known))
    return dtype, ASKED


def own_dtype(part: ModelPart) -> tuple[DType, str]:
    """Return (dtype, why) of the model itself: its config, its first float tensor, or a default."""
    if part.declared_dtype:
        return torch_dtype(part.declared_dtype, "config.json: dtype"), "as the config declares"
    for t in part.stored:
        if t.dtype.name.startswith(FLOATING):
            return t.dtype, "as the first tensor of the checkpoint is stored"
    if part.quantization is not None:
        from weighbridge.models.quantization.declared import fallback_dtype

        return fallback_dtype(part.quantization), "as loaders of this quantization take it"
    if part.library == "size":
        return BFLOAT16, "assumed: 16 bits, as models of today are released"
    return FLOAT32, "torch's default, since the config declares none"


def native_dtype(part: ModelPart) -> DType:
    """Return the dtype that the model itself declares, whatever the engine or the user sets."""
    return by_transformers(5)(part)[0]


# Names of the servers' own --quantization

_NAMES = """
awq awq_marlin auto_awq gptq gptq_marlin auto_gptq gptq_bitblas marlin gguf squeezellm aqlm
compressed-tensors modelopt modelopt_fp8 modelopt_fp4 modelopt_mixed modelopt_mxfp8 quark
fbgemm_fp8 moe_wna16 inc auto-round auto-round-int8 mxfp4 gpt_oss_mxfp4 deepseek_v4_fp8 hqq
bitblas w8a8_fp8 w8a8_int8 w4afp8 blockwise_int8 petit_nvfp4 nvfp4 torchao ipex none unquant
"""
OF_THE_CHECKPOINT = frozenset(_NAMES.split())
OURS_TOO = frozenset(("mxfp4", "nvfp4"))  # also names of our formats
PLAIN = frozenset(("none", "unquant"))
SAID_OF_IT = OF_THE_CHECKPOINT - OURS_TOO - PLAIN  # refused if the checkpoint is not packed


def format_asked(engine: Engine, name: str | None, *, packed: bool) -> str | None:
    """Return our format for the --quantization `name`, None if the checkpoint decides. Raises
    UsageError for a name that describes stored checkpoints if this one is not packed."""
    if name is None or not engine.online:
        return name
    ours, plain = engine.makes(name), name.lower()
    if ours is not None:
        return None if packed else ours
    if plain not in OF_THE_CHECKPOINT - OURS_TOO:
        return name
    if packed or plain in PLAIN:
        return None
    raise TriedError(
        sentence("stored_so", form=name, engine=engine.name),
        seen=NOT_STORED,
    )


def decision(part: ModelPart, w: "Infer", by: Loader) -> Decision:
    """Return the format of a part; for llama.cpp any model is assumed converted to GGUF."""
    engine = by.engine
    default = by_transformers(by.version[0]) if engine.reads == "any" else by_server
    floats(w, engine)
    files = engine.reads == "gguf" and part.library != "gguf"
    # A launch command only names the files' format, unless the engine would have to convert them
    if w.engine_defaults and part.packed and not files:
        w = w.but(quantization=None)
    asked_format = w.quantization
    w = w.but(quantization=format_asked(engine, asked_format, packed=part.packed))
    if files and engine.usual and not (w.quantization or w.dtype or kept_packed(part)):
        decision = decide(part, w.but(quantization=engine.usual), default)
        return _packed_online(downloaded(decision), engine)
    major = by.version[0] if engine.reads == "any" else 5
    decision = decide(part, w, default, major=major)
    if files and w.quantization:
        typed(decision, w.quantization, packed=part.packed)
    check_format(part, decision.choice, w.quantization and asked_format, by)
    return _packed_online(converted(decision, packed=part.packed), engine) if files else decision


def _packed_online(decision: Decision, engine: Engine) -> Decision:
    """Return the same GGUF format as `engine`'s own quantizer makes it, if it has one."""
    form = decision.choice.scheme
    if engine.quantizer is None or form is None or record(form.engine).reads != "gguf":
        return decision
    return decision._replace(choice=replace(decision.choice, scheme=engine.quantizer(form)))


def typed(decision: Decision, name: str, *, packed: bool) -> None:
    """Raise UsageError if the user set a format that GGUF has no type for."""
    form = decision.choice.scheme
    kept_packed = packed and form is not None and form.name == "mxfp4"
    if form is not None and record(form.engine).reads != "gguf" and not kept_packed:
        raise UsageError(not_of_gguf(name))


def writes(part: ModelPart) -> bool:
    """Return whether the model's class generates text."""
    return part.blueprint.cls.endswith(("ForCausalLM", "ForConditionalGeneration"))


def kept_packed(part: ModelPart) -> bool:
    """Return whether an engine with a usual download format keeps this model's own instead: it
    generates no text, is in MXFP4 or MLX's format, or is a packed checkpoint whose files were
    read."""
    if not writes(part) or of_mlx(part):
        return True
    if not part.packed:
        return False
    return bool(part.stored) or declared_name(part) == "mxfp4"


def downloaded(decision: Decision) -> Decision:
    """Return the same format with the reason that it is usually downloaded so."""
    return decision._replace(why="as it is usually downloaded")


def floats(w: "Infer", engine: Engine) -> None:
    """Raise UsageError for a --dtype below 16 bits on a server, where such weights are a format."""
    plain = DIVISIONS.get(w.dtype or "")
    if engine.online and plain is not None and plain.nbytes < 2:
        raise TriedError(
            sentence("dtype.three", dtype=w.dtype, engine=engine.name),
            seen="vllm serve --dtype: invalid choice (choose from auto, half, float16, "
            "bfloat16, float, float32)",
        )


def converted(decision: Decision, *, packed: bool) -> Decision:
    """Return the format that the GGUF converter writes: floats in 16 or 32 bits, except experts
    stored in MXFP4, which it keeps."""
    form, dtype = decision.choice.scheme, decision.choice.dtype
    if form is not None and record(form.engine).reads == "gguf":
        return decision
    kept_mxfp4 = packed and form is not None and form.name == "mxfp4"
    from weighbridge.models.quantization.schemes import scheme

    kind = {"float16": "F16", "float32": "F32"}.get(dtype.name, "BF16")
    why = f"as converted to GGUF, {decision.why}"
    if kept_mxfp4:
        kind, why = "MXFP4_MOE", "as converted to GGUF, experts in mxfp4 as the config declares"
    elif form is not None:
        why = f"as converted to GGUF from {form.name}"
    return Decision(FormatChoice(dtype=dtype, scheme=scheme(kind)), why)


def not_of_gguf(name: str) -> str:
    """Return the refusal of a format that is not in GGUF, with GGUF types of as many bits."""
    # g64 is a group size, not a number of bits
    bits = next((bits for bits in NEAR if re.search(rf"(?<![\dg]){bits}(?!\d)", name)), 4)
    return sentence("not_gguf", form=name, near=NEAR[bits])
