"""Host memory of a diffusion pipeline: processes, components kept in RAM, pages of mapped files."""

from collections.abc import Iterable

from weighbridge.base.memory import Bytes, Component, Instant
from weighbridge.base.records import NamedTuple
from weighbridge.memory.components import host

LOADED = "diffusers 0.42 models/model_loading_utils.py"


class InRam(NamedTuple):
    """Bytes per process in RAM, what they are, and their source. `passing`: only for a moment."""

    detail: str
    nbytes: Bytes
    formula: str
    source: str
    name: str = "weights"
    passing: bool = False


def on_host(processes: int, waiting: Iterable[InRam], mapped: int) -> Instant:
    """Return the host's fullest phase; pages of the `mapped` bytes of files may stay in memory."""
    each = (
        Component(
            name=one.name,
            detail=one.detail,
            bytes=Bytes(*(processes * nbytes for nbytes in one.nbytes)),
            basis="computed",
            formula=one.formula,
            source=one.source,
            passing=one.passing,
        )
        for one in waiting
        if one.nbytes.high
    )
    pages = (host.pages(mapped, source=LOADED),) if mapped else ()
    return Instant("load", (host.processes(processes), *each, *pages))
