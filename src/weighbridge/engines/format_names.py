"""Names that people use for a format of weights, and the usual one of that name.

    4bit   nf4 with transformers, awq-4bit-g128 with a server, Q4_K_M with llama.cpp
    awq    awq-4bit-g128: four bits, groups of 128, what most such checkpoints have
    q4     Q4_K_M

Which is the usual one is assumed: nf4 is what QLoRA uses (arXiv 2305.14314), groups of 128 are the
default of GPTQModel and AutoAWQ, Q4_K_M is what llama.cpp's tools/quantize recommends, and fp8 is
one scale a tensor as with `vllm --quantization fp8`.
"""

import re
from collections.abc import Mapping

from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import sentence
from weighbridge.engines.table import record
from weighbridge.models.catalogue.everyday import FLOATS

PLAIN = ("fp8", "int8", "int4")  # names of plain dtypes as well, which --dtype takes


class Usual(NamedTuple):
    """The format by loader: transformers, a server, llama.cpp, mlx-lm. "" is the loader's own."""

    plain: str
    server: str
    gguf: str
    mlx: str = ""

    def by(self, engine: str) -> str:
        kind = record(engine)
        if kind.metal and self.mlx:
            return self.mlx
        if kind.server:
            return self.server
        return self.gguf if kind.reads == "gguf" else self.plain


FOUR = Usual("nf4", "awq-4bit-g128", "Q4_K_M", "mlx-4bit-g64")
EIGHT = Usual("bnb-int8", "w8a8-int8", "Q8_0", "mlx-8bit-g64")
OWN = Usual("nf4", "", "nf4")  # bitsandbytes is a method of vLLM and SGLang themselves


def everywhere(form: str) -> Usual:
    return Usual(form, form, form)


NAMES: Mapping[str, Usual] = {  # without case, blanks, hyphens and underscores
    **dict.fromkeys(("4bit", "int4", "loadin4bit"), FOUR),
    **dict.fromkeys(("8bit", "int8", "loadin8bit"), EIGHT),
    **dict.fromkeys(("bnb4bit", "bnb4", "bnbnf4", "qlora"), everywhere("nf4")),
    **dict.fromkeys(("bnb", "bitsandbytes"), OWN),
    **dict.fromkeys(
        ("bnb8bit", "bnb8", "llmint8", "llm.int8", "llm.int8()"), everywhere("bnb-int8")
    ),
    "fp8": Usual("fp8-tensor", "", "fp8-tensor"),
    "float8": everywhere("fp8-tensor"),
    **dict.fromkeys(("awq", "awq4bit", "awqint4", "awq4"), everywhere("awq-4bit-g128")),
    **dict.fromkeys(("gptq", "gptq4bit", "gptqint4", "gptq4"), everywhere("gptq-4bit-g128")),
    **dict.fromkeys(("gptq8bit", "gptqint8", "gptq8"), everywhere("gptq-8bit-g128")),
    "hqq": everywhere("hqq-4bit-g64"),
    **{f"mlx{bits}bit": everywhere(f"mlx-{bits}bit-g64") for bits in (2, 3, 5, 6)},
    **{f"{bits}bit": everywhere(f"mlx-{bits}bit-g64") for bits in (2, 3, 5, 6)},  # mlx-lm's alone
    **dict.fromkeys(("awq8bit", "awqint8"), everywhere("w8a16-g128")),
    **dict.fromkeys(("mlx", "mlx4bit", "mlx4"), everywhere("mlx-4bit-g64")),
    **dict.fromkeys(("mlx8bit", "mlx8"), everywhere("mlx-8bit-g64")),
    "torchao": everywhere("torchao-int4-g128"),
    "w8a8": everywhere("w8a8-int8"),
    "quantized.w8a8": everywhere("w8a8-int8"),  # how Red Hat AI's repositories end
    "quantized.w8a16": everywhere("w8a16"),
    "quantized.w4a16": everywhere("w4a16-g128"),
    "gguf": everywhere("Q4_K_M"),
    **dict.fromkeys(("q2", "q2k"), everywhere("Q2_K")),
    **dict.fromkeys(("q3", "q3k"), everywhere("Q3_K_M")),
    **dict.fromkeys(("q4", "q4k", "q4km"), everywhere("Q4_K_M")),
    **dict.fromkeys(("q5", "q5k", "q5km"), everywhere("Q5_K_M")),
    **dict.fromkeys(("q6", "q6k"), everywhere("Q6_K")),
    **dict.fromkeys(("q8", "q80"), everywhere("Q8_0")),
    # Unsloth's dynamic files mix types layer by layer; their sizes are about these (assumed)
    **dict.fromkeys(("q2kxl", "udq2kxl"), everywhere("Q2_K")),
    **dict.fromkeys(("q3kxl", "udq3kxl"), everywhere("Q3_K_M")),
    **dict.fromkeys(("q4kxl", "udq4kxl"), everywhere("Q4_K_M")),
    **dict.fromkeys(("q5kxl", "udq5kxl"), everywhere("Q5_K_M")),
    **dict.fromkeys(("q6kxl", "udq6kxl"), everywhere("Q6_K")),
}


def meant(name: str, engine: str = "transformers") -> str:
    """Return the usual format that `name` stands for with this engine; `name` itself where it
    stands for none, or where the engine knows it."""
    usual = NAMES.get(re.sub(r"[\s_-]", "", name.lower()))
    return (usual.by(engine) if usual else "") or name


def said(name: str | None, form: str) -> str:
    """Say in one sentence which format was chosen, where there was a choice; spellings of one name
    are none. Without `name` it was the model's own that asked for it."""
    if name is None:
        return sentence("named_form", form=form)
    if form == name or form.lower().replace("_", "-") == name.lower().replace("_", "-"):
        return ""
    return sentence("taken_as.division" if name in PLAIN else "taken_as", name=name, form=form)


def is_gguf_type(name: str) -> bool:
    """Tell whether a format is one of GGUF's own, and not a plain dtype that GGUF has, too."""
    from weighbridge.models.quantization.schemes import GGUF

    return meant(name) in GGUF - set(FLOATS.values())


def unpacked(form: str, engine: str) -> bool:
    """Tell whether a name's format is that of plain checkpoints (-fp16), which only files of GGUF
    tell apart."""
    return form in FLOATS.values() and record(engine).reads != "gguf"
