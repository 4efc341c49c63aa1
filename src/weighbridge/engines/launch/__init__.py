"""An engine's own command line, parsed into settings.

    parse("vllm serve org/name -tp 2 --max-model-len 32k")
    -> Launch(engine="vllm", model="org/name", settings={"tensor_parallel_size": 2,
              "context": 32000}, ...)

Nothing is executed or fetched: words are split as a shell splits them, the program is found, and
each flag is looked up in its engine's table, which says what it means for memory:

    a setting of ours | nothing (`ignored`) | something that we do not model (a warning)

A flag that is in no table is `unknown`, and a warning names the nearest one. Flags that are not
given have the engine's defaults; those that matter are in `defaults`.
"""

import re

from weighbridge.engines.launch.arguments import scan
from weighbridge.engines.launch.programs import launched
from weighbridge.engines.launch.reading import CommandReading
from weighbridge.engines.launch.record import Launch
from weighbridge.engines.launch.translated import dialect_of, in_flags_of_near
from weighbridge.engines.table import ENGINES

__all__ = ["Launch", "parse"]


def parse(command: str) -> Launch:
    """Return the launch of a command. Raises UsageError for an unknown program or a wrong value."""
    for engine in ENGINES.values():
        if engine.snippet and re.search(engine.snippet, command):
            launch: Launch = engine.home("dialect").read(command)
            return launch
    program = launched(command)
    spoken = dialect_of(program.engine)
    reading = CommandReading(program=program, dialect=spoken)
    for flag in scan(program.words, spoken, program.name):
        for meant in in_flags_of_near(flag, program.engine):
            reading.take(meant)
    spoken.finish(reading)
    reading.unused()
    reading.environment()
    return reading.launch()
