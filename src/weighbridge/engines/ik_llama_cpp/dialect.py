"""Command lines of ik_llama.cpp: llama.cpp's programs and flags, and its own."""

from weighbridge.base.parsed import text_beside
from weighbridge.base.records import replace
from weighbridge.engines.ik_llama_cpp import ENGINE
from weighbridge.engines.ik_llama_cpp.settings import IkLlamaCpp
from weighbridge.engines.launch.reading import CommandReading
from weighbridge.engines.launch.record import Value, flags
from weighbridge.engines.llama_cpp import dialect as llama_cpp
from weighbridge.engines.llama_cpp.dialect import FLAGS

TABLE = text_beside(__file__, "flags.txt")
OWN = flags(TABLE, IkLlamaCpp)


def defaults(reading: CommandReading) -> tuple[tuple[str, Value, str], ...]:
    """Return the defaults of its programs: one slot, flash attention, MLA mode 3."""
    return llama_cpp.defaults(reading, slots=1, flash="on", latents=3)


DIALECT = replace(
    llama_cpp.DIALECT,
    engine=ENGINE.name,
    flags={**FLAGS, **OWN},
    defaults=defaults,
    tells=frozenset(OWN) - frozenset(FLAGS),
)
