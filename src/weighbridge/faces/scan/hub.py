"""The models that a Hub lists, and the config of each.

    hub:author=acme&filter=text-generation&sort=downloads&limit=1000

After `hub:` come parameters of /api/models. Each config is fetched once and kept by id and revision
in an SQLite file, so an interrupted scan continues where it was. All threads share one budget of
requests. The Hub counts each config that is fetched as a download of its model.
"""

import json
import re
import sqlite3
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

from weighbridge.base.canonical import public
from weighbridge.base.errors import BadFileError, HubError, UsageError
from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import sentence
from weighbridge.base.units import MIB
from weighbridge.base.wording import one_line, shown, unsecret
from weighbridge.faces.scan.registered import CONFIG, RegisteredModel, parsed
from weighbridge.faces.scan.registry import SCHEME
from weighbridge.models.formats.strict_json import MAX_CONFIG, strict_json
from weighbridge.models.sources import surroundings
from weighbridge.models.sources.budget import RequestBudget
from weighbridge.models.sources.http import Client, RefusedAnswerError
from weighbridge.models.sources.reference import check_repo_id

FILTERS = ("author", "search", "filter", "sort", "limit")
PAGE = 1000  # most models of one response
MAX_PAGE = 256 * MIB  # most bytes of one response, with the names of all files
THREADS = 8
AHEAD = 8 * THREADS  # most configs in flight
MOST_FAILED = 50  # failures in a row after which the scan ends
COMMIT = re.compile(r"[0-9a-f]{40}")
NEXT = re.compile(r'<([^<>]+)>\s*;\s*rel="next"')
KEPT = "create table if not exists kept (id text, sha text, config blob, primary key (id, sha))"


class ListedModel(NamedTuple):
    """One model of a Hub's listing."""

    id: str
    sha: str
    downloads: int | None
    gated: bool
    has_config: bool

    @property
    def known(self) -> RegisteredModel:
        return RegisteredModel(self.id, self.sha, self.downloads, None)


def models(source: str, file: Path) -> Iterator[RegisteredModel]:
    """Yield the models that a SOURCE of `hub:` selects; `file` keeps the fetched configs.

    Raises:
        weighbridge.UsageError: the SOURCE has something other than filters.
        weighbridge.HubError: the Hub does not answer, or not as a Hub does.
    """
    if surroundings.constants().HF_HUB_OFFLINE:
        raise HubError(sentence("offline_mode"), where=source)
    asked = filters(source)
    endpoint: str = surroundings.constants().ENDPOINT
    store = FetchedConfigs(file)
    try:
        yield from _with_configs(_ConfigFetcher(endpoint), _listed_models(endpoint, asked), store)
    finally:
        store.close()


def of_listing(rows: Iterable[Any], file: Path) -> Iterator[RegisteredModel]:
    """Yield the models of `rows` in the form of a Hub's listing; their configs are fetched as by
    `models`. A row of another form yields a model with the reason in `unread`.

    Raises:
        weighbridge.HubError: the Hub does not answer.
    """
    strange: list[RegisteredModel] = []

    def entries() -> Iterator[ListedModel]:
        for row in rows:
            try:
                yield _entry(row)
            except BadFileError as error:
                strange.append(RegisteredModel(row["id"], None, None, None, str(error)))

    if surroundings.constants().HF_HUB_OFFLINE:
        raise HubError(sentence("offline_mode.listing"))
    store = FetchedConfigs(file)
    try:
        yield from _with_configs(
            _ConfigFetcher(surroundings.constants().ENDPOINT), entries(), store
        )
    finally:
        store.close()
    yield from strange


def filters(source: str) -> dict[str, list[str]]:
    """Return parameter -> values, for the filters of a SOURCE of `hub:`. Raises UsageError for
    unknown ones, a wrong limit or none."""
    values: dict[str, list[str]] = {}
    for name, value in parse_qsl(source.removeprefix(SCHEME), keep_blank_values=True):
        if name not in FILTERS or not value:
            raise UsageError(
                sentence("scan.selects", name=shown(name), known=", ".join(FILTERS)),
                where=shown(source),
            )
        values.setdefault(name, []).append(value)
    limit = values.get("limit", ["1"])
    if len(limit) > 1 or not limit[0].isdecimal() or int(limit[0]) < 1:
        raise UsageError(sentence("scan.whole_limit"), where=shown(source))
    if not values:
        raise UsageError(
            sentence("scan.whole_hub", known=", ".join(FILTERS[:3])), where=shown(source)
        )
    return values


class FetchedConfigs:
    """An SQLite store of fetched configs by (id, revision), without secrets; null if the repository
    has none. One thread writes, and stores each config before it takes the next."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._open = sqlite3.connect(path, isolation_level=None)
            self._open.execute("pragma journal_mode = wal")
            self._open.execute("pragma synchronous = normal")
            self._open.execute(KEPT)
        except sqlite3.DatabaseError as error:
            raise BadFileError(sentence("scan.no_store", why=str(error)), where=str(path)) from None

    def get(self, model: ListedModel) -> tuple[bytes | None] | None:
        """Return (its config,), with None for a repository without one; None if it was never
        fetched."""
        asked = "select config from kept where id = ? and sha = ?"
        row: tuple[bytes | None] | None = self._open.execute(asked, model[:2]).fetchone()
        return row

    def put(self, model: ListedModel, config: bytes | None) -> None:
        self._open.execute("insert or replace into kept values (?, ?, ?)", (*model[:2], config))

    def close(self) -> None:
        self._open.close()


class _ConfigFetcher:
    """A fetcher of configs from a Hub."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._client = Client(token=None, budget=RequestBudget())
        self.authorized = self._client.authorized

    def config(self, model: ListedModel) -> bytes | None:
        """Return a model's config; None if the repository has none. Raises HubError."""
        url = f"{self._endpoint}/{quote(model.id)}/resolve/{model.sha}/{CONFIG}"
        try:
            return self._client.get(url, limit=MAX_CONFIG).data
        except RefusedAnswerError as refused:
            if refused.status == 404:
                return None
            raise


def _with_configs(
    files: _ConfigFetcher, listed: Iterator[ListedModel], store: FetchedConfigs
) -> Iterator[RegisteredModel]:
    """Yield models in the order of the listing, with up to AHEAD configs in flight."""
    waiting: deque[tuple[ListedModel, Future[bytes | None] | RegisteredModel]] = deque()
    pool = ThreadPoolExecutor(THREADS)
    failed = 0
    try:
        for model in listed:
            known = _known_model(model, store, authorized=files.authorized)
            waiting.append((model, known or pool.submit(files.config, model)))
            if len(waiting) > AHEAD:
                failed = yield from _next_model(waiting, store, failed)
        while waiting:
            failed = yield from _next_model(waiting, store, failed)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _known_model(
    model: ListedModel, store: FetchedConfigs, *, authorized: bool
) -> RegisteredModel | None:
    """Return the model if its config needs no request; None if it must be fetched."""
    if not model.has_config:
        return model.known._replace(unread=f"has no {CONFIG}")
    config = store.get(model)
    if config is not None:
        return _with_config(model, config[0])
    if model.gated and not authorized:
        return model.known._replace(unread="is gated, and nobody is logged in")
    return None


def _next_model(
    waiting: deque[tuple[ListedModel, Future[bytes | None] | RegisteredModel]],
    store: FetchedConfigs,
    failed: int,
) -> Generator[RegisteredModel, None, int]:
    """Yield the first model that waits; return the number of failures in a row."""
    model, coming = waiting.popleft()
    if isinstance(coming, RegisteredModel):
        yield coming
        return failed
    try:
        config = coming.result()
    except RefusedAnswerError as error:
        gated = error.status in (401, 403)
        why = "is gated or private" if gated else f"its config: the answer was {error.status}"
        yield model.known._replace(unread=why)
        return 0
    except HubError as error:
        if failed + 1 >= MOST_FAILED:
            raise error.added(then=sentence("run_again.kept")) from None
        yield model.known._replace(unread=one_line(str(error)))
        return failed + 1
    shared = None if config is None else _without_secrets(config)
    store.put(model, shared)
    yield _with_config(model, shared)
    return 0


def _without_secrets(raw: bytes) -> bytes:
    """Return a config as it may be kept: without secrets, otherwise unchanged."""
    try:
        config = strict_json(raw, constants=True)
        plain = public(config)
    except (BadFileError, RecursionError):  # it is no config, and stays invalid
        return unsecret(raw.decode("latin-1")).encode("latin-1")
    return raw if plain == config else json.dumps(plain).encode()


def _with_config(model: ListedModel, config: bytes | None) -> RegisteredModel:
    if config is None:
        return model.known._replace(unread=f"has no {CONFIG}")
    return parsed(model.known, config)


def _listed_models(endpoint: str, asked: dict[str, list[str]]) -> Iterator[ListedModel]:
    """Yield the models that the listing of a Hub selects, page by page."""
    most = int(asked.get("limit", [str(1 << 62)])[0])
    parameters = {name: values for name, values in asked.items() if name != "limit"}
    parameters = {**parameters, "limit": [str(min(PAGE, most))], "full": ["true"]}
    client = Client(token=None, budget=RequestBudget())
    url: str | None = f"{endpoint}/api/models?{urlencode(parameters, doseq=True)}"
    while url is not None and most > 0:
        try:
            answer = client.get(url, limit=MAX_PAGE)
            page = strict_json(answer.data, MAX_PAGE)
            entries = [_entry(row) for row in page] if isinstance(page, list) else None
        except BadFileError as error:
            raise HubError(sentence("scan.no_hub", why=str(error)), where=endpoint) from None
        if entries is None:
            raise HubError(sentence("scan.no_listing"), where=endpoint)
        yield from entries[:most]
        most -= len(entries)
        url = _next_page(answer.link, endpoint) if entries else None


def _next_page(link: str, endpoint: str) -> str | None:
    """Return the address of the next page; None on the last one. It must be of this Hub, as a token
    goes with the request."""
    match = NEXT.search(link)
    if match is None:
        return None
    if not match[1].startswith(f"{endpoint}/api/models?"):
        raise HubError(sentence("scan.elsewhere", address=shown(match[1])), where=endpoint)
    return match[1]


def _entry(row: Any) -> ListedModel:
    """Return a model of the listing from its row. Raises BadFileError for another form."""
    try:
        name, sha, downloads = check_repo_id(row["id"]), row["sha"], row.get("downloads")
        names = {sibling["rfilename"] for sibling in row["siblings"]}
    except (UsageError, TypeError, KeyError, AttributeError):
        raise BadFileError(f"it lists {shown(row)}") from None
    if not (isinstance(sha, str) and COMMIT.fullmatch(sha)):
        raise BadFileError(sentence("hub.sha", value=shown(sha)), where=name)
    count = downloads if type(downloads) is int and 0 <= downloads < 1 << 63 else None
    gated = row.get("gated") not in (
        None,
        False,
        "False",
        "false",
    )  # Parquet has text in place of a bool
    return ListedModel(name, sha, count, gated, CONFIG in names)
