"""Everything that can go wrong, and the exit code of each.

    WeighbridgeError
    ├── UsageError (2)            a flag, a name or a combination of settings that means nothing
    │   ├── NotFoundError         no such file, repository, revision, catalogue name or GPU
    │   └── UnsupportedError      understood, and not something that we can answer (yet)
    ├── BadFileError (2)          a file or config that is cut, contradictory or hostile
    ├── HubError (3)              the Hub (or a URL) refuses or cannot be reached
    │   ├── GatedError            ... until the user has accepted a licence or logged in
    │   └── AwayError             nobody answers: no network, a Hub in trouble, or --offline
    └── OutOfMemoryError (1)      a replayed allocator has no room; a program that is traced sees
                                  torch.OutOfMemoryError, as on a GPU, in the same words

Every message is one line: what was found, where, and what to do next.
"""

from typing import Any


class WeighbridgeError(Exception):
    """Base of all our errors; `code` is the exit code of the command line."""

    code = 2


class UsageError(WeighbridgeError):
    pass


class NotFoundError(UsageError):
    pass


class UnsupportedError(UsageError):
    pass


class BadFileError(WeighbridgeError):
    pass


class HubError(WeighbridgeError):
    code = 3


class GatedError(HubError):
    pass


class AwayError(HubError):
    pass


class OutOfMemoryError(WeighbridgeError):
    """`report` is the OutOfMemory of weighbridge.allocator: what was asked, and what there was."""

    code = 1

    def __init__(self, report: Any) -> None:
        super().__init__(report.message)
        self.report = report
