"""Changes of the weights' format: to one that an engine makes while loading, or reads from a
file."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from weighbridge.answers.remedies import losses, prices
from weighbridge.answers.remedies.case import Cost, Move, RemedyCase
from weighbridge.engines.table import usual, version
from weighbridge.models.catalogue.copies import packed_copy

if TYPE_CHECKING:
    from weighbridge.machines.accelerators.parts import Part

USUAL = "Q4_K_M"  # the GGUF type of most files
BITS: Mapping[str, float] = {  # bits per weight, at least
    "bnb-int8": 8,
    "nf4": 4,
    "awq-4bit-g128": 4,
    "gptq-4bit-g128": 4,
    "fp8-tensor": 8,
    **{f"mlx-{bits}bit-g64": bits + 0.5 for bits in (8, 6, 5, 4)},
    "Q8_0": 8.5,
    "Q6_K": 6.5,
    "Q5_K_M": 5.5,
    "Q4_K_M": 4.5,
    "Q3_K_M": 3.4375,
    "Q2_K": 2.5625,
}
OF_CHECKPOINTS = ("awq-4bit-g128", "gptq-4bit-g128")
WEIGHTS = frozenset(("weights",))
MADE = "find a repository that is published in this format, or make one first"
PLAIN = {"BF16": 16, "F16": 16, "F32": 32}  # bits of plain dtypes, under llama.cpp's names
WIDTHS = {"float32": 32, "bfloat16": 16, "float16": 16}
WIDENED = "fp8"  # checkpoints that llama.cpp's converter unpacks (convert_hf_to_gguf.py)


def moves(case: RemedyCase) -> Iterator[Move]:
    """Yield smaller weight formats, best first."""
    yield from narrower(case)
    if not packable(case):
        return
    for form in case.kind.formats:
        if suits(form, case):
            yield quantized(form, case)


def quantized(form: str, case: RemedyCase) -> Move:
    """Return the change to a format, under the engine's name for it."""
    name = case.kind.written.get(form, form)
    copy = packed_copy(case.loads, form)
    return Move(
        kind="quantization",
        change={"quantization": name},
        cost=losses.cost(case.report.model, form, published=copy is not None),
        touches=WEIGHTS,
        leaves=least(form, case),
        keeps={"weights": (BITS[form] + 1) / width(case)},
        note=(copy.note if copy else MADE) if form in OF_CHECKPOINTS else "",
    )


def least(form: str, case: RemedyCase) -> Mapping[str, float]:
    """Return the share of the weights that surely remains. For the USUAL type nothing is excluded:
    layers and experts on the host are derived from its answer."""
    return {} if form == USUAL else {"weights": min(1.0, BITS[form] / width(case))}


def width(case: RemedyCase) -> int:
    """Return the bits per weight in the question."""
    form, dtype = case.effective.get("quantization"), case.effective.get("dtype")
    if (form or "").startswith(WIDENED):
        return 8
    return PLAIN.get(form or "", 0) or WIDTHS.get(dtype or "", 32)


def narrower(case: RemedyCase) -> Iterator[Move]:
    """Yield a 16-bit dtype, which halves float32."""
    if not case.free("dtype", "quantization") or packed(case):
        return
    dtype = str(case.effective.get("dtype"))  # parts of a pipeline may differ
    # Servers refuse in 16 bits what they hold in float32, or narrow it (device_support.py)
    if "float32" not in dtype or case.kind.server or case.kind.reads == "gguf":
        return
    half = has_bfloat16(case) and "float16" not in dtype.split()
    yield Move(
        kind="dtype",
        change={"dtype": "bfloat16" if half else "float16"},
        cost=prices.CHANGES["16 bits"],
        touches=frozenset(("weights", "kv_cache", "logits", "activations", "recurrent_state")),
        leaves={"weights": 0.5, "kv_cache": 0.5},
    )


def packable(case: RemedyCase) -> bool:
    """Return whether weights may be quantized: 16 bits that the user set for a server are its
    compute dtype, with any format."""
    computed = case.kind.server and case.effective.get("dtype") in ("bfloat16", "float16")
    return case.free("quantization", *(() if computed else ("dtype",))) and not packed(case)


def packed(case: RemedyCase) -> bool:
    """Return whether the weights are already quantized, not in a plain dtype."""
    form = str(case.effective.get("quantization") or "BF16")
    return form not in PLAIN and not (case.kind.reads == "gguf" and form.startswith(WIDENED))


def suits(form: str, case: RemedyCase) -> bool:
    """Return whether the engine's release reads the format on that card, with kernels for it."""
    from weighbridge.engines.weight_formats import WeightFormat, reads

    kind = case.kind if case.kind.package else usual()  # what is trained is loaded by that one
    number, _ = version(kind, case.effective.get("engine_version"))
    if not reads(kind.reading, WeightFormat(form), number, case.part):
        return False
    return kind.reads == "gguf" or kind.metal or compiled(case.part)


def stores_float8(case: RemedyCase) -> bool:
    """Return whether attention kernels of the card read an 8-bit KV cache, without 8-bit products
    (vllm 0.33 v1/attention/backends/flashinfer.py; for cards with bfloat16, assumed)."""
    from weighbridge.machines.accelerators.chips import BFLOAT16_SINCE

    part = case.part
    return part is None or (part.capability is not None and part.capability >= BFLOAT16_SINCE)


# Classes with softcapped scores, which sdpa lacks: transformers 5.23 models/*/modeling_*.py
# (_supports_sdpa = False, "sdpa does not support softcapping")
CAPPED = ("Gemma2", "T5Gemma", "VaultGemma")


def unscored(case: RemedyCase) -> tuple[str, Cost] | None:
    """Return (attention kernel, cost) that stores no scores and computes the same as the class;
    None if there is none."""
    if not case.report.model.architecture.startswith(CAPPED):
        return "efficient", prices.CHANGES["attention"]
    from weighbridge.machines.kernels.attention import FLASH_SINCE

    capability = None if case.part is None else case.part.capability
    if not compiled(case.part) or (capability is not None and capability < FLASH_SINCE):
        return None
    return "flash", prices.CHANGES["flash attention"]


def compiled(part: "Part | None") -> bool:
    """Return whether kernels of CUDA, HIP and Triton run there: bitsandbytes, AWQ, GPTQ, Liger,
    vLLM."""
    return part is None or part.stack != "own"


def unrunnable(case: RemedyCase) -> bool:
    """Return whether a training run's format has no kernels on the device."""
    packs = case.task == "train" and bool(case.effective.get("quantization"))
    return packs and not compiled(case.part)


def has_bfloat16(case: RemedyCase) -> bool:
    from weighbridge.machines.accelerators.chips import BFLOAT16_SINCE

    part = case.part
    return part is None or part.capability is None or part.capability >= BFLOAT16_SINCE
