"""Data and checkpoints that are missing on this machine: stand-ins, so that the step can run.

A missing checkpoint loads as nothing (`load_state_dict` leaves the module as it is). A data set
whose folder is missing returns samples of the shapes in `--data`; so do files of arrays, one after
another: `numpy.load` returns many samples of the next shape, `numpy.memmap` a long row of 0.
"""

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any

from torch.utils.data import Dataset, IterableDataset

from weighbridge_lab.trace.inputs import Input
from weighbridge_lab.trace.patches import ABSENT, Notes, Patch

SAMPLES = 4096  # of a missing data set: more rounds than a trace runs
STANDS_IN = "{}: its data are not here ({}); samples of {} stand in"
ROW = 1 << 24  # elements of a missing row: tokens, as language models read them
ARRAYS = ("load", "memmap", "__new__", "fromfile")  # of numpy
CAUGHT = (OSError, RuntimeError, ValueError, ImportError)  # torchvision's, and people's own


class MissingData:
    """Patches of data sets, including classes that are defined later."""

    def __init__(self, sample: Sequence[Input], notes: Notes) -> None:
        self.sample, self.notes = sample, notes

    def patches(self) -> Iterator[Patch]:
        for cls in _below(Dataset):
            yield from self._of(cls)

        def begun(cls: Any, /, **kwargs: Any) -> None:
            super(Dataset, cls).__init_subclass__(**kwargs)
            for patch in self._of(cls):
                setattr(*patch)

        yield Patch(Dataset, "__init_subclass__", classmethod(begun))
        yield from self._arrays()

    def _arrays(self) -> Iterator[Patch]:
        try:
            import numpy
        except ImportError:
            return
        load, shapes = numpy.load, itertools.cycle(self.sample)

        def loaded(file: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                return load(file, *args, **kwargs)
            except FileNotFoundError as error:
                one = next(shapes)
                self.notes(STANDS_IN.format(os.path.basename(str(file)), error.strerror, one))
                kind = "float32" if one.dtype == "bfloat16" else one.dtype
                return numpy.broadcast_to(numpy.zeros((), kind), (SAMPLES, *one.shape))

        # Made without a class statement, as its base has no type if numpy is not installed
        def mapped(cls: type, file: Any, dtype: Any = "uint8", *args: Any, **kwargs: Any) -> Any:
            try:
                return memmap.__new__(cls, file, dtype, *args, **kwargs)
            except FileNotFoundError as error:
                shape = kwargs.get("shape") or ROW
                self.notes(STANDS_IN.format(os.path.basename(str(file)), error.strerror, shape))
                return numpy.zeros(shape, dtype)

        memmap: Any = numpy.memmap
        yield Patch(numpy, "load", loaded)
        yield Patch(numpy, "memmap", type("Mapped", (memmap,), {"__new__": mapped}))

    def _of(self, cls: type) -> Iterator[Patch]:
        methods = vars(cls)
        if "__init__" in methods and not issubclass(cls, IterableDataset):
            yield Patch(cls, "__init__", self._built(methods["__init__"]))
            yield Patch(cls, "__getitem__", self._read(methods.get("__getitem__", ABSENT), cls))
            yield Patch(cls, "__len__", _counted(methods.get("__len__", ABSENT), cls))

    def _built(self, init: Callable[..., None]) -> Callable[..., None]:
        def built(dataset: Any, *args: Any, **kwargs: Any) -> None:
            try:
                init(dataset, *args, **kwargs)
            except Exception as error:
                stands_in = vars(dataset).get("_stands_in")  # set if a base class read the data
                if not (stands_in or isinstance(error, CAUGHT)):
                    raise
                vars(dataset)["_stands_in"] = True
                shapes = ", ".join(map(str, self.sample))
                reason = str(error).partition("\n")[0][:80]
                self.notes(STANDS_IN.format(type(dataset).__name__, reason, shapes))

        return built

    def _read(self, read: Any, cls: Any) -> Callable[..., Any]:
        def item(dataset: Any, index: Any) -> Any:
            if vars(dataset).get("_stands_in"):
                sample = tuple(one.tensor() for one in self.sample)
                return sample if len(sample) > 1 else sample[0]
            if read is ABSENT:
                above: Any = super(cls, dataset)
                return above.__getitem__(index)
            return read(dataset, index)

        return item


def reads_samples(error: BaseException) -> bool:
    """Return whether an error came from reading a data set or an array, for which `--data` stands
    in."""
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        frame = trace.tb_frame
        if isinstance(frame.f_locals.get("self"), Dataset):
            return True
        if f"{os.sep}numpy{os.sep}" in frame.f_code.co_filename:
            return frame.f_code.co_name in ARRAYS
        trace = trace.tb_next
    return False


def _counted(count: Any, cls: Any) -> Callable[..., int]:
    def length(dataset: Any) -> int:
        if vars(dataset).get("_stands_in"):
            return SAMPLES
        samples: int = super(cls, dataset).__len__() if count is ABSENT else count(dataset)
        return samples

    return length


def _below(cls: Any) -> Iterator[type]:
    for child in cls.__subclasses__():
        yield child
        yield from _below(child)
