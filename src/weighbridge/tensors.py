"""The one record that formats produce and everything else reads: a tensor as a file stores it."""

from typing import NamedTuple

from weighbridge.dtypes import DType


class Tensor(NamedTuple):  # not a frozen dataclass: half the cost, and there may be 100,000
    """`nbytes` is what the file says it takes, checked against dtype and shape by its format."""

    name: str
    dtype: DType
    shape: tuple[int, ...]
    nbytes: int
    file: str = ""
