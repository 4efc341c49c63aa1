"""Formats of weights that transformers reads, by release, and what it makes of them on a card
without units for them.

A quant_method must be in AUTO_QUANTIZER_MAPPING of quantizers/auto.py; one that is not is skipped
with a warning, and the packed tensors do not fit the class. On a card without units:

    bfloat16    before compute capability 8.0 torch emulates products
    fp8         FineGrainedFP8Config before 8.9, and on stacks that are neither CUDA, ROCm nor
                Intel's: 5 unpacks the whole model into 16 bits, 4 refuses it
    mxfp4       Mxfp4Config before 7.5, likewise: unpacked, in 4 as well

Source: wheels of transformers 4.30 (utils/quantization_config.py), 4.32, 4.35 to 4.57, 5.0 to 5.22
by twos and 5.23; releases between two of these that differ are taken for the earlier. Of units:
5.23 and 4.57 quantizers/quantizer_finegrained_fp8.py, quantizer_mxfp4.py (validate_environment).
"""

from re import fullmatch
from typing import TYPE_CHECKING

from weighbridge.base.dtypes import BFLOAT16, DType
from weighbridge.base.errors import UnsupportedError
from weighbridge.base.records import replace
from weighbridge.base.sentences import clauses, sentence
from weighbridge.engines.transformers.rules import unpacks_float8
from weighbridge.engines.weight_formats import BITSANDBYTES, FILE, FLOAT8, TORCHAO, Reads
from weighbridge.machines.accelerators.chips import (
    BFLOAT16_SINCE,
    FLOAT8_SINCE,
    MXFP4_SINCE,
    Version,
)
from weighbridge.memory.components.weights import FormatChoice
from weighbridge.models.checkpoint.model import ModelPart

if TYPE_CHECKING:
    from weighbridge.engines.interface import Subject
    from weighbridge.machines.accelerators.parts import Part

# bitsandbytes 0.50, docs/source/installation.mdx; "" is a device of a given size
PACKED_ON = ("NVIDIA", "AMD", "Intel", "Apple", "")
COMPRESSED = "quantizer_compressed_tensors.py"

READS: tuple[Reads, ...] = (
    Reads(BITSANDBYTES, "quantizer_bnb_4bit.py, quantizer_bnb_8bit.py"),
    Reads(r"gptq-[2348]bit(-g.*)?", "quantizer_gptq.py", since=(4, 32)),
    Reads(r"awq-4bit(-g.*)?", "quantizer_awq.py", since=(4, 35)),
    Reads(r"quanto-.*", "quantizer_quanto.py", since=(4, 39)),
    Reads(r"hqq-.*", "quantizer_hqq.py", since=(4, 41)),
    Reads("eetq", "quantizer_eetq.py (validate_environment)", since=(4, 41), stacks=("cuda",)),
    Reads("fp8-dynamic", "quantizer_fbgemm_fp8.py", since=(4, 43), methods="fbgemm_fp8"),
    Reads(FLOAT8, COMPRESSED, since=(4, 45), methods="compressed-tensors"),
    Reads(FLOAT8, "quantizer_finegrained_fp8.py", since=(4, 49), methods="fp8"),
    Reads(r"w[2-8]a16(-g.*)?|w8a8-int8", COMPRESSED, since=(4, 45)),
    Reads("mxfp8|nvfp4", COMPRESSED, since=(4, 45), methods="compressed-tensors"),
    Reads(TORCHAO, "quantizer_torchao.py", since=(4, 45)),
    Reads("mxfp4", "quantizer_mxfp4.py", since=(4, 55)),
    # A file is unpacked while it is read. Since 5.18 blocks stay (quantizer_gguf.py) where a kernel
    # is published for the device, which is Metal's, of the models in GGUF_ARCHS
    Reads(FILE, "modeling_gguf_pytorch_utils.py", since=(4, 41), how="unpacked"),
    Reads(
        r"F32|B?F16|T?I?Q\d.*|MXFP4_MOE",
        "quantizer_gguf.py",
        since=(5, 18),
        stacks=("own",),
        note="it unpacks a GGUF file while it reads it, but on a Mac: ask in a --dtype",
    ),
    Reads("aqlm", "quantizer_aqlm.py", since=(4, 38)),
    Reads("bitnet", "quantizer_bitnet.py", since=(4, 46)),
    Reads("higgs|vptq", "quantizer_higgs.py, quantizer_vptq.py", since=(4, 48)),
    Reads("spqr", "quantizer_spqr.py", since=(4, 49)),
    Reads("quark", "quantizer_quark.py", since=(4, 50)),
    Reads("auto-round", "quantizer_auto_round.py", since=(4, 52)),
    Reads("fp_quant", "quantizer_fp_quant.py", since=(4, 54)),
)


# By the beginning of a format's name: its quant_method, and the oldest compute capability
NEEDS = {"fp8-": ("fp8", FLOAT8_SINCE), "mxfp4": ("mxfp4", MXFP4_SINCE)}
WITHOUT_CAPABILITY = ("AMD", "Intel", "Hygon", "")  # taken to have them, or not known


def lacks(card: "Part | None", since: Version) -> bool:
    """Tell whether the card surely has no such units."""
    if card is None or card.vendor in WITHOUT_CAPABILITY:
        return False
    return card.capability is None or card.capability < since


def missing_units(card: "Part", what: str) -> str:
    """Say that a card has no units: "T4 has no bfloat16 hardware (compute capability 7.5)"."""
    if card.capability is None:
        return sentence("no_units", card=card.name, units=what)
    number = "{}.{}".format(*card.capability)
    return sentence("no_units.number", card=card.name, units=what, number=number)


def emulated(card: "Part | None", dtype: DType) -> str:
    """Say that the card makes products in bfloat16 in software; "" where it has the units. Those of
    other makers are not known."""
    if card is None or card.stack != "cuda" or dtype != BFLOAT16:
        return ""
    if not lacks(card, BFLOAT16_SINCE):
        return ""
    return sentence("emulates", lacking=missing_units(card, "bfloat16"))


def packs_on(card: "Part | None") -> bool:
    """Tell whether bitsandbytes, which packs weights as they are loaded, has kernels for a card."""
    return card is None or card.vendor in PACKED_ON


def without_kernels(card: "Part | None", choice: FormatChoice) -> str:
    """Say that bitsandbytes has no kernels for the card; "" where it has, or for another format.
    Its branch multi-backend-refactor was built for Huawei's."""
    form = choice.scheme
    if card is None or packs_on(card) or form is None or not fullmatch(BITSANDBYTES, form.name):
        return ""
    return sentence("bitsandbytes", card=card.name, form=form.name)


def advised(card: "Part | None", choice: FormatChoice) -> str:
    """Say that the card emulates bfloat16, and advise float16 where a model is loaded or served;
    or that it has no kernels for the format."""
    if missing := without_kernels(card, choice):
        return missing
    slow = emulated(card, choice.dtype)
    return clauses(slow, sentence("as_much")) if slow else ""


def _kept_by(part: ModelPart, form: str, card: "Part") -> str:
    """Advise the first server that has kernels for the packed format on that card; "" for none."""
    from weighbridge.engines.table import ENGINES
    from weighbridge.engines.weight_formats import reads, stored

    packed = tuple(stored(part, form))
    for kind in ENGINES.values():
        if kind.server and all(reads(kind.reading, f, kind.newest, card) for f in packed):
            return sentence("unpacks.kept", engine=kind.name)
    return ""


def unpacked(
    choice: FormatChoice, part: ModelPart, card: "Part | None", version: tuple[int, ...]
) -> tuple[FormatChoice, str]:
    """Return the format in which that card holds the weights, and a sentence where it is another
    than the chosen one. Raises UnsupportedError where transformers does."""
    form = choice.scheme
    if form is None or card is None:
        return choice, ""
    method = (part.quantization or {}).get("quant_method")
    for start, (theirs, since) in NEEDS.items():
        if not form.name.startswith(start) or method not in (None, theirs):
            continue
        if not lacks(card, since):
            continue
        if theirs == "fp8" and not unpacks_float8(version):
            raise UnsupportedError(
                f"{missing_units(card, form.name)}: transformers {'.'.join(map(str, version))} "
                "refuses it; use --engine-version 5, or --engine vllm"
            )
        lacking = missing_units(card, form.name)
        into = sentence("unpacks", lacking=lacking, dtype=choice.dtype.name)
        warning = clauses(into, _kept_by(part, form.name, card))
        return FormatChoice(dtype=choice.dtype), warning
    return choice, ""


def suited(
    subject: "Subject", card: "Part | None", version: tuple[int, ...]
) -> tuple["Subject", str]:
    """Return the model as transformers loads it on that card, and a sentence where it unpacks."""
    choice, warning = unpacked(subject.choice, subject.part, card, version)
    if not warning:
        return subject, ""
    choices = {
        p.name: unpacked(subject.choices[p.name], p, card, version)[0]
        for p in subject.model.parts
        if p.name in subject.choices
    }
    why = f"{subject.choice.name} unpacked"
    return replace(subject, choice=choice, choices=choices, why=why), warning
