"""What the process has from the driver: whole segments (cudaMalloc), and pages (cuMemMap).

Addresses ascend and segments never touch. A real driver may hand out the address of a segment that
was freed; it decides only between cached blocks of one size.
"""

from collections.abc import Callable

from weighbridge.allocator.blocks import AddressRange, Block, Pool
from weighbridge.allocator.journal import Journal
from weighbridge.allocator.options import ROUND_LARGE
from weighbridge.units import align_up

FIRST_ADDRESS = 1 << 44
UNKNOWN_CARD = 1 << 43  # bytes, where nobody says how large the card is

Placing = Callable[[int], int]  # bytes of a new segment, to its address


class DeviceReserve:
    """`heads` are the first blocks of all segments by address."""

    __slots__ = ("_next", "capacity", "card", "heads", "journal", "nbytes", "peak", "placing")

    def __init__(self, capacity: int | None, card: int | None, journal: Journal | None) -> None:
        self.capacity = capacity
        self.card = card or capacity or UNKNOWN_CARD
        self.journal = journal
        self.nbytes = 0
        self.peak = 0
        self.heads: dict[int, Block] = {}
        self._next = FIRST_ADDRESS
        self.placing: Placing = self._ascending

    @property
    def free(self) -> int:
        """Return the free bytes of the device, as cudaMemGetInfo tells them."""
        return max(0, (self.card if self.capacity is None else self.capacity) - self.nbytes)

    def charge(self, nbytes: int) -> bool:
        """Whether the driver had that much."""
        if self.capacity is not None and self.nbytes + nbytes > self.capacity:
            return False
        self.nbytes += nbytes
        if self.nbytes > self.peak:
            self.peak = self.nbytes
        return True

    def segment(self, pool: Pool, nbytes: int, stream: int) -> Block | None:
        if not self.charge(nbytes):
            return None
        block = Block(nbytes, self.placing(nbytes), pool, stream)
        self.heads[block.address] = block
        if self.journal is not None:
            self.journal.opened(block)
        return block

    def release(self, block: Block) -> None:
        """A free block that is a whole segment goes back (release_block)."""
        if self.journal is not None:
            self.journal.closed(block)
        block.pool.remove(block)
        del self.heads[block.address]
        self.nbytes -= block.size

    def range(self, pool: Pool, page: int, stream: int) -> Block:
        """Addresses for 9/8 of the card, without memory (the constructor of ExpandableSegment)."""
        nbytes = align_up(self.card + self.card // 8, page)
        address = self.placing(nbytes)
        hole = Block(nbytes, address, pool, stream, AddressRange(address, nbytes, page))
        hole.mapped = False
        self.heads[address] = hole
        pool.insert_hole(hole)
        return hole

    def _ascending(self, nbytes: int) -> int:
        address = self._next
        self._next += align_up(nbytes, ROUND_LARGE) + ROUND_LARGE
        return address
