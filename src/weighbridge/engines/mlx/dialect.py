"""Command lines of mlx_lm.generate, mlx_lm.chat and mlx_lm.server.

Source: mlx-lm d78bf58 generate.py, chat.py and server.py (setup_arg_parser, main).
"""

from weighbridge.base.parsed import text_beside
from weighbridge.base.sentences import sentence
from weighbridge.engines.launch.reading import CommandReading
from weighbridge.engines.launch.record import Dialect, Value, flags
from weighbridge.engines.mlx.plan import GROUP
from weighbridge.engines.mlx.rules import DECODED, PROMPTS, QUANTIZED_FROM
from weighbridge.engines.mlx.settings import Mlx
from weighbridge.engines.servers.flags import model

FLAGS = flags(text_beside(__file__, "flags.txt"), Mlx)


def finish(reading: CommandReading) -> None:
    model(reading)
    _program(reading)
    bits, start = reading.last("bits"), reading.last("start")
    if bits is not None:
        reading.settings["kv_cache_dtype"] = f"{reading.read('whole', *bits)}bit"
    since = QUANTIZED_FROM if start is None else int(reading.read("count", *start))
    if bits is not None and since:
        reading.warn(sentence("quantized_behind", flag=bits[0], tokens=since))
    for what, usual in (("group", GROUP), ("decoded", DECODED), ("prompts", PROMPTS)):
        said = reading.last(what)
        if said is not None and what == "group" and int(reading.read("whole", *said)) != usual:
            reading.warn(sentence("groups_of", flag=said[0], value=said[1], usual=usual))
        elif said is not None:
            reading.ignored.append(said[0])


def _program(reading: CommandReading) -> None:
    """Read program and new tokens; the server takes those only as a default of requests."""
    new, server = reading.last("new"), reading.program.name.endswith("server")
    if server:
        reading.settings["program"] = "server"
    if new is not None and not server:
        reading.settings["max_new_tokens"] = int(reading.read("count", *new))
    elif new is not None:
        reading.ignored.append(new[0])


def defaults(reading: CommandReading) -> tuple[tuple[str, Value, str], ...]:
    unless: tuple[tuple[str, Value, str], ...] = (
        ("context", "grows", "caches have no length that is set"),
        ("kv_cache_dtype", "auto", "the model's dtype"),
        ("prefill_step_size", 2048, "tokens of a prompt at once"),
    )
    return tuple(row for row in unless if row[0] not in reading.settings)


DIALECT = Dialect(engine="mlx", flags=FLAGS, finish=finish, defaults=defaults)
