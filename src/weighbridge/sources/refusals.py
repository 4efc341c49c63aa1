"""What does it mean for the user that the Hub refused?

The Hub names its reason in X-Error-Code (huggingface_hub, utils/_http.py: hf_raise_for_status); a
mirror may only give a status. Without a login it answers 401 for a repository that does not exist,
as it does for a private one.
"""

from collections.abc import Callable
from dataclasses import dataclass

from weighbridge.errors import GatedError, HubError, NotFoundError, WeighbridgeError
from weighbridge.sources.http import RefusedAnswerError
from weighbridge.sources.surroundings import login


@dataclass(frozen=True, slots=True, kw_only=True)
class HubRequest:
    """What we asked for. `authorized` is whether a token went with it."""

    repo_id: str
    revision: str | None
    endpoint: str
    authorized: bool
    gated: bool = False
    path: str | None = None
    revisions: tuple[str, ...] = ()  # that exist, where they are known

    @property
    def page(self) -> str:
        return f"{self.endpoint}/{self.repo_id}"


def explain(refused: RefusedAnswerError, asked: HubRequest) -> WeighbridgeError:
    reader = REASONS.get(refused.reason) or STATUSES.get(refused.status, _other)
    return reader(refused, asked)


def _gated(refused: RefusedAnswerError, asked: HubRequest) -> WeighbridgeError:
    then = (
        f"then {login()}"
        if not asked.authorized
        else "your account has not been given access yet, or the token may not read gated models"
    )
    return GatedError(f"{asked.repo_id} is gated: accept its licence at {asked.page}; {then}")


def _no_repository(refused: RefusedAnswerError, asked: HubRequest) -> WeighbridgeError:
    hint = "" if asked.authorized else f"; if it is private, {login()}"
    message = f"there is no model {asked.repo_id!r} at {asked.endpoint}: check its spelling{hint}"
    return NotFoundError(message) if refused.status == 404 else HubError(message)


def _no_revision(refused: RefusedAnswerError, asked: HubRequest) -> WeighbridgeError:
    held = f"; it has {', '.join(asked.revisions)}" if asked.revisions else ""
    revision = "branch main" if asked.revision is None else f"revision {asked.revision!r}"
    return NotFoundError(f"{asked.repo_id} has no {revision}{held}")


def _no_file(refused: RefusedAnswerError, asked: HubRequest) -> WeighbridgeError:
    return NotFoundError(f"{asked.page} lists {asked.path!r} and does not have it")


def _denied(refused: RefusedAnswerError, asked: HubRequest) -> WeighbridgeError:
    if asked.gated:
        return _gated(refused, asked)
    said = f" ({refused.detail})" if refused.detail else ""
    return HubError(
        f"{asked.endpoint} refuses access to {asked.repo_id} with {refused.status}{said}: if it is "
        f"gated, accept its licence at {asked.page}; {login()} that may read it"
    )


def _absent(refused: RefusedAnswerError, asked: HubRequest) -> WeighbridgeError:
    if asked.path is not None:
        return _no_file(refused, asked)
    revision = "" if asked.revision is None else f" with a revision {asked.revision!r}"
    return NotFoundError(f"there is no model {asked.repo_id!r}{revision} at {asked.endpoint}")


def _other(refused: RefusedAnswerError, asked: HubRequest) -> WeighbridgeError:
    said = f": {refused.detail}" if refused.detail else ""
    return HubError(f"{asked.page}: the answer was {refused.status}{said}")


Reader = Callable[[RefusedAnswerError, HubRequest], WeighbridgeError]
REASONS: dict[str, Reader] = {
    "GatedRepo": _gated,
    "RepoNotFound": _no_repository,
    "RevisionNotFound": _no_revision,
    "EntryNotFound": _no_file,
}
STATUSES: dict[int, Reader] = {401: _denied, 403: _denied, 404: _absent, 410: _absent}
