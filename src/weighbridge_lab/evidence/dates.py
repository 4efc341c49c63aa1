"""Months of records: the date of the source, if the record has it, else of the engine's release.

released.json has the first month of each release: of vLLM, SGLang, mlx-lm, transformers, TRL,
torchtune, LitGPT and torch as pypi.org has them. Builds of llama.cpp and its forks are counted
commits: a build has the month of the last listed one before it; their months, and that of Ollama's
release, are assumed to within one.
"""

import json
import os
from collections.abc import Mapping
from functools import cache

from weighbridge.base.versions import dated
from weighbridge_lab.evidence.records import HERE, PublishedFigure

ALIKE = {"plain": "transformers", "peft": "transformers"}  # engine -> the one whose version it has


def month(record: PublishedFigure) -> str:
    """Return "2026-04". Raises LookupError for a record with neither date nor known release."""
    if record.date:
        return record.date
    version = record.version or ""
    day = dated(version)
    if day is not None:
        return f"{day[0]}-{day[1]:02}"
    known = _released()[ALIKE.get(record.engine, record.engine)]
    if version in known:
        return known[version]
    short = ".".join(version.split(".")[:2])
    return known[short] if "." in version else _build(known, int(version))


def _build(known: Mapping[str, str], number: int) -> str:
    return max(known[build] for build in known if int(build) <= number)


@cache
def _released() -> Mapping[str, Mapping[str, str]]:
    with open(os.path.join(HERE, "released.json"), encoding="utf-8") as file:
        months: Mapping[str, Mapping[str, str]] = json.load(file)
    return months
