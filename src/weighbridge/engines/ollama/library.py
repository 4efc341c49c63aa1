"""Tags of Ollama's library by model: `tag_of("qwen3-8b")` is qwen3:8b."""

from functools import cache

from weighbridge.models.catalogue import CatalogueEntry, everyday, ollama_tags, tunes

format_of = ollama_tags.format_of


def tag_of(name: str) -> str:
    """Return the library tag of an everyday model name; "" if none is known, or if the name
    includes a format."""
    known = everyday.meaning(name)
    return _by_model().get(_model(known.entry), "") if known and not known.quantization else ""


@cache
def _by_model() -> dict[str, str]:
    """Return each model's first tag."""
    tags: dict[str, str] = {}
    for tag in ollama_tags.tags():
        known = everyday.meaning(tag)
        assert known is not None, tag
        tags.setdefault(_model(known.entry), tag)
    return tags


def _model(entry: CatalogueEntry) -> str:
    """Return a key shared by all names of a model: a fine-tune's repository, else the entry's name,
    which a base and its instructed version have in common."""
    tuned = any(tune.repo_id == entry.repo_id for tune in tunes.TUNES.values())
    return entry.repo_id if tuned else entry.name
