"""Repositories of the Hub by a name without its owner: one request, for the repositories that the
Hub's search lists.

    GET /api/models?search=NAME&sort=downloads&direction=-1&limit=50

Tags tell the maker of a model from its copies: a copy names its base (`base_model:ORG/NAME`, also
with a word between, such as `base_model:quantized:ORG/NAME`).
"""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

from weighbridge.base.errors import BadFileError, HubError, UsageError
from weighbridge.base.records import NamedTuple
from weighbridge.base.units import MIB
from weighbridge.models.formats.strict_json import strict_json
from weighbridge.models.sources import surroundings
from weighbridge.models.sources.base import SourceOptions
from weighbridge.models.sources.http import Client
from weighbridge.models.sources.reference import check_repo_id

MOST = 50  # most repositories of one response, the most downloaded first
MAX_PAGE = 8 * MIB
BASE = re.compile(r"base_model:(?:[a-z_]+:)?([\w.-]+/[\w.-]+)")


class NamedRepositories(NamedTuple):
    """Repositories that a search lists: those of exactly the searched name, makers before copies,
    and all others."""

    exact: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


def named(name: str, options: SourceOptions) -> NamedRepositories:
    """Return the Hub's repositories called `name`, in upper or lower case; none offline, or if the
    response is not a Hub's."""
    constants = surroundings.constants()
    if options.offline or constants.HF_HUB_OFFLINE:
        return NamedRepositories()
    asked = {"search": name, "sort": "downloads", "direction": "-1", "limit": str(MOST)}
    try:
        client = Client(token=options.token, silence=options.silence)
        url = f"{constants.ENDPOINT}/api/models?{urlencode(asked)}"
        listing = strict_json(client.get(url, limit=MAX_PAGE).data, MAX_PAGE)
    except (HubError, BadFileError):
        return NamedRepositories()
    return _sorted_listing(name.lower(), listing if isinstance(listing, list) else [])


def _sorted_listing(name: str, listing: list[Any]) -> NamedRepositories:
    """Return the repositories of a listing: exact matches of `name` with makers first, and the
    remaining ones."""
    bases: dict[str, list[str]] = {}  # id of a repository -> its bases
    for each in listing:
        if isinstance(each, dict) and (repo_id := _checked_id(each.get("id"))):
            bases[repo_id] = list(_bases(each.get("tags")))
    originals = (b for tagged in bases.values() for b in tagged if _name_of(b) == name)
    exact = [repo_id for repo_id in (*bases, *originals) if _name_of(repo_id) == name]
    first = [one for one in exact if not _is_copy(one, bases.get(one, []))]
    ordered = tuple(dict.fromkeys((*first, *exact)))
    return NamedRepositories(ordered, tuple(one for one in bases if one not in ordered))


def _is_copy(repo_id: str, bases: list[str]) -> bool:
    """Return whether a repository's base is another owner's model with its name."""
    return any(_name_of(base) == _name_of(repo_id) and base != repo_id for base in bases)


def _name_of(repo_id: str) -> str:
    return repo_id.rpartition("/")[2].lower()


def _checked_id(repo_id: Any) -> str:
    """Return a listed id; "" for an invalid one, since it is printed and becomes part of
    addresses."""
    try:
        return check_repo_id(repo_id)
    except (UsageError, TypeError):
        return ""


def _bases(tags: Any) -> Iterator[str]:
    for tag in tags if isinstance(tags, list) else ():
        match = BASE.fullmatch(tag) if isinstance(tag, str) else None
        if match is not None and _checked_id(match[1]):
            yield match[1]
