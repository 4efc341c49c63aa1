"""The tag of Ollama's library that is a model: `tag_of("qwen3-8b")` is qwen3:8b."""

from functools import cache

from weighbridge.models.catalogue import CatalogueEntry, everyday, ollama_tags, tunes

format_of = ollama_tags.format_of


def tag_of(name: str) -> str:
    """Return the tag that is the model of an everyday name; "" where none is known to be, or where
    the name itself says a format."""
    known = everyday.meaning(name)
    return _by_model().get(_model(known.entry), "") if known and not known.quantization else ""


@cache
def _by_model() -> dict[str, str]:
    """The first tag of each model."""
    tags: dict[str, str] = {}
    for tag in ollama_tags.tags():
        known = everyday.meaning(tag)
        assert known is not None, tag
        tags.setdefault(_model(known.entry), tag)
    return tags


def _model(entry: CatalogueEntry) -> str:
    """Return the mark that two names of one model share: a tune's repository, else the entry's
    name, which a base and its instructed version have in common."""
    tuned = any(tune.repo_id == entry.repo_id for tune in tunes.TUNES.values())
    return entry.repo_id if tuned else entry.name
