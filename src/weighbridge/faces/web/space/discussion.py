"""The answer as a discussion on the model's page, with the user's token, once per revision.

    draft = discussion.draft("org/name", COMMIT, markdown)     the text to preview
    discussion.post(draft, token) -> Posted(url, already)      posts it, or finds it there

The text ends with a mark that holds the revision. Before posting, the page's discussions, open and
closed, are searched for that mark, so it is there once whoever posted it. Source of the calls and
their answers: huggingface_hub 2.4, hf_api.py.
"""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

from weighbridge.base.errors import GatedError, HubError, NotFoundError, UsageError
from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import sentence
from weighbridge.base.wording import clipped, one_line, shown
from weighbridge.models.sources.answers import within
from weighbridge.models.sources.reference import check_repo_id

if TYPE_CHECKING:
    from huggingface_hub import HfApi

TITLE = "Memory to run this model, by weighbridge"
FOOT = (
    "Posted by a user of [weighbridge](https://pypi.org/project/weighbridge/), which read the "
    "headers of the files at revision `{revision}`. An estimate, with its range; corrections are "
    "welcome."
)
MARK = "<!-- weighbridge: memory of {revision} -->"
MOST_TEXT = 60_000  # most characters of a discussion
MOST_LISTED = 5_000  # most discussions of one page that are listed
SECONDS = 45  # seconds for searching, posting and reading it back
MOST_READ = 64  # most discussions that are searched for the mark
COMMIT = re.compile(r"[0-9a-f]{40}")
RIGHTS = (
    "make one that may write in discussions (of the kind 'write', or fine-grained with that right) "
    "at https://huggingface.co/settings/tokens"
)

_turn = threading.Lock()  # lock, so that two clicks do not both post


class Draft(NamedTuple):
    """A discussion before it is posted: its repository and revision, its title and text."""

    repo_id: str
    revision: str
    title: str
    text: str


class Posted(NamedTuple):
    """The address of a discussion. `already`: it existed before, and nothing was posted."""

    url: str
    already: bool


def draft(repo_id: str, revision: str, markdown: str) -> Draft:
    """Return `markdown` as a discussion to post. Raises UsageError if `revision` is not a
    commit."""
    check_repo_id(repo_id)
    if not COMMIT.fullmatch(revision):
        raise UsageError(sentence("post.no_commit", revision=shown(revision)))
    foot = f"{FOOT.format(revision=revision[:12])}\n\n{MARK.format(revision=revision)}\n"
    body = _without_mentions(clipped(markdown.strip(), MOST_TEXT - len(foot)))
    return Draft(repo_id, revision, TITLE, f"{body}\n\n---\n{foot}")


def post(what: Draft, token: str) -> Posted:
    """Post a discussion, or find the one already posted for its revision, and return the address.
    Raises HubError, or UsageError."""
    _check(what, token)
    if not _turn.acquire(timeout=SECONDS):
        raise HubError(sentence("post.under_way"), where=what.repo_id)
    try:
        with _readable_errors(what.repo_id):
            return within(SECONDS, lambda: _post_once(what, token.strip()))
    finally:
        _turn.release()


def _post_once(what: Draft, token: str) -> Posted:
    from huggingface_hub import HfApi

    hub = HfApi(token=token, library_name="weighbridge")
    earlier = _find_earlier(hub, what)
    if earlier is not None:
        return Posted(earlier, already=True)
    try:
        posted = hub.create_discussion(what.repo_id, what.title, description=what.text)
    except Exception:  # an error after posting, so the discussion may exist
        earlier = _find_earlier(hub, what)
        if earlier is None:
            raise
        return Posted(earlier, already=False)
    return Posted(posted.url, already=False)


def _check(what: Draft, token: str) -> None:
    check_repo_id(what.repo_id)
    if not COMMIT.fullmatch(what.revision) or MARK.format(revision=what.revision) not in what.text:
        raise UsageError(sentence("post.no_revision"))
    if not (token.strip() and token.isascii() and token.isprintable()):
        raise UsageError(sentence("post.bad_token"))


def _without_mentions(text: str) -> str:
    """Return `text` with "@" outside of code escaped, since @NAME would notify that user."""
    lines, fence = [], ""
    for line in text.splitlines():
        opened = re.match(r"`{3,}", line)
        if opened and not fence:
            fence = opened[0]
        elif fence and line.strip() == fence:
            fence = ""
        elif not fence:
            line = re.sub(r"@(?=\w)", "&#64;", line)
        lines.append(line)
    return "\n".join(lines)


def _find_earlier(hub: "HfApi", what: Draft) -> str | None:
    """Return the address of a discussion with the mark of the draft's revision; None without
    one."""
    mark = MARK.format(revision=what.revision)
    for num, url in islice(_candidates(hub, what), MOST_READ):
        details = hub.get_discussion_details(what.repo_id, num)
        if any(mark in (getattr(event, "content", None) or "") for event in details.events):
            return url
    return None


def _candidates(hub: "HfApi", what: Draft) -> Iterator[tuple[int, str]]:
    """Yield (number, address) of discussions that may have the mark: with the draft's title, or
    written by this user, since an owner may have changed a title."""
    me = str(hub.whoami().get("name", ""))
    listed = hub.get_repo_discussions(what.repo_id, discussion_type="discussion")
    for count, discussion in enumerate(listed):
        if count >= MOST_LISTED:
            raise HubError(sentence("post.many", name=what.repo_id, most=MOST_LISTED))
        if discussion.title.strip() == what.title or discussion.author == me:
            yield discussion.num, discussion.url


@contextmanager
def _readable_errors(repo_id: str) -> Iterator[None]:
    """Turn an error of the Hub in this block into one line with advice, without the token."""
    from huggingface_hub import errors

    try:
        yield
    except errors.HfHubHTTPError as error:
        raise _refusal_error(repo_id, error) from None
    except (errors.HTTPError, OSError) as error:
        raise HubError(
            sentence("post.unreached", why=type(error).__name__), where=repo_id
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise HubError(sentence("post.no_hub", why=type(error).__name__), where=repo_id) from None


def _refusal_error(repo_id: str, error: Any) -> HubError | UsageError:
    status = getattr(error.response, "status_code", 0)
    reason = str(getattr(error, "server_message", "") or "")
    ending = f" ({clipped(one_line(reason), 80)})" if reason else ""
    if status == 401:
        return GatedError(f"{repo_id}: the Hub does not know this token{ending}: {RIGHTS}")
    if status == 403 and re.search(r"disabled", reason, re.IGNORECASE):
        return HubError(
            f"{repo_id}: its owner has switched discussions off{ending}: nothing was posted; copy "
            "the Markdown instead"
        )
    if status == 403:
        return GatedError(f"{repo_id}: this token may not post there{ending}: {RIGHTS}")
    if status == 404:
        return NotFoundError(f"{repo_id}: no such repository, or not for this token: {RIGHTS}")
    if status == 429:
        return HubError(f"{repo_id}: the Hub takes no more from this user now: wait some minutes")
    return HubError(f"{repo_id}: the Hub answers {status}{ending}: try again later")
