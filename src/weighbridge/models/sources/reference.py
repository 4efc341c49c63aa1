"""References to models as users type them: a path, a name, a repository, a URL or a size."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from weighbridge.base.errors import NotFoundError, UsageError
from weighbridge.base.records import NamedTuple, frozen_record
from weighbridge.base.sentences import sentence
from weighbridge.base.wording import HIDDEN

if TYPE_CHECKING:
    from urllib.parse import SplitResult

ENDPOINT = "https://huggingface.co"
HUB_HOSTS = frozenset({"huggingface.co", "www.huggingface.co", "hf.co"})
MIRRORS = frozenset({"hf-mirror.com"})
MAX_LENGTH = 4096  # PATH_MAX of Linux
FILES = (".safetensors", ".gguf", ".bin", ".pt", ".pth", ".ckpt", ".json")


@frozen_record
class LocalRef:
    """A reference to a local folder or file; `revision` only matters for a folder of the Hub's
    cache."""

    path: str
    revision: str | None = None


@frozen_record
class CatalogueRef:
    """A reference to a name in the built-in catalogue."""

    name: str


@frozen_record
class HubRef:
    """A reference to a repository, or a file or a folder in it. `endpoint` is None for the
    configured Hub."""

    repo_id: str
    revision: str | None = None
    filename: str | None = None
    subfolder: str | None = None
    quant: str | None = None
    endpoint: str | None = None


@frozen_record
class UrlRef:
    """A reference to a file anywhere on the web."""

    url: str
    filename: str


@frozen_record
class TimmRef:
    """A reference to a timm model; with its tag the name is also the repository `timm/name`."""

    name: str
    revision: str | None = None


@frozen_record
class SizeRef:
    """A reference that is only a number of parameters; answers about it are rough."""

    parameters: int


Reference = LocalRef | CatalogueRef | HubRef | UrlRef | TimmRef | SizeRef


class _Typed(NamedTuple):
    text: str
    revision: str | None
    exists: Callable[[str], bool]
    catalogue: Callable[[str], bool]
    endpoint: str


def parse(
    text: str,
    *,
    revision: str | None = None,
    exists: Callable[[str], bool],
    catalogue: Callable[[str], bool],
    endpoint: str = ENDPOINT,
) -> Reference:
    """Return the reference that `text` names. `endpoint` is the configured Hub; `exists` and
    `catalogue` tell local paths and catalogue names. Raises UsageError."""
    typed = _Typed(
        text=text if exists(text) else text.strip(),
        revision=None if revision is None else _revision(revision),
        exists=exists,
        catalogue=catalogue,
        endpoint=endpoint.rstrip("/"),
    )
    named = bool(typed.text) and typed.text.isprintable() and len(typed.text) <= MAX_LENGTH
    if not named and not exists(typed.text):
        raise UsageError(sentence("ref.no_model", text=_quoted(text)))
    return next(reference for reader in READERS if (reference := reader(typed)) is not None)


# Readers of one kind each; they return None for text of another kind.


def _local_reference(typed: _Typed) -> Reference | None:
    return LocalRef(path=typed.text, revision=typed.revision) if typed.exists(typed.text) else None


def _catalogue_reference(typed: _Typed) -> Reference | None:
    if not typed.catalogue(typed.text):
        return None
    _refuse_revision(typed, "a name of the built-in catalogue")
    return CatalogueRef(name=typed.text)


def _refuse_config_text(typed: _Typed) -> Reference | None:
    """Raise UsageError for the text of a config in place of its file, or for a Python network
    (FILE.py:NAME); else return None."""
    if typed.text.startswith(("{", "[")):
        raise UsageError(sentence("ref.config", text=_quoted(typed.text)))
    if ".py:" in typed.text:
        raise UsageError(sentence("trace.net_first", net=typed.text))
    return None


def _size_reference(typed: _Typed) -> Reference | None:
    match = re.fullmatch(r"(\d{1,6}(?:\.\d{1,6})?) ?([KMBT])", typed.text, re.ASCII | re.IGNORECASE)
    if match is None:
        return None
    _refuse_revision(typed, "a size")
    scale = {"K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}[match[2].upper()]
    whole, _, tenths = match[1].partition(".")
    parameters = int(whole + tenths) * scale // 10 ** len(tenths)
    if not parameters:
        raise UsageError(sentence("ref.no_parameters", text=_quoted(typed.text)))
    return SizeRef(parameters=parameters)


def _refuse_ollama_page(typed: _Typed) -> Reference | None:
    """Raise UsageError, with the tag to use, for a page of Ollama's library; else return None."""
    page = re.fullmatch(r"(?:https?://)?(?:www\.)?ollama\.com/(?:library/)?([\w.:-]+)", typed.text)
    if page is not None:
        raise UsageError(sentence("ref.of_ollama", text=_quoted(typed.text), tag=page[1]))
    return None


def _reference_with_scheme(typed: _Typed) -> Reference | None:
    scheme, separator, address = typed.text.partition("://")
    if not separator:
        return None
    reader = SCHEMES.get(scheme.lower())
    if reader is None:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        raise UsageError(
            sentence("ref.scheme", scheme=scheme, known=known), where=_quoted(typed.text)
        )
    return reader(typed, address)


def _bare_host(typed: _Typed) -> Reference | None:
    """Return the reference of an address typed without https:// (huggingface.co/org/name); None for
    other text."""
    from urllib.parse import (
        urlsplit,
    )  # imported only here and below: a name of the catalogue needs no URL

    host = typed.text.partition("/")[0].lower()
    if host not in HUB_HOSTS | MIRRORS | {urlsplit(typed.endpoint).netloc}:
        return None
    quant = re.fullmatch(r"([^:]+):([^/:]+)", typed.text)  # hf.co/org/name:Q4_K_M, as for Ollama
    if quant is not None and host in HUB_HOSTS:
        return _hub(typed, quant[1].partition("/")[2] + ":" + quant[2])
    return _web(typed, typed.text, "https://" + typed.text)


def _missing_path(typed: _Typed) -> Reference | None:
    looks = (
        re.match(r"[/~.\\]|[A-Za-z]:[/\\]", typed.text)
        or "\\" in typed.text
        or typed.text.endswith("/")
    )
    if looks:
        raise NotFoundError(sentence("path", path=_quoted(typed.text)))
    if (
        typed.text.lower().endswith(FILES)
        and typed.text.count("/") < 2
        and not re.search("[@:]", typed.text)
    ):
        raise NotFoundError(sentence("file_here", name=_quoted(typed.text)))
    return None


def _repository(typed: _Typed) -> Reference | None:
    """Return the reference of org/name with its suffixes, also after timm's prefix for the Hub."""
    repository = _hub(typed, re.sub(r"^hf[-_]hub:", "", typed.text))
    owner, _, name = repository.repo_id.partition("/")
    if owner == "timm" and not (repository.filename or repository.subfolder or repository.quant):
        return TimmRef(name=name, revision=repository.revision)
    return repository


READERS: tuple[Callable[[_Typed], Reference | None], ...] = (
    _local_reference,
    _catalogue_reference,
    _refuse_config_text,
    _size_reference,
    _refuse_ollama_page,
    _reference_with_scheme,
    _bare_host,
    _missing_path,
    _repository,
)


# Schemes.


def _hf_uri(typed: _Typed, address: str) -> Reference:
    kind, _, place = address.partition("/")
    if kind in OTHER_KINDS:
        raise UsageError(
            sentence("ref.other_kind", text=_quoted(typed.text), kind=OTHER_KINDS[kind])
        )
    return _hub(typed, place if kind == "models" else address)


def _file_uri(typed: _Typed, place: str) -> Reference:
    from urllib.parse import unquote

    path = unquote(place.removeprefix("localhost"))
    if not typed.exists(path):
        raise NotFoundError(sentence("path", path=_quoted(path)))
    return LocalRef(path=path, revision=typed.revision)


SCHEMES: dict[str, Callable[[_Typed, str], Reference]] = {
    "hf": _hf_uri,
    "https": lambda typed, _: _web(typed, typed.text, typed.text),
    "http": lambda typed, _: _web(typed, typed.text, typed.text),
    "file": _file_uri,
}

OTHER_KINDS = {
    "datasets": "a dataset",
    "spaces": "a Space",
    "kernels": "a kernel",
    "buckets": "a bucket",
    "collections": "a collection",
    "papers": "a paper",
    "docs": "a page of documentation",
    "blog": "a blog post",
}


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 120 else f"{text[:117]}...")


def _web(typed: _Typed, shown: str, url: str) -> Reference:
    from urllib.parse import unquote, urlsplit

    try:
        parts = urlsplit(url)
        _ = parts.port, (parts.hostname or "").encode("idna")  # both raise where malformed
    except ValueError as error:
        port = re.match(r"[^/]*//(?:[^/?#]*@)?+(?:\[[^]]*])?+[^/?#@[\]:]*:(?!\d+(?:[/?#]|$))", url)
        why = "its port is no number" if port else error  # which may be a password
        raise UsageError(sentence("ref.no_url", text=_quoted(shown), why=str(why))) from None
    if not parts.hostname:
        raise UsageError(sentence("ref.no_host", text=_quoted(shown)))
    place = _hub_path(typed, parts)
    if place is None:
        return _plain_url(typed, url, parts)
    endpoint, path = place
    return _page(typed, endpoint, [unquote(part) for part in path.split("/") if part])


def _hub_path(typed: _Typed, parts: "SplitResult") -> tuple[str | None, str] | None:
    """Return (endpoint, path below it) of a Hub's URL, None for other URLs; the endpoint is None
    for the configured Hub."""
    from urllib.parse import urlsplit

    ours = urlsplit(typed.endpoint)
    below = f"{parts.path}/".startswith(f"{ours.path}/")
    if parts.netloc.lower() == ours.netloc.lower() and below:
        return None, parts.path.removeprefix(ours.path)
    host = (parts.hostname or "").lower()
    if host in HUB_HOSTS:
        return None, parts.path
    return (f"https://{host}", parts.path) if host in MIRRORS else None


def _plain_url(typed: _Typed, url: str, parts: "SplitResult") -> UrlRef:
    from urllib.parse import unquote

    _refuse_revision(typed, "a URL")
    filename = unquote(parts.path.rpartition("/")[2])
    if not filename.lower().endswith(FILES):
        raise UsageError(sentence("ref.no_file", text=_quoted(url), known=", ".join(FILES)))
    return UrlRef(url=parts._replace(fragment="").geturl(), filename=_path([filename], url))


def _page(typed: _Typed, endpoint: str | None, segments: list[str]) -> Reference:
    """Return the reference of a page of the Hub's website, from the segments of the page's path."""
    for prefix in (["api", "models"], ["models"]):
        if segments[: len(prefix)] == prefix:
            segments = segments[len(prefix) :]
    if not segments:
        raise UsageError(sentence("ref.page_no_model", text=_quoted(typed.text), address=ENDPOINT))
    if segments[0] in OTHER_KINDS:
        raise UsageError(
            sentence("ref.other_kind", text=_quoted(typed.text), kind=OTHER_KINDS[segments[0]])
        )
    length = 1 if len(segments) == 1 or segments[1] in PAGES else 2  # gpt2 has no organization
    repo_id, below = "/".join(segments[:length]), segments[length:]
    if not below:
        return _hub_ref(typed, repo_id, endpoint=endpoint)
    place = PAGES.get(below[0])
    if place is None or len(below) == 1:
        raise UsageError(
            sentence("ref.no_page", text=_quoted(typed.text), address=ENDPOINT, repo=repo_id)
        )
    revision, path = _split_revision(below[1:])
    where = {place: _path(path, typed.text)} if path else {}
    return _hub_ref(typed, repo_id, revision=revision, endpoint=endpoint, **where)


# The pages of a repository that name a revision, and what the path behind it is.
PAGES = {
    **dict.fromkeys(("tree", "commit", "commits", "revision"), "subfolder"),
    **dict.fromkeys(("blob", "resolve", "raw", "blame"), "filename"),
}


# The parts of a Hub id.


def _hub(typed: _Typed, text: str) -> HubRef:
    """Return the reference of org/name[@REV][/FILE][:QUANT]."""
    from urllib.parse import unquote

    text, colon, quant = text.partition(":")
    if colon and not re.fullmatch(r"[A-Za-z0-9_.-]+", quant):
        named = HIDDEN if "@" in quant else quant  # or it is the password of a login
        raise UsageError(sentence("ref.quantization", name=named), where=_quoted(typed.text))
    name, at, after = text.partition("@")
    segments = name.split("/")
    revision, below = _split_revision(after.split("/")) if at else ("", [])
    path = segments[2:] + below
    place = "filename" if "/".join(path).lower().endswith(FILES) else "subfolder"
    where = {place: _path(path, typed.text)} if path else {}
    return _hub_ref(
        typed,
        "/".join(segments[:2]),
        revision=unquote(revision) if at else None,
        quant=quant or None,
        **where,
    )


def _hub_ref(
    text: _Typed, repo_id: str, *, revision: str | None = None, **where: str | None
) -> HubRef:
    typed = None if revision is None else _revision(revision)
    if typed and text.revision and typed != text.revision:
        raise UsageError(
            sentence(
                "ref.two_revisions", first=typed, text=_quoted(text.text), second=text.revision
            )
        )
    return HubRef(repo_id=check_repo_id(repo_id), revision=typed or text.revision, **where)


def check_repo_id(repo_id: str) -> str:
    """Return `repo_id` unchanged. Raises UsageError if it breaks the Hub's rules for ids."""
    name = r"\b[\w.-]{1,96}\b"
    well_formed = re.fullmatch(rf"({name}/)?{name}", repo_id, re.ASCII)
    if not well_formed or "--" in repo_id or ".." in repo_id or repo_id.endswith(".git"):
        key = "ref.no_words" if " " in repo_id and "/" not in repo_id else "ref.no_id"
        raise UsageError(sentence(key, text=_quoted(repo_id)))
    return repo_id


def _split_revision(segments: list[str]) -> tuple[str, list[str]]:
    """Return (revision, path segments): refs/pr/1 and refs/convert/x are one revision; other
    slashes are %2F."""
    if segments[0] == "refs" and len(segments) >= 3 and segments[1] in ("pr", "convert"):
        return "/".join(segments[:3]), segments[3:]
    return segments[0], segments[1:]


def _revision(text: str) -> str:
    if (
        not re.fullmatch(r"[^\s\\~^:?*\[\x00-\x20\x7f]{1,255}", text)
        or ".." in text
        or text[0] == "/"
    ):
        raise UsageError(sentence("ref.revision", text=_quoted(text)))
    return text


def _path(segments: list[str], shown: str) -> str:
    if any(s in ("", ".", "..") or re.search(r"[/\\\x00-\x1f]", s) for s in segments):
        raise UsageError(sentence("ref.leaves", text=_quoted(shown)))
    return "/".join(segments)


def _refuse_revision(typed: _Typed, kind: str) -> None:
    if typed.revision is not None:
        raise UsageError(
            sentence(
                "ref.unversioned", text=_quoted(typed.text), kind=kind, revision=typed.revision
            )
        )
