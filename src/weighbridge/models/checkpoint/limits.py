"""Limits on what the headers of all files of a model hold together."""

from collections.abc import Callable
from typing import TypeVar

from weighbridge.base.errors import BadFileError
from weighbridge.base.records import dataclass
from weighbridge.models.formats import Plan

T = TypeVar("T")
MAX_TENSORS = 250_000  # a mixture of 384 experts in packed layers has 207,000
MAX_HEADERS = 96_000_000  # and 27 MB of headers
OF_ALL = "the headers of its files"


@dataclass
class Bound:
    """Limits on what the headers of all files hold together: no model has more than our limits,
    where each file alone may be within those of its format."""

    header_bytes: int = 0
    tensors: int = 0

    def keep(self, plan: Plan[T], count: Callable[[T], int]) -> Plan[T]:
        """Run `plan` within the limits: BadFileError where what it reads passes one."""
        wanted = next(plan)
        while True:
            data = yield wanted
            self.header_bytes += len(data)
            if self.header_bytes > MAX_HEADERS:
                raise BadFileError(f"{OF_ALL} take more than {MAX_HEADERS:,} bytes, our limit")
            try:
                wanted = plan.send(data)
            except StopIteration as done:
                parsed: T = done.value
                break
        self.tensors += count(parsed)
        if self.tensors > MAX_TENSORS:
            raise BadFileError(f"{OF_ALL} name more than {MAX_TENSORS:,} tensors, our limit")
        return parsed
