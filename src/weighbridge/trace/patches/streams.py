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

    def wait_event(self, event: Any) -> None: ...
    def wait_stream(self, stream: Any) -> None: ...
    def synchronize(self) -> None: ...

    def query(self) -> bool:
        return True

    def is_capturing(self) -> bool:
        return False

    def record_event(self, event: Any = None) -> Any:
        return Event() if event is None else event

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: Any) -> None: ...

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


class Generator(torch.Generator):
    """A CPU wheel makes none for CUDA; fake kernels ask it for nothing."""

    def __new__(cls, device: Any = "cpu") -> "Generator":
        made: Generator = super().__new__(cls, "cpu")
        return made

    def __init__(self, device: Any = "cpu") -> None:
        self.said = torch.device(device)

    @property
    def device(self) -> torch.device:
        return self.said
