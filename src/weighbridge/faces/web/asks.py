"""Keys of an ask (a question that the page sends) besides its request: how to show the answer, and
a token for the Hub."""

from collections.abc import Iterator
from typing import Any

from weighbridge.base.errors import UsageError
from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import sentence
from weighbridge.base.units import SHOWN
from weighbridge.base.wording import shown
from weighbridge.base.words import LANGUAGES
from weighbridge.faces.view.records import RenderOptions

LONGEST_TOKEN = 1024  # most characters; the Hub's tokens have some 40
SHORTEST = 8  # characters of a token that is masked in answers: a shorter one may be a common word
MASK = "***"


class AnswerView(NamedTuple):
    """How an answer is shown: language, unit, details, and which parts come with it."""

    lang: str = "en"
    unit: str | None = None
    details: bool = False
    explain: bool = False
    svg: bool = False  # whether a picture comes with the answer
    parts: bool = False  # whether parts of the answer come first, as they become known

    @property
    def look(self) -> RenderOptions:
        """Return the view as `RenderOptions`, which renderers take."""
        return RenderOptions(self.unit, self.details, self.explain, self.lang)


def view_of(view: Any) -> AnswerView:
    """Return the view of an ask, the default for None. Raises UsageError for an unknown key or a
    wrong value."""
    if view is None:
        return AnswerView()
    if not isinstance(view, dict):
        raise UsageError(sentence("view.object", value=shown(view)))
    unknown = sorted(view.keys() - set(AnswerView._fields))
    if unknown:
        raise UsageError(
            sentence("view.unknown", name=shown(unknown[0]), known=", ".join(AnswerView._fields))
        )
    choices = {name: value for name, value in view.items() if value is not None}
    one_of("view.lang", choices.get("lang", "en"), LANGUAGES)
    one_of("view.unit", choices.get("unit", SHOWN[0]), SHOWN)
    for name in ("details", "explain", "svg", "parts"):
        if not isinstance(choices.get(name, False), bool):
            raise UsageError(sentence("is_bool", name=f"view.{name}", value=shown(choices[name])))
    return AnswerView(**choices)


def one_of(name: str, value: Any, known: tuple[str, ...]) -> None:
    """Check that `value` is among `known`; raise UsageError if not. `name` is the key of the ask in
    the message."""
    if value not in known:
        names = ", ".join(known)
        raise UsageError(sentence("is_one_of", name=name, known=names, value=shown(value)))


def taken_token(ask: dict[str, Any]) -> str | None:
    """Remove the Hub token from an ask and the requests within it, and return it; None without one.
    Raises UsageError for one that is no text or too long."""
    tokens = [request.pop("token") for request in requests_in(ask) if "token" in request]
    typed = [token for token in tokens if token is not None and token != ""]
    if not typed:
        return None
    token = typed[0]
    if not isinstance(token, str) or len(token) > LONGEST_TOKEN:
        raise UsageError(sentence("token.text", most=LONGEST_TOKEN))
    return token


def requests_in(ask: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield an ask, and the requests inside an export or a comparison."""
    yield ask
    for inner in (ask.get("of"), *_as_list(ask.get("asks"))):
        if isinstance(inner, dict):
            yield from requests_in(inner)


def _as_list(asks: Any) -> list[Any]:
    return asks if isinstance(asks, list) else []


def masked(value: Any, token: str | None) -> Any:
    """Return `value` with "***" in place of the token, wherever an answer or a message contains
    it."""
    if token is None or len(token) < SHORTEST:
        return value
    if isinstance(value, str):
        return value.replace(token, MASK) if token in value else value
    if isinstance(value, dict):
        return {masked(name, token): masked(inner, token) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [masked(inner, token) for inner in value]
    return value
