"""The CUDA caching allocator of PyTorch, replayed: requests in; allocated and reserved bytes out.

    round    every request to a multiple of 512 bytes
    pool     small for rounded sizes up to 1 MiB, else large; separate for each stream
    segment  2 MiB (small), 20 MiB (large, below 10 MiB), else the size rounded up to 2 MiB
    fit      the smallest free block that is large enough; among equals the lowest address
    split    a small block when 512 bytes remain, a large one when more than 1 MiB remains;
             else the caller keeps the whole block, and it counts as allocated
    free     merges with free neighbours of the same segment; the segment stays reserved
    full     oversize blocks are released, then all that is wholly free, then out of memory

`options` says what PYTORCH_ALLOC_CONF changes of that, `settings` reads it, `reserve` has segments
and pages, `blocks` the pools, those of CUDA graphs too, `sequence` makes many requests in one go,
`filling` only allocates, `journal` counts, and `snapshot` writes torch's own records.

Source: c10/cuda/CUDACachingAllocator.cpp (class DeviceCachingAllocator), read in the state of
PyTorch 2.11 to 2.15, and compared with the one of 2.15 as it runs
(tests/allocator/test_recorded.py).
"""

from weighbridge.base import lazily

TYPE_CHECKING = False
if TYPE_CHECKING:
    from weighbridge.base.errors import OutOfMemoryError
    from weighbridge.machines.allocator.blocks import SHARED, Block, PoolId
    from weighbridge.machines.allocator.core import Allocator
    from weighbridge.machines.allocator.journal import Journal, JournalEvent, OutOfMemory
    from weighbridge.machines.allocator.options import AllocatorOptions, every
    from weighbridge.machines.allocator.settings import from_environment, parse

__all__ = [
    "SHARED",
    "Allocator",
    "AllocatorOptions",
    "Block",
    "Journal",
    "JournalEvent",
    "OutOfMemory",
    "OutOfMemoryError",
    "PoolId",
    "every",
    "from_environment",
    "parse",
]

# What a load asks for, `filling`, is imported without all else.
if not TYPE_CHECKING:  # else a type checker would accept any name as one of this package
    __getattr__ = lazily.named(
        __name__,
        {
            "SHARED": "blocks",
            "Allocator": "core",
            "Block": "blocks",
            "JournalEvent": "journal",
            "Journal": "journal",
            "AllocatorOptions": "options",
            "OutOfMemory": "journal",
            "OutOfMemoryError": "core",
            "PoolId": "blocks",
            "every": "options",
            "from_environment": "settings",
            "parse": "settings",
        },
    )
