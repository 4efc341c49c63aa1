"""Options of the caching allocator, and the sizes that follow from them.

    round    a request to a multiple of 512 bytes, or up to the next of `divisions` equal steps
             between two powers of two (roundup_power2_divisions)
    segment  2 MiB for rounded sizes up to 1 MiB, 20 MiB below 10 MiB, else a multiple of 2 MiB

Source: c10/core/AllocatorConfig.h and .cpp (AcceleratorAllocatorConfig), the functions round_size,
roundup_power2_next_division and get_allocation_size of c10/cuda/CUDACachingAllocator.cpp; PyTorch
2.13 to 2.15. The constants have not changed since 1.x.
"""

from weighbridge.base.records import NamedTuple
from weighbridge.base.units import MIB, align_up

MIN_BLOCK = 512  # kMinBlockSize
SMALL_SIZE = MIB  # kSmallSize: rounded sizes up to and including this are small
SMALL_SEGMENT = 2 * MIB  # kSmallBuffer, and the page of a small expandable segment
MIN_LARGE = 10 * MIB  # kMinLargeAlloc: from here on a request gets its own segment
ROUND_LARGE = 2 * MIB  # kRoundLarge
UNLIMITED = (1 << 64) - 1  # max_split_size_ if the user sets none: SIZE_MAX
INTERVALS = 16  # kRoundUpPowerOfTwoIntervals: from 1 MiB, the last from 32 GiB on
FIRST_INTERVAL = 20  # log2 of kRoundUpPowerOfTwoStart


class AllocatorOptions(NamedTuple):
    """The settings of PYTORCH_ALLOC_CONF that change memory, under torch's names.

    `roundup_power2_divisions` has one number per interval between powers of two: sizes below 2 MiB,
    below 4 MiB, ... and the rest; `every(4)` is the single value.
    """

    expandable_segments: bool = False
    max_split_size_mb: int | None = None
    max_non_split_rounding_mb: int | None = None  # large_segment_size_mb
    roundup_power2_divisions: tuple[int, ...] = (0,) * INTERVALS
    garbage_collection_threshold: float = 0.0
    large_segment_size_mb: int = 20
    per_process_memory_fraction: float = 1.0

    @property
    def max_split_size(self) -> int:
        return UNLIMITED if self.max_split_size_mb is None else self.max_split_size_mb * MIB

    @property
    def max_non_split_rounding(self) -> int:
        """Return the most bytes that an oversize block may exceed the request that takes it by."""
        megabytes = self.max_non_split_rounding_mb
        return (self.large_segment_size_mb if megabytes is None else megabytes) * MIB

    @property
    def large_segment(self) -> int:
        """Return kLargeBuffer in bytes, also the page of a large expandable segment."""
        return self.large_segment_size_mb * MIB

    def round_size(self, nbytes: int) -> int:
        if nbytes < MIN_BLOCK:
            return MIN_BLOCK
        interval = nbytes.bit_length() - 1 - FIRST_INTERVAL
        divisions = self.roundup_power2_divisions[min(max(interval, 0), INTERVALS - 1)]
        if divisions > 1 and nbytes > MIN_BLOCK * divisions:
            step = (1 << (nbytes.bit_length() - 1)) // divisions  # both are powers of two
            return align_up(nbytes, step)
        return align_up(nbytes, MIN_BLOCK)

    def segment_size(self, size: int) -> int:
        """Return the bytes that the driver is asked for if no cached block serves `size`."""
        if size <= SMALL_SIZE:
            return SMALL_SEGMENT
        return self.large_segment if size < MIN_LARGE else align_up(size, ROUND_LARGE)


def every(divisions: int) -> tuple[int, ...]:
    """Return `roundup_power2_divisions` with the same number for all sizes."""
    return (divisions,) * INTERVALS


DEFAULT = AllocatorOptions()
