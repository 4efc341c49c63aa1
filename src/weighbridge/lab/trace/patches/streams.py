"""Streams, events and generators of a device on which nothing runs."""

from typing import Any

import torch


class Stream:
    """A stream: work on it is done before anybody could wait for it."""

    made = 0

    def __init__(self, device: Any = None, priority: int = 0, **known: Any) -> None:
        index = known.get("device_index")
        if index is None:
            index = torch.device("cuda" if device is None else device).index or 0
        self.device_index = index
        self.device = torch.device("cuda", index)
        self.device_type = 1
        self.priority = priority
        if "stream_id" in known:
            self.stream_id = known["stream_id"]
        else:
            Stream.made += 1
            self.stream_id = Stream.made
        self.cuda_stream = self.stream_id
        self._within: Any = None

    def wait_event(self, event: Any) -> None: ...
    def wait_stream(self, stream: Any) -> None: ...
    def synchronize(self) -> None:
        torch.cuda.synchronize(self.device)

    def query(self) -> bool:
        return True

    def is_capturing(self) -> bool:
        return False

    def record_event(self, event: Any = None) -> Any:
        return Event() if event is None else event

    def __enter__(self) -> "Stream":
        self._within = torch.cuda.stream(self)
        self._within.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._within.__exit__(*error)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and hash(self) == hash(other)

    def __hash__(self) -> int:
        return hash((self.device_index, self.stream_id))


class Event:
    """An event that has happened."""

    def __init__(self, *_: Any, **__: Any) -> None: ...
    def record(self, stream: Any = None) -> None: ...
    def wait(self, stream: Any = None) -> None: ...
    def synchronize(self) -> None: ...

    def query(self) -> bool:
        return True

    def elapsed_time(self, end: Any) -> float:
        return 0.0


GENERATOR: Any = torch.Generator
META: Any = type(GENERATOR)
STATE = 16  # bytes of a CUDA generator's state: seed and offset


class _Known(META):  # type: ignore[misc]
    def __instancecheck__(self, instance: object) -> bool:
        return isinstance(instance, GENERATOR)


class Generator(GENERATOR, metaclass=_Known):  # type: ignore[misc]
    """torch.Generator. A CPU wheel makes none for CUDA; fake kernels ask it for nothing."""

    def __new__(cls, device: Any = "cpu") -> Any:
        if torch.device(device).type != "cuda":
            return GENERATOR(device)
        return super().__new__(cls, "cpu")

    def __init__(self, device: Any = "cpu") -> None:
        self.said = torch.device(device)

    @property
    def device(self) -> torch.device:
        return self.said

    def get_state(self) -> torch.Tensor:
        return torch.zeros(STATE, dtype=torch.uint8)

    def set_state(self, state: torch.Tensor) -> "Generator":
        return self
