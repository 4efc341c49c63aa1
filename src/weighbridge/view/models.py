"""The catalogue of models on a screen."""

from collections.abc import Sequence

from weighbridge.catalogue import CatalogueEntry
from weighbridge.view.messages import say
from weighbridge.view.records import Column, Grid, Screen, row
from weighbridge.wording import printable


def screen(found: Sequence[CatalogueEntry], lang: str = "en") -> Screen:
    words = say(lang)
    columns = (
        Column(words("models.name")),
        Column(words("models.type"), rank=1),
        Column(words("models.hub"), folds=True),
    )
    rows = (row(*map(printable, (m.name, m.model_type, m.repo_id))) for m in found)
    return Screen(
        title=words.some("models.title.one", "models.title", len(found)),
        sections=((Grid(columns, tuple(rows), actions=tuple({"model": m.name} for m in found)),),),
        lang=lang,
    )
