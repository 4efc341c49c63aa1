"""Memory that a part shows and gives to processes, if no reading is published: intervals, always
`assumed`.

    total     nvidia-smi's total; per mille of the marketed size taken as GiB
    visible   the most that a process can use (`torch.cuda.mem_get_info()[1]`): the total less what
              the driver reserves. nvidia-smi -q shows the same amount as "Reserved"
    left      for a machine whose devices have no memory of their own: its total less what the
              system holds before anything is started

Each interval holds every published reading of its kind in parts.jsonl; a test keeps it so. Windows
(WDDM) reserves nothing that way, and gives memory to the desktop instead.
"""

from weighbridge.base.memory import Bytes
from weighbridge.base.records import NamedTuple
from weighbridge.base.units import GIB, MIB


class MemoryRule(NamedTuple):
    """Memory in per mille: the driver's total of the marketed GiB, and the share of that total
    visible to a process."""

    total: tuple[int, int, int]
    visible: tuple[int, int, int] | None  # None: NVIDIA's driver reserves KEPT
    source: str


ALL = (1000, 1000, 1000)
RULES: dict[str, MemoryRule] = {
    "nvidia": MemoryRule((994, 998, 1000), None, "GeForce and TITAN cards read 0.994 to 1.000"),
    "nvidia hbm": MemoryRule((985, 995, 1000), None, "HBM parts read 0.986 (old drivers) to 1.000"),
    "nvidia ecc": MemoryRule(
        (930, 937, 1000), None, "GDDR with ECC on reads 0.931 to 0.938, off 1.000"
    ),
    "nvidia workstation": MemoryRule((930, 995, 1000), None, "ECC can be switched: 0.937 or 0.995"),
    "amd": MemoryRule((998, 999, 1000), ALL, "Instinct and Radeon cards read 0.999 of GiB"),
    "intel": MemoryRule((940, 970, 1000), ALL, "Arc A770 reads 0.944, Max 1550 1.000"),
    "shared": MemoryRule(
        (900, 935, 960), ALL, "memory shared with the CPU: 0.931 to 0.951 were read"
    ),
    "apu": MemoryRule(
        ALL,
        (475, 750, 1000),
        "the carve-out of the BIOS and GTT: 0.475 where nothing is set, to all",
    ),
    "apple": MemoryRule(
        ALL, (666, 786, 907), "recommendedMaxWorkingSetSize of logs: by the size and by macOS"
    ),
    "other": MemoryRule((900, 950, 1000), ALL, "Ascend devices read 0.901 and 0.953"),
    "mig": MemoryRule((870, 950, 1000), ALL, "slices of 10 GB read 0.950 and 0.963"),
}

# (up to this many GiB of RAM, per mille of it that Metal's recommendedMaxWorkingSetSize was before
# macOS 26, and there). Lines of ggml-metal in public logs, MB of 1,000,000 bytes:
#   16 GB  11453.25, 12713.12    36 GB  28991.03, 30150.67     128 GB  103079.22, 115448.73
#   18 GB            14302.25    48 GB  38654.71, 40200.90     512 GB             498216.21
#   24 GB  17179.89, 19069.67    64 GB  51539.61, 55662.79
#   32 GB  22906.50, 26800.60    (8, 96, 192 and 256 GB: shares of their neighbours, assumed)
METAL = (
    (24, 666, 740),
    (32, 666, 780),
    (48, 750, 780),
    (64, 750, 810),
    (128, 750, 840),
    (1 << 20, 750, 907),
)

# Per mille of a machine's memory that the system leaves to processes: least, usual, most. GB10s of
# 119.2 to 121.7 GiB had 101.3 to 102.2 free under a plain Ubuntu (MiaAI-Lab/GLM-5.3-Flash-EXL3-2x-
# DGX-Sparks issue 47), 112 to 113 at the start of vLLM's and SGLang's logs, and at most all but 4.
# In proportion on other machines: assumed
LEFT = (850, 940, 967)
LEFT_SOURCE = "GB10s had 101.3 to 113 of 119.2 to 121.7 GiB free; in proportion elsewhere"

# (up to this many GiB, least and most MiB that the driver reserves): nvidia-smi less torch, Linux
KEPT = ((16, 100, 475), (32, 220, 510), (96, 460, 770), (1 << 20, 600, 930))


def total(rule: str, gb: int) -> Bytes:
    return _share(Bytes(gb * GIB, gb * GIB, gb * GIB), RULES[rule].total)


def visible(rule: str, of: Bytes, gb: int) -> Bytes:
    """Return the bytes that a process can use of a device whose driver reports `of`."""
    share = _metal(gb) if rule == "apple" else RULES[rule].visible
    if share is not None:
        return _share(of, share)
    least, most = next((low, high) for size, low, high in KEPT if gb <= size)
    middle = (least + most) // 2
    return Bytes(of.low - most * MIB, of.expected - middle * MIB, of.high - least * MIB)


def left(of: Bytes) -> Bytes:
    """Return the bytes that all processes can use of a machine whose system reports `of`."""
    return _share(of, LEFT)


def _metal(gb: int) -> tuple[int, int, int]:
    """Return Metal's recommended per mille of `gb` GB of RAM: (before macOS 26, middle, since)."""
    before, since = next((old, new) for size, old, new in METAL if gb <= size)
    return before, (before + since) // 2, since


def _share(of: Bytes, share: tuple[int, int, int]) -> Bytes:
    return Bytes(*(nbytes * mille // 1000 for nbytes, mille in zip(of, share, strict=True)))
