"""Models with the shapes of another, and an id and a context of their own.

What an alias would lose: which repository is launched, and how long its texts may be. A tune that
differs in more, in its format or in its sizes, is an entry of the catalogue.
"""

from collections.abc import Mapping

from weighbridge.base.parsed import Parsed, lines_beside
from weighbridge.base.records import NamedTuple


class Tune(NamedTuple):
    base: str  # the entry whose shapes it has
    repo_id: str
    positions: int | None = None


def _tune(row: str) -> Tune:
    _, base, repo_id, *positions = row.split()
    return Tune(base, repo_id, *map(int, positions))


ROWS = {row.split()[0]: row for row in lines_beside(__file__, "tunes.txt")}
TUNES: Mapping[str, Tune] = Parsed(ROWS, _tune)

# Instructed models with fewer positions than their base: config.json of Qwen/Qwen2.5-72B-Instruct
# says 32,768, and so do the cards of all; logs of vLLM have tables of as many for 7B and 14B
POSITIONS: Mapping[str, int] = dict.fromkeys(
    (f"Qwen/Qwen2.5-{size}B-Instruct" for size in ("1.5", "7", "14", "32", "72")), 32_768
)

# Tags of Ollama's library -> what they have been since August 2025. Read of 30b-a3b: README.md of
# github.com/QwenLM/Qwen3 ("points to qwen3:30b-a3b-thinking-2507-q4_K_M as of August 2025"); of the
# other sizes that have such a build it is assumed. Tags with a format (qwen3:30b-a3b-q4_K_M) and
# sizes without one (8b, 14b, 32b) are the models of April
TAGS: Mapping[str, str] = {
    "qwen3:4b": "qwen3-4b-thinking-2507",
    "qwen3:30b": "qwen3-30b-a3b-thinking-2507",
    "qwen3:30b-a3b": "qwen3-30b-a3b-thinking-2507",
    "qwen3:235b": "qwen3-235b-a22b-thinking-2507",
    "qwen3:235b-a22b": "qwen3-235b-a22b-thinking-2507",
}

SHORT: Mapping[str, str] = dict(map(str.split, lines_beside(__file__, "tunes_short.txt")))


def find(name: str) -> Tune | None:
    """Return the tune called `name` (with hyphens), by its own or its everyday name; None if
    unknown."""
    return TUNES.get(SHORT.get(name, name))
