"""What the allocator says when even an emptied cache does not make room.

Source: the TORCH_CHECK_WITH(OutOfMemoryError, ...) of malloc, c10/cuda/CUDACachingAllocator.cpp,
and format_size of c10/core/CachingDeviceAllocator.cpp. The message begins and reads as torch's,
because programs look for its words; torch's advice at its end is left out.
"""

from dataclasses import dataclass

from weighbridge.units import GIB, KIB, MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class OutOfMemory:
    """One refused request, after everything that could be freed was."""

    request: int  # which one: allocations are numbered from 0
    requested: int  # by the program
    asked: int  # of the driver: the segment it would have taken
    allocated: int
    reserved: int
    in_private_pools: int  # cached there, out of reach
    free: int  # what the driver had left
    card: int
    allowed: int | None  # per_process_memory_fraction
    stream: int
    device: int

    @property
    def message(self) -> str:
        used = self.allocated + self.in_private_pools
        private = (
            f"with {format_size(self.in_private_pools)} allocated in private pools "
            "(e.g., CUDA Graphs), "
            if self.in_private_pools
            else ""
        )
        allowed = "" if self.allowed is None else f"{format_size(self.allowed)} allowed; "
        return (
            f"CUDA out of memory. Tried to allocate {format_size(self.asked)}. "
            f"GPU {self.device} has a total capacity of {format_size(self.card)} of which "
            f"{format_size(self.free)} is free. {allowed}Of the allocated memory "
            f"{format_size(used)} is allocated by PyTorch, {private}and "
            f"{format_size(self.reserved - used)} is reserved by PyTorch but unallocated."
        )


def format_size(nbytes: int) -> str:
    if nbytes <= KIB:
        return f"{nbytes} bytes"
    for unit, size in (("KiB", KIB), ("MiB", MIB)):
        if nbytes <= size * 1024:
            return f"{nbytes / size:.2f} {unit}"
    return f"{nbytes / GIB:.2f} GiB"
