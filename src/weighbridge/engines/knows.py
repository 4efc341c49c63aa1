"""Which classes an engine's release knows: a row of its table, and how the table is asked.

Each engine has KNOWS in classes.py of its folder. A row names what came with one release: classes
as `architectures` of a config does, model types for transformers, architectures of GGUF for what
loads that. What no row names was there before our oldest release, or was not read: nothing is said
of it.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from weighbridge.engines.engine import Version


class Known(NamedTuple):
    """Names that came between two releases that were read."""

    since: Version  # the first that was read and has them
    before: Version  # the last that was read and has not, written in full (0.19.1)
    names: str

    def lacking(self, version: Version) -> bool:
        """Tell whether a release surely lacks these names. One between the two may have them, and
        so may one written short (0.10) of whose series the first with them is (0.10.1)."""
        return version <= self.before and version != self.since[: len(version)]


class Backend(NamedTuple):
    """How a server runs classes of transformers in the place of its own: since which release, and
    by release the newest transformers that it takes, () where it names none."""

    text: Version
    images: Version
    newest: Mapping[Version, Version]

    def runs(self, version: Version, name: str, since: Version) -> bool:
        """Tell whether it may run a class that transformers has `since` a release, () for
        always."""
        least = self.images if name.endswith("ForConditionalGeneration") else self.text
        newest = self.newest[max(first for first in self.newest if first <= version)]
        return version >= least and (not newest or since <= newest)


def row_of(rows: Iterable[Known], name: str) -> Known | None:
    """Find the row that names it."""
    return next((row for row in rows if name in row.names.split()), None)
