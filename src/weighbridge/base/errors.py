"""Everything that can go wrong, and the exit code of each.

    WeighbridgeError
    ├── UsageError (2)            a flag, a name or a combination of settings that means nothing
    │   ├── NoCardError           nobody named an accelerator where one is needed
    │   ├── NotFoundError         no such file, repository, revision, catalogue name or GPU
    │   ├── ContradictionError    ... that names a program, and claims nothing of what it does
    │   ├── TriedError            a program refuses it, in words of its own that were seen
    │   └── UnsupportedError      understood, and not something that we can answer (yet)
    │       ├── NotServedError    ... by one engine; another may
    │       └── ReleaseError      ... of a release that is older than the model's class
    ├── BadFileError (2)          a file or config that is cut, contradictory or hostile
    ├── HubError (3)              the Hub (or a URL) refuses or cannot be reached
    │   ├── GatedError            ... until the user has accepted a licence or logged in
    │   └── AwayError             nobody answers: no network, a Hub in trouble, or --offline
    └── OutOfMemoryError (1)      a replayed allocator has no room; a program that is traced sees
                                  torch.OutOfMemoryError, as on a GPU, in the same words

An error has fields: `what` was found, `where`, and what to do `then`. Its message is one line of at
most 300 characters (`wording.one_line`): "where: what; then". `key` is that of the sentence that
says what (sentences.py). Who decides by an error compares its class, key or field, never words.
What a stranger wrote is shown in part, and without passwords.

A refusal is a claim, and each has a class, `ground`:

    contradiction   what was given contradicts itself, or is no such thing
    tried           a program's own error, by release: `seen` has its words, or where it raises them
    gap             nobody here knows: it says nothing of whether it would run

What somebody read in a source and nobody saw refused is no ground: it warns, and widens the answer.
What physics refuses is answered with a verdict. docs/refusals.md lists them.
"""

from collections.abc import Mapping
from typing import Any, Literal, Self

from weighbridge.base.sentences import Sentence, about, clauses, key_of
from weighbridge.base.wording import one_line

Ground = Literal["contradiction", "tried", "gap", ""]
CODES: Mapping[str, int] = {"yes": 0, "no": 1, "unknown": 4}  # exit codes of verdicts


class WeighbridgeError(Exception):
    """Base of all our errors. `code` is the exit code of the command line; `ground` is the class of
    a refusal, "" if it claims nothing about the question."""

    code = 2
    ground: Ground = ""
    seen = ""  # a program's own words, and where they stand

    def __init__(self, what: object = "", *, where: str = "", then: str = "") -> None:
        self.what = what if isinstance(what, str) else str(what)
        self.where, self.then = where, then
        super().__init__(one_line(self.sentence))

    @property
    def line(self) -> str:
        """Return the message: its sentence, which can be translated, unless something was
        shortened."""
        return self.sentence if self.sentence == str(self) else str(self)

    @property
    def sentence(self) -> str:
        """Return the whole message; its parts keep their keys."""
        return about(self.where, clauses(self.what, self.then) if self.then else self.what)

    def added(self, where: str = "", then: str = "") -> Self:
        """Return the same error with a place before it, and an instruction after it."""
        error = type(self).__new__(type(self))
        vars(error).update(vars(self))
        error.where = ": ".join(filter(None, (where, self.where)))
        error.then = clauses(self.then, then) if then else self.then
        error.args = (one_line(error.sentence),)
        return error

    @property
    def flag(self) -> str:
        """Return the option at the beginning of the message; "" without one."""
        first = str(self).partition(" ")[0].rstrip(":")
        return first if first.startswith("--") else ""

    @property
    def values(self) -> Mapping[str, Any]:
        """Return the values in the sentence on what was found."""
        return self.what.values if isinstance(self.what, Sentence) else {}

    @property
    def key(self) -> str:
        """Return the key of the sentence on what was found; "" without one."""
        return key_of(self.what)


class UsageError(WeighbridgeError):
    ground: Ground = "contradiction"


class ContradictionError(UsageError):
    pass


class TriedError(UsageError):
    """A program's own refusal: `seen` has its message and release, or the place in its source that
    raises it."""

    ground: Ground = "tried"

    def __init__(self, what: object, seen: str) -> None:
        super().__init__(what)
        self.seen = seen


class NoCardError(UsageError):
    pass


class NotFoundError(UsageError):
    pass


class UnsupportedError(UsageError):
    ground: Ground = "gap"


class NotServedError(UnsupportedError):
    """One engine does not read or run a model, by its own rules. Commands for people then try the
    other engines (estimate/refusals.py), unless none can help (`away`: another card, another
    file)."""

    def __init__(
        self, what: str, then: str = "", engine: str = "", *, where: str = "", away: bool = False
    ) -> None:
        super().__init__(what, where=where, then=then)
        self.engine, self.away = engine, away


class ReleaseError(UnsupportedError):
    pass


class BadFileError(WeighbridgeError):
    ground: Ground = "contradiction"


class HubError(WeighbridgeError):
    code = 3


class GatedError(HubError):
    pass


class AwayError(HubError):
    """No response from the Hub; `why`, for callers that can do without."""

    def __init__(
        self, what: object = "", *, why: str = "", where: str = "", then: str = ""
    ) -> None:
        super().__init__(what, where=where, then=then)
        self.why = why or self.sentence


class OutOfMemoryError(WeighbridgeError):
    """A replayed allocator's refusal; `report` (OutOfMemory) has the request and the available
    memory."""

    code = 1

    def __init__(self, report: Any) -> None:
        Exception.__init__(self, report.message)  # torch's own words, whole
        self.report = report
