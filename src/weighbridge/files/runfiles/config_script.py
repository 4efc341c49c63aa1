"""Launch lines that a config of some other program holds: the script that its texts are.

    envs: {MODEL: org/name}                      export MODEL=org/name
    resources: {accelerators: "H100:2"}          (the card that it asks for)
    run: vllm serve $MODEL                       vllm serve $MODEL

SkyPilot, dstack, Truss, Ansible and many more start what stands in a text, or in a list of texts;
what else they say is their own.
"""

import shlex
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from weighbridge.base.records import NamedTuple
from weighbridge.files.runfiles.cards import part_id
from weighbridge.files.runfiles.serving.compose import pairs

SET = ("env", "envs", "environment", "environment_variables", "vars")
CARDS = ("accelerators", "accelerator", "gpu", "gpus")
MOST = 400  # texts of one document


class ConfigScript(NamedTuple):
    """A script of the commands in a config, and the card that it requests; "" for none or
    several."""

    script: str
    gpu: str


def script_of(data: Any) -> ConfigScript:
    """Return a document's texts as one script, which sets the document's variables first."""
    sets: list[str] = []
    lines: list[str] = []
    cards: set[str] = set()
    for key, value in islice(_values(data), MOST):
        if key in SET:
            sets += [f"export {n}={shlex.quote(v)}" for n, v in pairs(value).items()]
        elif key in CARDS and part_id(str(value)):
            cards.add(str(value))
        else:
            texts = value if isinstance(value, list) else [value]
            lines += [each for each in texts if isinstance(each, str) and " " in each]
    return ConfigScript("\n".join((*sets, *lines)), cards.pop() if len(cards) == 1 else "")


def _values(data: Any) -> Iterator[tuple[str, Any]]:
    """Yield (key, value) of a document at any depth."""
    for key, value in data.items() if isinstance(data, Mapping) else ():
        yield str(key).lower(), value
        yield from _values(value)
    for each in data if isinstance(data, list) else ():
        yield from _values(each)
