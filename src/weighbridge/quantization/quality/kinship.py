"""How near one model is to another, for figures that were measured on the other.

A name tells a family and a generation ("Llama-3.1-8B": llama, 3.1); the size is counted. Families
are those that the tables of figures have; a distilled model is of the family that it was made
from, of no known generation.

    generation   0 the same, 1 the same before the point, 5 another   (assumed, as all below)
    size         1 for each doubling; beyond ten times it says nothing
    kind         2 where one sees, hears or embeds and the other does not; 1 where one has experts
"""

import re
from math import log2
from typing import Literal, NamedTuple

from weighbridge.quantization.quality.records import families

Near = Literal["model", "generation", "family"]
NAMED = re.compile(
    r"(?<![a-z])(?P<word>[a-z]+)[-_. ]?(?:[vkr](?=\d))?"
    r"(?P<generation>\d{1,2}(?:\.\d+)?(?![\d.]*[bmx]))?"
)
KINDS = frozenset(("vl", "omni", "vision", "audio", "embedding", "reranker", "guard", "tts"))
OTHER, EXPERTS, KIND = 5.0, 1.0, 2.0
FURTHEST = log2(10)
SAME = 0.15  # of a doubling: sizes as sold are rounded


class NamedModel(NamedTuple):
    """What is known of a model for this."""

    name: str  # without its owner, in small letters
    family: str
    generation: str
    billions: float | None
    experts: bool
    kinds: frozenset[str]


def words(name: str) -> list[re.Match[str]]:
    """The words of a name without its owner; of a distilled model those of its base."""
    return list(NAMED.finditer(bare(name).rpartition("distill-")[2]))


def bare(name: str) -> str:
    return name.rpartition("/")[2].lower()


def family(name: str) -> tuple[str, str] | None:
    """The first word that is a family, and the generation beside it; "?" of a distilled model."""
    for found in words(name):
        if found["word"] in families():
            lost = "distill-" in name.lower()
            return found["word"], "?" if lost else (found["generation"] or "")
    return None


def named(name: str, billions: float | None, *, experts: bool) -> NamedModel | None:
    """Read a model's name; None where it is of no family that has figures."""
    found = family(name)
    if found is None:
        return None
    parts = re.split(r"[^a-z]+", name.lower())
    return NamedModel(bare(name), *found, billions, experts, KINDS.intersection(parts))


def distance(a: NamedModel, b: NamedModel) -> float | None:
    """Return how far apart two models are; None where one says nothing of the other."""
    if a.family != b.family:
        return None
    apart = 0.0 if a.billions is None or b.billions is None else size(a.billions, b.billions)
    if apart > FURTHEST:
        return None
    further = EXPERTS * (a.experts != b.experts) + KIND * (a.kinds != b.kinds)
    since = 0.0 if a.name == b.name else generations(a.generation, b.generation)
    return since + apart + further


def size(a: float, b: float) -> float:
    """Doublings from one to the other."""
    apart = abs(log2(a / b))
    return 0.0 if apart < SAME else apart


def generations(a: str, b: str) -> float:
    if "?" in (a, b):
        return OTHER
    if a == b:
        return 0.0
    return 1.0 if a.partition(".")[0] == b.partition(".")[0] else OTHER


def nearness(a: NamedModel, b: NamedModel) -> Near:
    """Tell in a word how near two models are."""
    if distance(a, b) == 0:
        return "model"
    return "generation" if generations(a.generation, b.generation) < OTHER else "family"
