"""What does an engine's own command line ask for?

    parse("vllm serve org/name -tp 2 --max-model-len 32k")
    -> Launch(engine="vllm", model="org/name", settings={"tensor_parallel_size": 2,
              "context": 32000}, ...)

Nothing is executed and nothing is fetched: words are split as a shell splits them, the program is
found, and each flag is looked up in the table of its engine, which says what it means for memory:

    a setting of ours | nothing (`ignored`) | something that we do not model (a warning)

A flag that is in no table is `unknown`, and a warning names the nearest. What the command does not
say is the engine's own default; those that matter are in `defaults`.
"""

from weighbridge.launch import llama_cpp, sglang, transformers, vllm
from weighbridge.launch.arguments import scan
from weighbridge.launch.programs import launched
from weighbridge.launch.reading import Reading
from weighbridge.launch.record import Dialect, Launch

__all__ = ["Launch", "parse"]

DIALECTS = {
    d.engine: d for d in (vllm.DIALECT, sglang.DIALECT, llama_cpp.DIALECT, llama_cpp.IK_DIALECT)
}


def parse(command: str) -> Launch:
    """Raises UsageError where the command launches nothing that we know, or has a wrong value."""
    if transformers.is_snippet(command):
        return transformers.read(command)
    program = launched(command)
    dialect = _dialect(program.engine, program.words)
    reading = Reading(program=program, dialect=dialect)
    for given in scan(program.words, dialect, program.name):
        reading.take(given)
    dialect.finish(reading)
    reading.unused()
    reading.environment()
    return reading.launch()


def _dialect(engine: str, words: tuple[str, ...]) -> Dialect:
    """ik_llama.cpp has llama.cpp's program names: flags that only it has tell."""
    if engine == "llama.cpp" and llama_cpp.IK_ONLY.intersection(words):
        return DIALECTS["ik_llama.cpp"]
    return DIALECTS[engine]
