"""Advice where a program stopped: one line for the commonest first errors of a repository."""

from collections.abc import Iterator

from weighbridge.base.sentences import Sentence, sentence
from weighbridge_lab.trace.patches.outside import NoNetworkError

USAGE = 2  # exit code of argparse


def advice(error: BaseException) -> Sentence | str:
    """Return what to do next; "" where nobody can say."""
    if isinstance(error, SystemExit):
        return sentence("trace.next.arguments") if error.code == USAGE else ""
    causes = list(_causes(error))
    asked = next((one for one in causes if isinstance(one, NoNetworkError)), None)
    if asked is not None:
        return sentence("trace.next.network", host=asked.host)
    return next(filter(None, map(_of, causes)), "")


def _of(cause: BaseException) -> Sentence | str:
    if isinstance(cause, ModuleNotFoundError) and cause.name:
        return sentence("trace.next.package", package=cause.name.partition(".")[0])
    if isinstance(cause, FileNotFoundError) or "Dataset not found" in str(cause):
        return sentence("trace.next.data")
    if isinstance(cause, KeyError) and cause.args and str(cause.args[0]).isupper():
        return sentence("trace.next.variable", name=str(cause.args[0])[:80])
    return ""


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
