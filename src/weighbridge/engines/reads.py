"""Which formats of weights an engine reads: a row of its table, and how the table is asked.

Each engine has READS in formats.py of its folder, and what no row of it names is not read. A row
names formats as `--quantization` does, by a pattern of the whole name; GGUF is a file of it, and
what has no name of ours goes by the quant_method of its config. `how` says what becomes of them:

    loaded     packed on the device, as they were stored or as the engine packs them
    made       the same, of a checkpoint in 16 bits alone: none is stored so
    unpacked   stored so, and turned into another format or into floats when it is loaded
"""

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Literal, NamedTuple

from weighbridge.engines.engine import Engine, Version

if TYPE_CHECKING:
    from weighbridge.accelerators.parts import Part, SoftwareStack

How = Literal["loaded", "made", "unpacked"]
FILE = "GGUF"  # a file of that kind, whatever types are in it
BITSANDBYTES = r"(nf4|fp4)(-dq)?|bnb-int8"
FLOAT8 = r"fp8-(tensor|block|static|dynamic)|w8a8-fp8"
TORCHAO = r"torchao-.*"
EVERYWHERE: "tuple[SoftwareStack, ...]" = ("cuda", "hip", "own")


class Reads(NamedTuple):
    """Formats that are read alike. Releases and compute capabilities are the first that do."""

    forms: str  # a pattern of their names
    source: str
    since: Version = ()
    until: Version = ()  # the first release that does not; (): there is none
    least: tuple[int, int] = (0, 0)  # compute capability, of CUDA devices
    native: tuple[int, int] = (0, 0)  # that multiplies in it; older ones multiply in 16 bits
    stacks: "tuple[SoftwareStack, ...]" = EVERYWHERE
    methods: str = ""  # a pattern of the quant_method that it is stored under; "": any
    how: How = "loaded"
    note: str = ""  # what else is said where it is not read

    def names(self, form: "WeightFormat") -> bool:
        """Tell whether the row is about such a format, whatever the release and the device."""
        if re.fullmatch(self.forms, form.name) is None:
            return False
        if not form.stored:
            return self.how != "unpacked"
        stored = self.how != "made"
        return stored and (not self.methods or bool(re.fullmatch(self.methods, form.method)))

    def released(self, version: Version) -> bool:
        return self.since <= version and not (self.until and version >= self.until)

    def runs(self, part: "Part | None") -> bool:
        """Tell whether the device has all that the format needs; of an unknown device, yes."""
        if part is None:
            return True
        enough = part.capability is None or part.capability >= self.least
        return part.stack in self.stacks and enough


class WeightFormat(NamedTuple):
    """A format that is asked for, or that a checkpoint is stored in, under the method of its
    config."""

    name: str
    stored: bool = False
    method: str = ""


def reads(rows: Iterable[Reads], form: WeightFormat, version: Version, part: "Part | None") -> bool:
    """Tell whether an engine of that release reads the format on that device."""
    return found(rows, form, version, part) is not None


def found(
    rows: Iterable[Reads], form: WeightFormat, version: Version, part: "Part | None"
) -> Reads | None:
    """Find the row by which the format is read; None where it is not."""
    fitting = (row for row in rows if row.released(version) and row.runs(part))
    return next((row for row in fitting if row.names(form)), None)


def listed(
    rows: Iterable[Reads], names: Iterable[str], version: Version, part: "Part | None"
) -> tuple[str, ...]:
    """Return those of `names` that can be asked for there."""
    rows = tuple(rows)
    return tuple(name for name in names if reads(rows, WeightFormat(name), version, part))


def makes(rows: Iterable[Reads], name: str) -> bool:
    """Tell whether an engine packs checkpoints in 16 bits to a format in which none is stored."""
    return any(row.how == "made" and row.names(WeightFormat(name)) for row in rows)


def offered(kind: Engine, version: Version, part: "Part | None") -> tuple[str, ...]:
    """Return what remedies may offer of an engine: those of its `formats` that are read there."""
    return listed(kind.reading, kind.formats, version, part)


def lacking(
    rows: Iterable[Reads], form: WeightFormat, version: Version, part: "Part | None"
) -> str:
    """Say what a format that is not read would need: another release, another card; "" where no
    release reads it on any."""
    about = [row for row in rows if row.names(form)]
    there = [row for row in about if row.released(version)] or about
    nearest = min((row.least for row in there), default=(0, 0))  # one threshold is enough
    there = [row for row in there if row.least == nearest]
    return "; ".join(dict.fromkeys(_needs(there, version, part)))


def _needs(rows: Iterable[Reads], version: Version, part: "Part | None") -> Iterator[str]:
    for row in rows:
        if row.since > version:
            yield f"it does since {_written(row.since)}"
        elif not row.released(version):
            yield f"it did before {_written(row.until)}"
        elif part is not None and part.stack not in row.stacks:
            yield f"on {_devices(row.stacks)} alone"
        elif part is not None and part.capability is not None:
            has, least = _written(part.capability), _written(row.least)
            yield f"it needs compute capability {least}, and {part.name} has {has}"
        if row.note:
            yield row.note


def _devices(stacks: "tuple[SoftwareStack, ...]") -> str:
    names = {"cuda": "CUDA", "hip": "ROCm", "own": "other"}
    return f"{' and '.join(names[s] for s in stacks)} devices"


def _written(number: tuple[int, ...]) -> str:
    return ".".join(map(str, number))
