"""How often the models of the catalogue are downloaded, and since when they are on the Hub.

`downloads` and `createdAt` of the Hub's API, as github.com/AlexsJones/llmfit keeps them in
hf_models.json: downloads of the 30 days before. `seen` is the day of the commit that was read; of
a date that is alone it was 2026-05-17, too. Counted is the repository of the entry or the
instructed one with its shapes, whichever has more; a date is the older of theirs. What that list
does not have has no figure here.
"""

import json
import os
import re
from functools import cache

from weighbridge.base.parsed import Parsed
from weighbridge.base.records import NamedTuple

COMMITS = {  # day of `seen` -> commit of AlexsJones/llmfit
    "2026-02-21": "3fb10d0",
    "2026-04-15": "ac5b115",
    "2026-05-05": "8214b1f",
    "2026-05-06": "93e9d67",
    "2026-05-17": "a3e0eb2",
}


class Popularity(NamedTuple):
    """A model's figures on the Hub, on one day."""

    name: str
    repo_id: str | None = None  # repository of these downloads
    downloads: int | None = None  # of the 30 days before
    seen: str | None = None
    released: str | None = None  # day on which it came to the Hub

    @property
    def year(self) -> int:
        """Return the year in which the model came to the Hub; 0 if not known."""
        return int(self.released[:4]) if self.released else 0


@cache
def _rows() -> Parsed[str, str, Popularity]:
    path = os.path.join(os.path.dirname(__file__), "popularity.jsonl")
    with open(path, encoding="utf-8") as file:
        return Parsed({line.split('"', 4)[3]: line for line in file}, _row)


def _row(line: str) -> Popularity:
    return Popularity(**json.loads(line))


def of(name: str) -> Popularity:
    """Return the figures of a catalogue entry."""
    return _rows()[name] if name in _rows() else Popularity(name)


def asked_for(name: str) -> tuple[int, int, str]:
    """Return the sort key that puts popular models first: by newest year, then most downloads, then
    name. A model without a date takes the newest of its family's; without any it comes last."""
    known = of(name)
    year = known.year or -family(family_of(name))[0]
    return -year, -(known.downloads or 0), name


SIZE = re.compile(r"[ae]?\d+(\.\d+)?(x\d+(\.\d+)?)?[mbt]\d*")
FORMATS = ("bf16", "fp8", "mxfp4", "nvfp4")


def family_of(name: str) -> str:
    """Return a name without sizes and formats: qwen3-vl for qwen3-vl-30b-a3b."""
    words = [word for word in name.split("-") if not SIZE.fullmatch(word) and word not in FORMATS]
    return "-".join(words) or name


@cache
def _families() -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for known in _rows().values():
        name = family_of(known.name)
        year, downloads = found.get(name, (0, 0))
        found[name] = (max(year, known.year), downloads + (known.downloads or 0))
    return found


def family(name: str) -> tuple[int, int, str]:
    """Return the sort key that puts popular families first: by their newest model's year, then by
    downloads of all their models."""
    year, downloads = _families().get(name, (0, 0))
    return -year, -downloads, name
