"""What of torch is replaced while a fake GPU stands in, as a table of (owner, name, value).

    runtime.py     torch.cuda and torch.accelerator below Python: devices, streams, memory
    modules.py     moving modules and pinning, data loaders, initialisers, torch.compile
    graphs.py      CUDA graphs and pools; profiling.py torch.profiler
    driver.py      NVML and nvidia-smi
    values.py      tolist, numpy and format of fake tensors
    threads.py     the program's own threads are recorded as well
    generation.py  beam search goes on to its end
    repeats.py     layers that repeat another are not run
    libraries.py   transformers and others that ask whether they are being traced

Everything is put back in reverse order, also after an exception.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

ABSENT: Any = object()


class Patch(NamedTuple):
    owner: Any  # a module or a class
    name: str
    value: Any  # ABSENT removes the name


def put(patch: Patch) -> Patch:
    """Apply a patch. Return the one that undoes it."""
    owner, name, value = patch
    before = vars(owner).get(name, ABSENT)
    if value is ABSENT:
        delattr(owner, name)
    else:
        setattr(owner, name, value)
    return Patch(owner, name, before)


@contextmanager
def patched(patches: Iterable[Patch]) -> Iterator[list[Patch]]:
    """Apply patches inside. What is appended to the list is undone as well."""
    undo: list[Patch] = []
    try:
        undo.extend(put(patch) for patch in patches)
        yield undo
    finally:
        for patch in reversed(undo):
            put(patch)
