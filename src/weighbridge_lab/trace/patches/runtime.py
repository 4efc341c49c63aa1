"""The runtime below torch.cuda and torch.accelerator, answered by the card and the tape.

Python's own layer above stays as the installed torch has it. A CPU wheel lacks most of these
functions: there they are added, and removed at the end.
"""

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import torch
from torch._subclasses import fake_tensor

from weighbridge.machines.allocator import Journal
from weighbridge.machines.allocator.snapshot import snapshot
from weighbridge_lab.trace.card import Card
from weighbridge_lab.trace.patches import Patch
from weighbridge_lab.trace.patches.streams import Event, ForwardStreams, Generator, Stream
from weighbridge_lab.trace.recorder import Recorder

CUDA = 1  # c10::DeviceType::CUDA


def runtime(card: Card, recorder: Recorder) -> Iterator[Patch]:
    device = Devices(card, recorder)
    for name, answer in device.answers().items():
        yield Patch(torch._C, name, answer)
    yield Patch(torch._C, "_get_accelerator", lambda *_: torch.device("cuda"))
    for name, answer in device.above().items():
        yield Patch(torch.cuda, name, answer)
    for owner in (torch.cuda, torch.cuda.streams):
        yield Patch(owner, "Stream", Stream)
        yield Patch(owner, "Event", Event)
    yield Patch(torch, "Generator", Generator)
    yield Patch(torch.backends.cuda, "is_built", lambda: True)
    # read whenever an operation moves a tensor: no context of a real device may be made
    yield Patch(fake_tensor.FakeTensorMode, "avoid_device_init", property(lambda _: True))
    yield Patch(fake_tensor, "init_gpu_context", lambda _: None)
    yield Patch(torch.Tensor, "record_stream", _record_stream(recorder))
    yield Patch(torch.UntypedStorage, "resize_", _resize(recorder))


def _record_stream(recorder: Recorder) -> Callable[[torch.Tensor, Any], None]:
    def record_stream(self: torch.Tensor, stream: Any) -> None:
        recorder.used_on(self, stream.stream_id)

    return record_stream


def _resize(recorder: Recorder) -> Callable[[torch.UntypedStorage, int], Any]:
    resize = torch.UntypedStorage.resize_

    def resize_(self: torch.UntypedStorage, nbytes: int) -> Any:
        out = resize(self, nbytes)
        recorder.resized(self)
        return out

    return resize_


class Devices:
    """The answers for torch._C, and the current device."""

    remembered = 0  # the current device for operations in torch's cache, whose key lacks it (2.13)

    def __init__(self, card: Card, recorder: Recorder) -> None:
        self.card = card
        self.tapes = recorder.tapes
        self.hidden = recorder.hidden
        self.current = 0
        self.recorder = recorder
        self.streams: dict[int, int] = {}  # device -> the current stream's id
        self.forwards = [ForwardStreams() for _ in recorder.tapes]
        self.exchange(0)

    def answers(self) -> dict[str, Any]:
        """Return stand-ins for functions of torch._C, by name."""
        cuda = {
            "getDeviceCount": lambda: len(self.tapes),
            "getDevice": lambda: self.current,
            "setDevice": self.exchange,
            "exchangeDevice": self.exchange,
            "maybeExchangeDevice": self.exchange,
            "hasPrimaryContext": lambda _: True,
            "canDeviceAccessPeer": lambda _, __: True,
            "getCompiledVersion": lambda: 13000,
            "getArchFlags": lambda: "sm_{}{}".format(*self.card.capability),
            "getCurrentStream": self.current_stream,
            "getCurrentRawStream": lambda _=None: 0,
            "getDefaultStream": lambda index: (0, index, CUDA),
            "setStream": self.set_stream,
            "isCurrentStreamCapturing": lambda: False,
            "isInBadFork": lambda: False,
            "synchronize": self.synchronize,
            "ipc_collect": nothing,
            "init": nothing,
            "sleep": nothing,
            "get_sync_debug_mode": lambda: 0,
            "set_sync_debug_mode": nothing,
            "memoryStats": lambda index: self.statistics(index),
            "resetPeakMemoryStats": lambda index: self.tapes[index].reset_peak(),
            "resetAccumulatedMemoryStats": nothing,
            "emptyCache": self.empty_cache,
            "setMemoryFraction": nothing,
            "getMemoryFraction": lambda _: 1.0,
            "getAllocatorBackend": lambda: "native",
            "record_memory_history": self.record_history,
            "isHistoryEnabled": lambda: self._journal(0).events is not None,
            "memorySnapshot": lambda _=None: self.snapshot(),
            "clearCublasWorkspaces": self.clear_workspaces,
            "hostMemoryStats": dict,
        }
        accelerator = {
            "getAccelerator": lambda: torch.device("cuda"),
            "getDeviceIndex": lambda: self.current,
            "setDeviceIndex": self.exchange,
            "exchangeDevice": self.exchange,
            "maybeExchangeDevice": self.exchange,
            "getStream": lambda _: torch.cuda.current_stream(),
            "setStream": nothing,
            "synchronizeDevice": self.synchronize,
            "isAllocatorInitialized": lambda: True,
            "emptyCache": self.empty_cache,
            "emptyHostCache": nothing,
            "getDeviceStats": lambda index: self.statistics(index),
            "resetPeakStats": lambda index: self.tapes[index].reset_peak(),
            "resetAccumulatedStats": nothing,
            "getMemoryInfo": self.memory,
        }
        return {f"_cuda_{k}": v for k, v in cuda.items()} | {
            f"_accelerator_{k}": v for k, v in accelerator.items()
        }

    def above(self) -> dict[str, Any]:
        """Return stand-ins for names of torch.cuda that are set on import, or cached in Python."""
        return {
            "is_available": lambda: True,
            "device_count": lambda: len(self.tapes),
            "is_initialized": lambda: True,
            "is_current_stream_capturing": lambda: False,
            "_is_in_bad_fork": lambda: False,
            "_initialized": True,
            "_lazy_init": nothing,
            "_lazy_call": nothing,  # seeds: a fake tensor has no values
            "_get_device_properties": self.properties,
            "_exchange_device": self.exchange,
            "_maybe_exchange_device": self.exchange,
            "_check_bf16_tensor_supported": lambda _: True,  # emulated before capability 8
            "cudart": self.library,
            "default_generators": tuple(Generator("cuda") for _ in self.tapes),
            "mem_get_info": lambda device=None: self.memory(_index(device, self.current)),
        }

    def properties(self, index: int) -> SimpleNamespace:
        card = self.card
        return SimpleNamespace(
            name=card.name,
            major=card.capability[0],
            minor=card.capability[1],
            total_memory=card.total_memory,
            multi_processor_count=card.chip.multiprocessors,
            max_threads_per_multi_processor=card.chip.threads,
            max_threads_per_block=1024,
            warp_size=32,
            regs_per_multiprocessor=65536,
            shared_memory_per_block=48 * 1024,
            shared_memory_per_block_optin=card.chip.shared_memory,
            shared_memory_per_multiprocessor=card.chip.shared_memory + 1024,
            is_integrated=0,
            is_multi_gpu_board=0,
            gcnArchName="",
            pci_bus_id=index,
            pci_device_id=0,
            pci_domain_id=0,
            uuid=f"00000000-0000-0000-0000-{index:012x}",
        )

    def exchange(self, index: int) -> int:
        """Make another device the current one, and return the old one; a negative index changes
        nothing."""
        before = self.current
        if index >= len(self.tapes):
            raise RuntimeError(f"CUDA error: invalid device ordinal (cuda:{index})")
        if index >= 0:
            self.current = index
            if Devices.remembered != index:
                Devices.remembered = index
                fake_tensor.FakeTensorMode.cache_clear()
        return before

    def current_stream(self, index: int) -> tuple[int, int, int]:
        self._enter()
        return self.streams.get(index, 0), index, CUDA

    def set_stream(self, stream_id: int, device_index: int, device_type: int = CUDA) -> None:
        if stream_id:
            self.recorder.entering = self._enter  # from the first other stream on
        self._enter()
        self.streams[device_index] = self.tapes[device_index].stream = stream_id
        self.forwards[device_index].note(stream_id)
        self.current = device_index

    def _enter(self) -> None:
        """Set the stream of the autograd node that runs."""
        index = self.current
        now = self.streams.get(index, 0)
        stream = self.forwards[index].entered(now)
        if stream != now:
            self.streams[index] = self.tapes[index].stream = stream
            self.forwards[index].note(stream)

    def memory(self, index: int) -> tuple[int, int]:
        """Return (free, total) bytes of a device, as the driver counts."""
        total = self.card.total_memory
        used = self.card.context + self.tapes[index].allocator.reserved
        return max(0, total - used), total

    def statistics(self, index: int) -> dict[str, Any]:
        self.tapes[index].settle()
        return self._journal(index).nested()

    def _journal(self, index: int) -> Journal:
        journal = self.tapes[index].allocator.journal
        assert journal is not None
        return journal

    def record_history(self, enabled: str | None = "all", *_: Any, **__: Any) -> None:
        for index in range(len(self.tapes)):
            journal = self._journal(index)
            if enabled is None:
                journal.events = None
            elif journal.events is None:
                journal.events = []

    def snapshot(self) -> dict[str, Any]:
        """Return the memory snapshot of the first device, with the events since recording began."""
        self.tapes[0].settle()
        journal = self._journal(0)
        before, journal.events = journal.events, journal.events or []
        try:
            return snapshot(self.tapes[0].allocator)
        finally:
            journal.events = before

    def synchronize(self, *_: Any) -> None:
        self.tapes[self.current].allocator.synchronize()

    def empty_cache(self) -> None:
        for tape in self.tapes:
            tape.empty_cache()

    def clear_workspaces(self) -> None:
        for tape in self.tapes:
            tape.release("workspace")
        self.hidden.forget()

    def library(self) -> SimpleNamespace:
        return SimpleNamespace(
            cudaMemGetInfo=self.memory,
            cudaHostRegister=lambda *_: 0,
            cudaHostUnregister=lambda *_: 0,
            cudaProfilerStart=lambda: 0,
            cudaProfilerStop=lambda: 0,
            cudaGetErrorString=str,
            cudaError=SimpleNamespace(success=0),
        )


def nothing(*_: Any, **__: Any) -> None:
    """Stand in for functions that take time or seeds, but no memory."""


def _index(device: Any, current: int) -> int:
    if device is None:
        return current
    index = device if isinstance(device, int) else torch.device(device).index
    return current if index is None else index
