"""Run a parser over bytes in memory, and keep account of what it reads."""

from dataclasses import dataclass, field
from typing import Any

from weighbridge.models.formats import ByteRange, Plan
from weighbridge.models.formats.mistral_params import transformers_config
from weighbridge.models.formats.strict_json import strict_object


@dataclass
class Reads:
    ranges: list[ByteRange] = field(default_factory=list)
    nbytes: int = 0

    def answer(self, file: bytes, wanted: ByteRange) -> bytes:
        """What a source answers: fewer bytes where the file ends."""
        assert wanted.stop == 0 if wanted.start < 0 else 0 <= wanted.start <= wanted.stop, wanted
        got = file[wanted.start :] if wanted.start < 0 else file[wanted.start : wanted.stop]
        self.ranges.append(wanted)
        self.nbytes += len(got)
        return got


def drive(plan: Plan[Any], file: bytes) -> tuple[Any, Reads]:
    reads = Reads()
    try:
        wanted = next(plan)
        while True:
            wanted = plan.send(reads.answer(file, wanted))
    except StopIteration as done:
        return done.value, reads


def parse(plan: Plan[Any], file: bytes) -> Any:
    return drive(plan, file)[0]


def parse_params(data: bytes) -> dict[str, Any]:
    """Read Mistral's params.json as the config that stands for it."""
    return transformers_config(strict_object(data))
