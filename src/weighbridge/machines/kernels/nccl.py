"""Buffers of one NCCL communicator, outside torch's allocator: its channels, and for each the
connections of its rings and trees.

    connection   10 MiB if it receives, 2 MiB if it sends, whatever the model is: LL, LL128 and
                 Simple buffers of 0.5, 4.69 and 4 MiB (transport/p2p.cc, init.cc), rounded up
    channels     2 and few more over PCIe, 12 to 24 over NVLink, 16 to 32 through switches
    connected    rings, trees and NVLink SHARP with the communicator; since 2.22 (torch 2.7), when
                 an algorithm is first used, so that there may be only the ring
    SHARP        2 x 16 channels x 8 ranks x 1 MiB through switches, on Hopper and newer
                 (transport/nvls.cc)

Which algorithm runs is tuned at run time: the figures are assumed. Published: 544 MB for two of
four A100 with NVLink (NCCL issue 964, 2023), 0.5 GiB on an H100 (start-up logs of vLLM).
"""

from collections.abc import Mapping

from weighbridge.base.memory import Bytes
from weighbridge.base.units import MIB
from weighbridge.machines.accelerators.chips import Links

SOURCE = "NVIDIA/nccl src/init.cc, src/transport/p2p.cc, src/transport/nvls.cc"
CONNECTION = 12 * MIB
CHANNELS: Mapping[Links, tuple[int, int, int]] = {
    "": (1, 2, 4),
    "bridge": (1, 12, 24),  # boards of one chip have it or not
    "switch": (8, 16, 32),
}
CONNECTED, LAZILY = (1, 2, 3), (1, 1, 2)  # per channel: at least, usually, at most
LAZY_SINCE = (2, 7)  # torch, whose wheels have NCCL 2.26
SHARP = (256 * MIB, 512 * MIB)  # usually, at most


def communicator(links: Links | None, *, lazy: bool, sharp: bool = True) -> Bytes:
    """Return the bytes of one communicator. `links`: None for any card; `lazy`: connections are
    made when an algorithm is first used; `sharp`: the card's generation can sum in the switch."""
    if links is None:
        known = [communicator(kind, lazy=lazy) for kind in CHANNELS]
        return Bytes(known[0].low, known[1].expected, known[-1].high)
    times = LAZILY if lazy else CONNECTED
    low, expected, high = (
        channels * connections * CONNECTION
        for channels, connections in zip(CHANNELS[links], times, strict=True)
    )
    if links != "switch" or not sharp:
        return Bytes(low, expected, high)
    return Bytes(low, expected + SHARP[0], high + SHARP[1])
