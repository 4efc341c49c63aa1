"""Names that people use for a weight format, and the format that each usually means.

    4bit   nf4 with transformers, awq-4bit-g128 with a server, Q4_K_M with llama.cpp
    awq    awq-4bit-g128: four bits, groups of 128, what most such checkpoints have
    q4     Q4_K_M

The usual meaning is assumed: nf4 is what QLoRA uses (arXiv 2305.14314), groups of 128 are the
default of GPTQModel and AutoAWQ, Q4_K_M is what llama.cpp's tools/quantize recommends, and fp8 has
one scale per tensor as with `vllm --quantization fp8`.
"""

import re
from collections.abc import Iterator, Mapping

from weighbridge.base.parsed import lines_beside
from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import sentence
from weighbridge.engines.table import record
from weighbridge.models.catalogue.everyday import FLOATS

PLAIN = ("fp8", "int8", "int4")  # also names of plain dtypes, which --dtype takes


class Usual(NamedTuple):
    """What a name means by loader: transformers, a server, llama.cpp, mlx-lm. "": unchanged."""

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


def _names() -> Iterator[tuple[str, Usual]]:
    for line in lines_beside(__file__, "format_names.txt"):
        names, _, forms = line.partition(":")
        own = [form.strip("-") for form in forms.split()]
        usual = Usual(*own) if own[1:] else Usual(*own * 3)
        yield from ((name, usual) for name in names.split())


NAMES: Mapping[str, Usual] = dict(_names())


def meant(name: str, engine: str = "transformers") -> str:
    """Return the format that `name` usually means with `engine`; `name` itself if it is a format
    that the engine knows, or no such nickname."""
    usual = _usual(name)
    return (usual.by(engine) if usual else "") or name


def _usual(name: str) -> Usual | None:
    return NAMES.get(re.sub(r"[\s_-]", "", name.lower()))


def is_width(name: str) -> bool:
    """Return whether a name says only bits (4bit), which mean another format per engine."""
    usual = _usual(name)
    return usual is not None and usual.mlx != ""


def as_wide(name: str, form: str) -> bool:
    """Return whether `name` says only bits, and the format `form` has as many: the first digit of
    both."""
    return is_width(name) and re.findall(r"\d", form)[:1] == re.findall(r"\d", name)[:1]


def said(name: str | None, form: str) -> str:
    """Return a sentence on the format chosen for `name`, "" if it is only another spelling. Without
    `name` the model's own name named the format."""
    if name is None:
        return sentence("named_form", form=form)
    if form == name or form.lower().replace("_", "-") == name.lower().replace("_", "-"):
        return ""
    return sentence("taken_as.division" if name in PLAIN else "taken_as", name=name, form=form)


def is_gguf_type(name: str) -> bool:
    """Return whether a format is a GGUF type and not a plain dtype that GGUF has too."""
    from weighbridge.models.quantization.schemes import GGUF

    return meant(name) in GGUF - set(FLOATS.values())


def unpacked(form: str, engine: str) -> bool:
    """Return whether a name's format is that of unquantized checkpoints (-fp16), which only GGUF
    file names distinguish."""
    return form in FLOATS.values() and record(engine).reads != "gguf"
