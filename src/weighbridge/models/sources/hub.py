"""A repository of the Hub: one request for its listing, then ranges of its files.

    GET /api/models/ID[/revision/REV]?blobs=true    the commit, and each file with its size
    GET /ID/resolve/COMMIT/FILE                     the bytes that the caller reads, no more

The commit of the listing decides whether a cached snapshot is current; files of that snapshot are
read from disk. Small JSON files that were fetched completely are cached, as huggingface_hub's
client does. Without a network the snapshot that `refs/REV` names is used, with a note.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from weighbridge.base.errors import (
    AwayError,
    BadFileError,
    GatedError,
    HubError,
    NotFoundError,
    UsageError,
    WeighbridgeError,
)
from weighbridge.base.records import field, frozen_record, replace
from weighbridge.base.sentences import about, sentence
from weighbridge.base.units import MIB
from weighbridge.base.wording import shown
from weighbridge.models.formats import ByteRange
from weighbridge.models.formats.strict_json import strict_object
from weighbridge.models.sources import cache, select, surroundings
from weighbridge.models.sources.answers import UnreachableError
from weighbridge.models.sources.base import MAX_ENTRIES, SourceFile, SourceOptions, inside, span
from weighbridge.models.sources.http import Client, RefusedAnswerError, endpoint
from weighbridge.models.sources.local import LocalSource
from weighbridge.models.sources.reference import HubRef, check_repo_id
from weighbridge.models.sources.surroundings import login

MAX_LISTING = 48 * MIB  # bytes, enough for 100,000 files with their hashes
MAX_READ = 128 * MIB  # bytes of one read, twice the largest that a parser requests
WHOLE = MIB  # bytes; a file up to this size is fetched without a range, as the client does
MOST_KEPT = 16 * MIB  # bytes; a file up to this size is cached: the index of 163 shards has 9 MB


@frozen_record
class _Listing:
    """One revision of a repository: its current id, and its files with their sizes in bytes."""

    repo_id: str
    commit: str | None
    sizes: Mapping[str, int | None]
    snapshot: LocalSource | None  # the cached snapshot, if there is one
    etags: Mapping[str, str] = field(
        default_factory=dict
    )  # path -> ETag, of files that may be cached
    gated: bool = False
    notes: tuple[str, ...] = ()


@frozen_record
class HubRequest:
    """A request for a repository, for error messages. `authorized`: with a token."""

    repo_id: str
    revision: str | None
    endpoint: str
    authorized: bool
    gated: bool = False
    path: str | None = None
    revisions: tuple[str, ...] = ()  # the repository's revisions, if known

    @property
    def page(self) -> str:
        return f"{self.endpoint}/{self.repo_id}"


class HubSource:
    waits = True

    def __init__(self, ref: HubRef, options: SourceOptions | None = None) -> None:
        constants = surroundings.constants()
        self._ref, self._options = ref, options or SourceOptions()
        self._endpoint = endpoint(ref.endpoint or constants.ENDPOINT)
        self._offline: bool = self._options.offline or constants.HF_HUB_OFFLINE
        self._client: Client | None = None
        self._loaded_listing: _Listing | None = None
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        return self._ref.repo_id

    @property
    def revision(self) -> str | None:
        return self._listing().commit

    @property
    def notes(self) -> tuple[str, ...]:
        return self._listing().notes

    def list(self) -> tuple[SourceFile, ...]:
        ref, where = self._ref, self._where()
        entries = tuple(SourceFile(*item) for item in self._listing().sizes.items())
        if ref.subfolder is not None:
            entries = select.folder(entries, ref.subfolder, where)
        if ref.filename is not None:
            entries = select.file(entries, ref.filename, where)
        if ref.quant is not None:
            entries = select.quantization(entries, ref.quant, where)
        return entries

    def read(self, path: str, start: int, stop: int) -> bytes:
        full = inside(path if self._ref.subfolder is None else f"{self._ref.subfolder}/{path}")
        listing = self._listing()
        cached = self._read_cached(listing, full, ByteRange(start, stop))
        if cached is not None:
            return cached
        if self._client is None:
            absent = sentence("uncached", name=full)
            why, offline = about(self._where(), absent), sentence("uncached.offline", absent=absent)
            raise AwayError(offline, why=why, where=self._where())
        if full not in listing.sizes:
            raise NotFoundError(sentence("no_file", where=self._where(), name=full))
        size = listing.sizes[full]
        wanted = _range_to_request(ByteRange(start, stop), size)
        data = self._fetch(self._client, listing, full, wanted)
        if size is not None:
            self._check_length(full, data, size if wanted is None else wanted.stop - wanted.start)
        if len(data) == size and full in listing.etags:
            self._store_in_cache(listing, full, data)
        return data

    def _check_length(self, path: str, data: bytes, count: int) -> None:
        """Check that the data of a file have `count` bytes, as the listing states; raise HubError
        if not."""
        if len(data) != count:
            line = sentence("hub.short", path=path, size=len(data), listed=count)
            raise HubError(line, where=self._where())

    def _read_cached(self, listing: _Listing, path: str, wanted: ByteRange) -> bytes | None:
        """Return a file's bytes from the cache; None if it is missing, or small and damaged, which
        deletes it. Raises BadFileError for a damaged one offline."""
        if listing.snapshot is None or not listing.snapshot.holds(path):
            return None
        data, place = listing.snapshot.read(path, *wanted), listing.snapshot.place(path)
        small = path.endswith(cache.SMALL) and wanted.start == 0
        if not small or len(data) != place.stat().st_size or not cache.is_damaged(place, data):
            return data
        if self._client is None:
            why = "this file of the Hub's cache is damaged; delete it, and ask with a network"
            raise BadFileError(f"{place}: {why}")
        cache.forget(place)
        return None

    def _store_in_cache(self, listing: _Listing, path: str, data: bytes) -> None:
        """Cache a complete file, unless it comes from a mirror that only a pasted URL names, which
        is not trusted."""
        if listing.commit is not None and self._ref.endpoint is None:
            revision = cache.Revision(self._ref.revision or "main", listing.commit)
            cache.keep(self._cache(self._ref.repo_id), revision, path, listing.etags[path], data)

    def _fetch(
        self, client: Client, listing: _Listing, path: str, wanted: ByteRange | None
    ) -> bytes:
        if wanted is not None and wanted.start == wanted.stop:
            return b""
        commit = quote(listing.commit or self._ref.revision or "main", safe="")
        url = f"{self._endpoint}/{listing.repo_id}/resolve/{commit}/{quote(path)}"
        size = listing.sizes[path]
        try:
            return client.get(url, limit=MAX_READ if size is None else size, wanted=wanted).data
        except RefusedAnswerError as refused:
            asked = replace(self._asked(client), path=path, gated=listing.gated)
            raise explain(refused, asked) from None
        except UnreachableError as error:
            where = f"{self._where()}: {path}"
            raise AwayError(error.what, where=where, then=sentence("later")) from None

    def _where(self) -> str:
        ref = self._ref
        return ref.repo_id if ref.revision is None else f"{ref.repo_id}@{ref.revision}"

    def _asked(self, client: Client) -> HubRequest:
        return HubRequest(
            repo_id=self._ref.repo_id,
            revision=self._ref.revision,
            endpoint=self._endpoint,
            authorized=client.authorized,
        )

    # The listing.

    def _listing(self) -> _Listing:
        with self._lock:
            if self._loaded_listing is None:
                self._loaded_listing = (
                    self._cached_listing() if self._offline else self._online_listing()
                )
            return self._loaded_listing

    def _online_listing(self) -> _Listing:
        token = self._options.token
        if token is None and self._ref.endpoint is not None:
            client = Client(
                token=False, silence=self._options.silence
            )  # a mirror that only a pasted URL names
        else:
            client = Client(token=token, silence=self._options.silence)
        revision = self._ref.revision
        below = "" if revision is None else f"/revision/{quote(revision, safe='')}"
        url = f"{self._endpoint}/api/models/{self._ref.repo_id}"
        try:
            answer = client.get(f"{url}{below}?blobs=true", limit=MAX_LISTING)
        except RefusedAnswerError as refused:
            raise self._refusal_error(refused, client, url) from None
        except UnreachableError as error:
            return self._cached_listing(error)
        self._client = client
        return self._read_listing(answer.data)

    def _read_listing(self, data: bytes) -> _Listing:
        try:
            info = strict_object(data, MAX_LISTING)
            sizes = dict(_listed_files(info))
            repo_id, commit = _identity(info, self._ref.repo_id)
        except BadFileError as error:
            raise HubError(
                sentence("hub.no_hub", address=self._endpoint, why=error.line), where=self._where()
            ) from None
        moved = (f"{self._ref.repo_id} is now {repo_id}",) if repo_id != self._ref.repo_id else ()
        return _Listing(
            repo_id=repo_id,
            commit=commit,
            sizes=sizes,
            snapshot=self._snapshot(repo_id, commit),
            etags=dict(_etags(info["siblings"])),
            gated=bool(info.get("gated")),
            notes=moved,
        )

    def _snapshot(self, repo_id: str, commit: str | None) -> LocalSource | None:
        """Return the cached snapshot of a commit, under the user's id or the repository's current
        one; None without one."""
        if commit is None:
            return None
        folders = (self._cache(self._ref.repo_id), self._cache(repo_id))
        path = next((p for folder in folders if (p := cache.snapshot(folder, commit))), None)
        return None if path is None else LocalSource(path)

    def _cache(self, repo_id: str) -> Path:
        folder = self._options.cache_dir
        root = cache.default_dir() if folder is None else Path(folder).expanduser()
        return cache.repository(root, repo_id)

    def _cached_listing(self, failure: UnreachableError | None = None) -> _Listing:
        folder = self._cache(self._ref.repo_id)
        commit = cache.commit_of(folder, self._ref.revision or "main")
        path = cache.snapshot(folder, commit)
        if path is None and failure is not None:
            why = about(self._where(), failure.what)
            raise AwayError(sentence("away", why=failure.what), why=why, where=self._where())
        if path is None:
            absent = sentence("not_cached", name=self._where(), path=str(folder.parent))
            raise AwayError(sentence("offline", absent=absent, repo=self._ref.repo_id), why=absent)
        snapshot = LocalSource(path)
        note = f"{failure}; read from the cache, commit {path.name[:12]}" if failure else ""
        return _Listing(
            repo_id=self._ref.repo_id,
            commit=commit,
            sizes={entry.path: entry.size for entry in snapshot.list()},
            snapshot=snapshot,
            notes=(note,) if note else (),
        )

    def _refusal_error(
        self, refused: RefusedAnswerError, client: Client, url: str
    ) -> WeighbridgeError:
        asked = self._asked(client)
        if refused.reason == "RevisionNotFound":
            asked = replace(asked, revisions=_revisions(client, url))
        return explain(refused, asked)


def _range_to_request(asked: ByteRange, size: int | None) -> ByteRange | None:
    """Return the byte range to request; None to request a small file completely."""
    if size is None:
        return asked
    first, last = span(asked.start, asked.stop, size)
    return None if 0 < last - first == size <= WHOLE else ByteRange(first, last)


def _identity(info: Mapping[str, Any], asked: str) -> tuple[str, str | None]:
    """Return (id, commit) of the API's response, checked, since both are printed and become parts
    of addresses and paths."""
    repo_id, commit = info.get("id"), info.get("sha")
    try:
        name = asked if repo_id is None else check_repo_id(repo_id)
    except (UsageError, TypeError):
        raise BadFileError(sentence("hub.id", value=shown(repo_id))) from None
    if commit is not None and not (isinstance(commit, str) and cache.COMMIT.fullmatch(commit)):
        raise BadFileError(sentence("hub.sha", value=shown(commit)))
    return name, commit


def _listed_files(info: Mapping[str, Any]) -> Iterator[tuple[str, int | None]]:
    """Yield (path, size) of each file in the API's response; size is None if unknown. Raises
    BadFileError."""
    siblings = info.get("siblings")
    if not isinstance(siblings, list):
        raise BadFileError(sentence("hub.siblings"))
    if len(siblings) > MAX_ENTRIES:
        raise BadFileError(sentence("hub.many", count=len(siblings), most=MAX_ENTRIES))
    for sibling in siblings:
        path = sibling.get("rfilename") if isinstance(sibling, dict) else None
        if not isinstance(path, str):
            raise BadFileError(f"siblings holds {shown(sibling)}")
        size = sibling.get("size")
        yield inside(path), size if type(size) is int and size >= 0 else None


def _etags(siblings: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield (path, ETag) of each small file; the listing has the ETag that the file's address
    returns."""
    for sibling in siblings:
        path, size, lfs = sibling["rfilename"], sibling.get("size"), sibling.get("lfs")
        if not path.endswith(cache.SMALL) or type(size) is not int or not 0 < size <= MOST_KEPT:
            continue
        etag = lfs.get("sha256") if isinstance(lfs, dict) else sibling.get("blobId")
        if isinstance(etag, str) and cache.ETAG.fullmatch(etag):
            yield path, etag


def _revisions(client: Client, url: str) -> tuple[str, ...]:
    """Return up to ten branches and tags of a repository, for an error; () if the Hub does not list
    them."""
    try:
        refs = strict_object(client.get(f"{url}/refs", limit=MIB).data)
    except (HubError, BadFileError):
        return ()
    named = [ref for kind in ("branches", "tags") for ref in refs.get(kind) or ()]
    return tuple(str(ref["name"])[:80] for ref in named[:10] if isinstance(ref, dict))


# ---- Refusals, as they concern the user. The Hub names its reason in X-Error-Code (utils/_http.py
# of huggingface_hub: hf_raise_for_status); a mirror may only give a status. Without a login it
# answers 401 for a repository that does not exist, as it does for a private one.


def explain(refused: RefusedAnswerError, asked: HubRequest) -> WeighbridgeError:
    reader = REASONS.get(refused.reason) or STATUSES.get(refused.status, _other_error)
    return reader(refused, asked)


def _gated_error(refused: RefusedAnswerError, asked: HubRequest) -> WeighbridgeError:
    licence = sentence("gated", repo=asked.repo_id, place=asked.page)
    then = sentence("no_access") if asked.authorized else sentence("then_login", login=login())
    return GatedError(licence, then=then)


def _no_repository_error(refused: RefusedAnswerError, asked: HubRequest) -> WeighbridgeError:
    kind = NotFoundError if refused.status == 404 else HubError
    line = sentence("no_repository_spelling", name=asked.repo_id, place=asked.endpoint)
    return kind(line, then="" if asked.authorized else sentence("if_private", login=login()))


def _no_revision_error(refused: RefusedAnswerError, asked: HubRequest) -> WeighbridgeError:
    absent = sentence("no_main", repo=asked.repo_id)
    if asked.revision is not None:
        absent = sentence("no_revision", repo=asked.repo_id, revision=asked.revision)
    names = ", ".join(asked.revisions)
    return NotFoundError(absent, then=sentence("it_has", names=names) if names else "")


def _no_file_error(refused: RefusedAnswerError, asked: HubRequest) -> WeighbridgeError:
    return NotFoundError(sentence("listed", page=asked.page, path=asked.path))


def _denied_error(refused: RefusedAnswerError, asked: HubRequest) -> WeighbridgeError:
    if asked.gated:
        return _gated_error(refused, asked)
    status = f"{refused.status} ({refused.detail})" if refused.detail else str(refused.status)
    who = {"place": asked.endpoint, "repo": asked.repo_id, "page": asked.page, "login": login()}
    return HubError(sentence("denied", status=status, **who))


def _absent_error(refused: RefusedAnswerError, asked: HubRequest) -> WeighbridgeError:
    if asked.path is not None:
        return _no_file_error(refused, asked)
    named = {"name": asked.repo_id, "place": asked.endpoint}
    if asked.revision is None:
        return NotFoundError(sentence("no_repository", **named))
    return NotFoundError(sentence("no_repository_at", revision=asked.revision, **named))


def _other_error(refused: RefusedAnswerError, asked: HubRequest) -> WeighbridgeError:
    detail = f": {refused.detail}" if refused.detail else ""
    return HubError(sentence("answer", page=asked.page, status=f"{refused.status}{detail}"))


Reader = Callable[[RefusedAnswerError, HubRequest], WeighbridgeError]
REASONS: dict[str, Reader] = {
    "GatedRepo": _gated_error,
    "RepoNotFound": _no_repository_error,
    "RevisionNotFound": _no_revision_error,
    "EntryNotFound": _no_file_error,
}
STATUSES: dict[int, Reader] = {
    401: _denied_error,
    403: _denied_error,
    404: _absent_error,
    410: _absent_error,
}
