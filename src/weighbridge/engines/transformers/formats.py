"""Weight formats on a card without units for them, as transformers loads them.

    bfloat16    before compute capability 8.0 torch emulates products
    fp8         FineGrainedFP8Config before 8.9, and on stacks that are neither CUDA, ROCm nor
                Intel's: 5 dequantizes the whole model to 16 bits, 4 refuses it
    mxfp4       Mxfp4Config before 7.5, likewise: dequantized, in 4 as well; on any card without the
                package `kernels`

Source: transformers 5.23 and 4.57 quantizers/quantizer_finegrained_fp8.py, quantizer_mxfp4.py
(validate_environment).
"""

from re import fullmatch
from typing import TYPE_CHECKING

from weighbridge.base.dtypes import BFLOAT16, DType
from weighbridge.base.errors import UnsupportedError
from weighbridge.base.records import NamedTuple, replace
from weighbridge.base.sentences import clauses, sentence
from weighbridge.engines.transformers.rules import unpacks_float8
from weighbridge.engines.weight_formats import BITSANDBYTES
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

# Format prefix -> (its quant_method, the oldest compute capability)
NEEDS = {"fp8-": ("fp8", FLOAT8_SINCE), "mxfp4": ("mxfp4", MXFP4_SINCE)}
WITHOUT_CAPABILITY = ("AMD", "Intel", "Hygon", "")  # assumed to have them, or unknown


def lacks(card: "Part | None", since: Version) -> bool:
    """Return whether the card surely lacks units that exist since capability `since`."""
    if card is None or card.vendor in WITHOUT_CAPABILITY:
        return False
    return card.capability is None or card.capability < since


def missing_units(card: "Part", what: str) -> str:
    """Return a sentence: "T4 has no bfloat16 hardware (compute capability 7.5)"."""
    if card.capability is None:
        return sentence("no_units", card=card.name, units=what)
    number = "{}.{}".format(*card.capability)
    return sentence("no_units.number", card=card.name, units=what, number=number)


def emulated(card: "Part | None", dtype: DType) -> str:
    """Return a note that the card multiplies bfloat16 in software; "" if it has the units, or for
    other vendors."""
    if card is None or card.stack != "cuda" or dtype != BFLOAT16:
        return ""
    if not lacks(card, BFLOAT16_SINCE):
        return ""
    return sentence("emulates", lacking=missing_units(card, "bfloat16"))


def packs_on(card: "Part | None") -> bool:
    """Return whether bitsandbytes, which quantizes weights while loading, supports a card."""
    return card is None or card.vendor in PACKED_ON


def without_kernels(card: "Part | None", choice: FormatChoice) -> str:
    """Return a note that bitsandbytes has no kernels for the card; "" if it has, or for other
    formats. Its branch multi-backend-refactor was built for Huawei's."""
    form = choice.scheme
    if card is None or packs_on(card) or form is None or not fullmatch(BITSANDBYTES, form.name):
        return ""
    return sentence("bitsandbytes", card=card.name, form=form.name)


def advised(card: "Part | None", choice: FormatChoice) -> str:
    """Return advice to use float16 if the card emulates bfloat16, for loading or serving; or a note
    that it has no kernels for the format."""
    if missing := without_kernels(card, choice):
        return missing
    slow = emulated(card, choice.dtype)
    return clauses(slow, sentence("as_much")) if slow else ""


def _kept_by(part: ModelPart, form: str, card: "Part") -> str:
    """Return advice on the first server that has kernels for the format on that card, or ""."""
    from weighbridge.engines.table import ENGINES
    from weighbridge.engines.weight_formats import reads, stored

    packed = tuple(stored(part, form))
    for kind in ENGINES.values():
        if kind.server and all(reads(kind.reading, f, kind.newest, card) for f in packed):
            return sentence("unpacks.kept", engine=kind.name)
    return ""


class Unpacking(NamedTuple):
    """Facts that decide whether a format is dequantized: card, release, package, and flag."""

    card: "Part | None"
    version: tuple[int, ...]
    package: bool = True  # `kernels` is installed
    asked: bool = False  # --dequantize

    def why(self, form: str) -> str:
        """Return why a format is dequantized; "" if it is not. Raises UnsupportedError if
        transformers refuses."""
        theirs, since = next(facts for start, facts in NEEDS.items() if form.startswith(start))
        if self.asked:
            return sentence("unpacks.asked")
        if self.card is not None and lacks(self.card, since):
            lacking = missing_units(self.card, form)
            if theirs == "fp8" and not unpacks_float8(self.version):
                written = ".".join(map(str, self.version))
                raise UnsupportedError(sentence("fp8_refused", lacking=lacking, version=written))
            return lacking
        missing = theirs == "mxfp4" and not self.package
        return sentence("unpacks.package", name="kernels") if missing else ""


def unpacked(choice: FormatChoice, part: ModelPart, how: Unpacking) -> tuple[FormatChoice, str]:
    """Return the format in which that card holds the weights, and a note if it differs from the
    chosen one. Raises UnsupportedError if transformers refuses."""
    form, method = choice.scheme, (part.quantization or {}).get("quant_method")
    needs = [] if form is None else [t for s, (t, _) in NEEDS.items() if form.name.startswith(s)]
    if form is None or not needs or method not in (None, *needs):
        return choice, ""
    lacking = (how if method else how._replace(package=True)).why(form.name)
    if not lacking:
        return choice, ""
    into = sentence("unpacks", lacking=lacking, dtype=choice.dtype.name)
    by_card = _kept_by(part, form.name, how.card) if how.card is not None and not how.asked else ""
    return FormatChoice(dtype=choice.dtype), clauses(into, by_card) if by_card else into


def suited(subject: "Subject", how: Unpacking) -> tuple["Subject", str]:
    """Return the model as transformers loads it on that card, and a note if it is dequantized."""
    choice, warning = unpacked(subject.choice, subject.part, how)
    if not warning:
        return subject, ""
    choices = {
        p.name: unpacked(subject.choices[p.name], p, how)[0]
        for p in subject.model.parts
        if p.name in subject.choices
    }
    why = f"{subject.choice.name} unpacked"
    return replace(subject, choice=choice, choices=choices, why=why), warning
