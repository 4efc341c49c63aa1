"""Sources of model files, the only I/O: a source lists files and reads ranges of them, whatever
their format.

    resolve(text) -> a reference: a path, a repository, a URL
    open_source(reference) -> a source
"""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from weighbridge.base.errors import UsageError
from weighbridge.base.sentences import sentence
from weighbridge.base.wording import shown
from weighbridge.models.sources.reference import (
    ENDPOINT,
    HubRef,
    LocalRef,
    Reference,
    TimmRef,
    UrlRef,
    parse,
)

if TYPE_CHECKING:
    from weighbridge.models.sources.base import Source, SourceOptions


def resolve(
    text: str, *, catalogue: Callable[[str], bool], revision: str | None = None, disk: bool = True
) -> Reference:
    """Return the reference that `text` names: a local file unless `disk` is False, a catalogue
    name, or a repository of the Hub in HF_ENDPOINT."""
    return parse(
        text,
        revision=revision,
        exists=lambda path: disk and os.path.lexists(os.path.expanduser(path)),
        catalogue=catalogue,
        endpoint=endpoint(),
    )


def endpoint() -> str:
    """Return the address of the configured Hub, HF_ENDPOINT or huggingface.co. Raises UsageError if
    it is invalid."""
    address = os.environ.get("HF_ENDPOINT")
    if not address:
        return ENDPOINT
    from urllib.parse import urlsplit  # the usual address needs no check

    try:
        urlsplit(address)
    except ValueError as error:
        raise UsageError(
            sentence("hf_endpoint.bad", address=shown(address), why=str(error))
        ) from None
    return address


def open_source(ref: Reference, options: "SourceOptions | None" = None) -> "Source":
    """Return the source of the files that a reference names. Raises UsageError if it names no
    files."""
    from weighbridge.models.sources.base import (
        SourceOptions,  # which a name of the catalogue does without
    )

    opener = OPENERS.get(type(ref))
    if opener is None:
        raise UsageError(sentence("ref.no_files", name=str(ref)))
    return opener(ref, options or SourceOptions())


def _local(ref: LocalRef, options: "SourceOptions") -> "Source":
    from weighbridge.models.sources.local import LocalSource

    return LocalSource(ref.path, revision=ref.revision)


def _hub(ref: HubRef, options: "SourceOptions") -> "Source":
    from weighbridge.models.sources.hub import HubSource

    return HubSource(ref, options)


def _timm(ref: TimmRef, options: "SourceOptions") -> "Source":
    return _hub(HubRef(repo_id=f"timm/{ref.name}", revision=ref.revision), options)


def _url(ref: UrlRef, options: "SourceOptions") -> "Source":
    from weighbridge.models.sources.url import UrlSource

    return UrlSource(ref, options)


OPENERS: dict[type, Callable[[Any, "SourceOptions"], "Source"]] = {
    LocalRef: _local,
    HubRef: _hub,
    TimmRef: _timm,
    UrlRef: _url,
}
