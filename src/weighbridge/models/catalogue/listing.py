"""The catalogue of models as one asks for it: a pattern, a use and an order."""

from collections.abc import Iterable, Mapping
from typing import Any

from weighbridge.base.errors import NotFoundError, UsageError
from weighbridge.base.sentences import sentence
from weighbridge.base.wording import shown
from weighbridge.models.catalogue import CatalogueEntry, parameters, pipelines, search, uses
from weighbridge.models.catalogue.popularity import asked_for, of

SORTS = ("popular", "recent", "name", "size")


def matching(pattern: str, chosen: Mapping[str, Any]) -> list[CatalogueEntry]:
    """Return the models that match `pattern`, with the user's `use` and `sort`. Raises
    NotFoundError if there are none."""
    use, sort = chosen.get("use"), chosen.get("sort")
    _known("use", use, uses.USES)
    _known("sort", sort, SORTS)
    entries = search(pattern)
    if not entries and not (use is None and pipelines.search(pattern)):
        raise NotFoundError(sentence("no_model", pattern=shown(pattern)))
    of_use = [entry for entry in entries if use in (None, uses.of(entry))]
    if entries and not of_use:
        raise NotFoundError(sentence("no_model_for", pattern=shown(pattern), use=use))
    return ordered(of_use, sort)


def _known(name: str, value: Any, known: tuple[str, ...]) -> None:
    if value not in (None, *known):
        raise UsageError(
            sentence("is_one_of", name=name, known=", ".join(known), value=shown(value))
        )


def ordered(entries: Iterable[CatalogueEntry], by: str | None = None) -> list[CatalogueEntry]:
    """Return entries in one of the orders of SORTS, by default today's most popular first. Models
    without the figure come last."""
    by_name = sorted(entries, key=lambda entry: entry.name)
    if by == "popular":
        return sorted(by_name, key=lambda entry: -(of(entry.name).downloads or 0))
    if by == "recent":
        return sorted(by_name, key=lambda entry: of(entry.name).released or "", reverse=True)
    if by == "size":
        return sorted(by_name, key=lambda entry: -parameters()[entry.name])
    return by_name if by == "name" else sorted(by_name, key=lambda entry: asked_for(entry.name))
