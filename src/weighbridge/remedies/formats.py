"""Other formats of weights: what an engine makes while it loads, or reads from a file."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from weighbridge.remedies import prices
from weighbridge.remedies.case import Case
from weighbridge.remedies.moves import Move

if TYPE_CHECKING:
    from weighbridge.accelerators.parts import Part

# In what order of loss each engine has them; those of a checkpoint must be made first
OFFERED: Mapping[str, tuple[str, ...]] = {
    "transformers": ("bnb-int8", "nf4", "awq-4bit-g128", "gptq-4bit-g128"),
    "vllm": ("fp8-tensor", "nf4", "awq-4bit-g128", "gptq-4bit-g128"),
    "sglang": ("fp8-tensor", "nf4", "awq-4bit-g128", "gptq-4bit-g128"),
    "llama.cpp": ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q3_K_M", "Q2_K"),
    "ik_llama.cpp": ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q3_K_M", "Q2_K"),
}
WRITTEN: Mapping[str, Mapping[str, str]] = {  # how an engine's own flag calls a format of ours
    "vllm": {"fp8-tensor": "fp8", "nf4": "bitsandbytes"},
    "sglang": {"fp8-tensor": "fp8", "nf4": "bitsandbytes"},
}
OF_CHECKPOINTS = ("awq-4bit-g128", "gptq-4bit-g128")
WEIGHTS = frozenset(("weights", "rounding", "fragmentation", "temporaries", "activations"))
MADE = "a checkpoint that is stored so must be found or made first"
WIDE = ("float32",)
PLAIN = ("BF16", "F16", "F32")  # as files of llama.cpp name plain dtypes


def moves(case: Case) -> Iterator[Move]:
    """Smaller weights, best first."""
    yield from narrower(case)
    if not case.free("quantization", "dtype") or packed(case):
        return
    for form in OFFERED.get(case.engine, ()):
        if suits(form, case):
            yield quantized(form, case)


def quantized(form: str, case: Case) -> Move:
    """The model in that format, under the name that its engine has for it."""
    name = WRITTEN.get(case.engine, {}).get(form, form)
    return Move(
        kind="quantization",
        change={"quantization": name},
        cost=prices.figure(case.report.model.name, form) or prices.FORMATS[form],
        touches=WEIGHTS,
        note=MADE if form in OF_CHECKPOINTS else "",
    )


def narrower(case: Case) -> Iterator[Move]:
    """Halves what float32 takes."""
    if case.effective.get("dtype") not in WIDE or not case.free("dtype", "quantization"):
        return
    if packed(case):
        return
    yield Move(
        kind="dtype",
        change={"dtype": "bfloat16" if has_bfloat16(part(case)) else "float16"},
        cost=prices.CHANGES["16 bits"],
        touches=WEIGHTS | {"kv_cache", "logits", "buffers"},
    )


def packed(case: Case) -> bool:
    """Whether the weights are in a format already that is more than a plain dtype."""
    return (case.effective.get("quantization") or "BF16") not in PLAIN


def suits(form: str, case: Case) -> bool:
    """Whether the card has what the format's kernels need."""
    from weighbridge.accelerators.chips import FLOAT8_SINCE

    found = part(case)
    if found is None:
        return True
    if form == "fp8-tensor":
        return found.capability is not None and found.capability >= FLOAT8_SINCE
    if case.engine in ("llama.cpp", "ik_llama.cpp"):
        return True
    return found.stack != "own"


def part(case: Case) -> "Part | None":
    return None if case.budget is None else case.budget.choice.part


def has_bfloat16(found: "Part | None") -> bool:
    from weighbridge.accelerators.chips import BFLOAT16_SINCE

    return found is None or found.capability is None or found.capability >= BFLOAT16_SINCE
