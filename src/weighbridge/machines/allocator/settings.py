"""PYTORCH_ALLOC_CONF, read as torch reads it.

    key:value,key:value,...      e.g. expandable_segments:True,max_split_size_mb:128
    roundup_power2_divisions:8   or for intervals, in MiB: [256:1,512:2,1024:4,>:8]

torch cuts the text at commas, colons and brackets and drops all white space; it expects separators
between its words, but does not look at them. Numbers are read as far as they go ("20MB" is 20).

Source: ConfigTokenizer and AcceleratorAllocatorConfig::parseArgs of c10/core/AllocatorConfig.h and
.cpp, CUDAAllocatorConfig::parseArgs of c10/cuda/CUDAAllocatorConfig.cpp, PyTorch 2.13 to 2.15. When
keys appeared: the headers in the wheels of 2.1, 2.2, 2.4, 2.6 and 2.8 to 2.13; before that, the
release notes.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from weighbridge.base.errors import UnsupportedError, UsageError
from weighbridge.base.sentences import sentence
from weighbridge.base.units import MIB
from weighbridge.machines.allocator.options import (
    DEFAULT,
    INTERVALS,
    MIN_LARGE,
    AllocatorOptions,
    every,
)

Version = tuple[int, int]
LATEST: Version = (2, 15)
SPECIAL = ",:[]"
SIZE_MAX = (1 << 64) - 1
MAX_MB = SIZE_MAX // MIB
SHARED_NAME: Version = (2, 9)  # from here PYTORCH_ALLOC_CONF is read, and >= is used in place of >
WORD = re.compile(rf"[{re.escape(SPECIAL)}]|[^{re.escape(SPECIAL)}]+")
INTEGER = re.compile(r"[+-]?\d+")
VARIABLES = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")  # the first decides
GROWING = "expandable_segments:True"
REAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)


def from_environment(env: Mapping[str, str], torch: Version = LATEST) -> AllocatorOptions:
    """Return the options of the variable that decides: PYTORCH_CUDA_ALLOC_CONF, or the newer name
    if that is not set (CUDAAllocatorConfig::instance)."""
    for name in VARIABLES if torch >= SHARED_NAME else VARIABLES[:1]:
        if name in env:
            return parse(env[name], torch, name=name)
    return DEFAULT


def parse(
    text: str, torch: Version = LATEST, *, name: str = "PYTORCH_ALLOC_CONF"
) -> AllocatorOptions:
    """Return the options in one text. Errors have torch's message and the place."""
    words = WORD.findall(re.sub(r"\s", "", text))
    options = DEFAULT
    for size in (True, False):  # segment size first, since it limits other options
        reader = _WordReader(words, torch, name)
        while reader.more:
            key = reader.word()
            if size == (key == "large_segment_size_mb"):
                options = _key(reader, key, options)
            else:
                reader.skip()
            reader.separator()
    return options


class _WordReader:
    """A reader of the words of a PYTORCH_ALLOC_CONF, one after another."""

    def __init__(self, words: list[str], torch: Version, name: str) -> None:
        self.words = words
        self.torch = torch
        self.name = name
        self.position = 0

    @property
    def more(self) -> bool:
        return self.position < len(self.words)

    def fail(self, problem: str) -> UsageError:
        return UsageError(f"{self.name}: {problem}")

    def word(self) -> str:
        if not self.more:
            last = self.words[-1]
            raise self.fail(f"Index out of bounds: it ends after {last!r}, a value must follow")
        self.position += 1
        return self.words[self.position - 1]

    def separator(self) -> None:
        self.position += 1

    def value(self) -> str:
        """Return the word after a key and its colon."""
        self.word()
        return self.word()

    def skip(self) -> None:
        if self.value() == "[":
            while self.word() != "]":
                pass

    def boolean(self) -> bool:
        word = self.value()
        if word not in ("True", "False"):
            raise self.fail(
                f"Expected 'True' or 'False' at index {self.position - 1}, but got {word!r}"
            )
        return word == "True"

    def size(self, word: str) -> int:
        """Return a whole number as std::stoull parses it, where negative ones wrap."""
        digits = INTEGER.match(word)
        if digits is None or abs(int(digits[0])) > SIZE_MAX:
            raise self.fail(f"stoull: {word!r} is not a number that it can hold")
        return int(digits[0]) % (SIZE_MAX + 1)

    def megabytes(self) -> int:
        return min(self.size(self.value()), MAX_MB)

    def real(self) -> float:
        word = self.value()
        digits = REAL.match(word)
        if digits is None:
            raise self.fail(f"stod: {word!r} is not a number")
        return float(digits[0])


def _key(reader: _WordReader, key: str, options: AllocatorOptions) -> AllocatorOptions:
    if key in READ:
        since, read = READ[key]
        _known(reader, key, since)
        return options._replace(**{key: read(reader, options)})
    if key == "backend":
        _backend(reader)
    elif key in WITHOUT_EFFECT:
        _known(reader, key, WITHOUT_EFFECT[key])
        reader.skip()
    else:
        raise reader.fail(f"Unrecognized key '{key}' in CUDA allocator config")
    return options


def _known(reader: _WordReader, key: str, since: Version) -> None:
    if reader.torch < since:
        running, first = (".".join(map(str, v)) for v in (reader.torch, since))
        raise reader.fail(f"Unrecognized key '{key}': torch {running} has it not, {first} has")


def _backend(reader: _WordReader) -> None:
    word = reader.value()
    if word == "cudaMallocAsync":
        raise UnsupportedError(sentence("backend", name=reader.name, word=word))
    if word != "native":
        raise reader.fail(
            f"Unknown allocator backend {word!r}, options are native and cudaMallocAsync"
        )


def _expandable(reader: _WordReader, options: AllocatorOptions) -> bool:
    return reader.boolean()


def _large_segment(reader: _WordReader, options: AllocatorOptions) -> int:
    megabytes, least = reader.megabytes(), MIN_LARGE // MIB
    if megabytes <= least:
        raise reader.fail(
            f"CachingAllocator option large_segment_size_mb must be > {least} MB, not {megabytes}"
        )
    return megabytes


def _at_least_a_segment(key: str) -> Callable[[_WordReader, AllocatorOptions], int]:
    def read(reader: _WordReader, options: AllocatorOptions) -> int:
        megabytes, least = reader.megabytes(), options.large_segment_size_mb
        sign = ">=" if reader.torch >= SHARED_NAME else ">"
        if megabytes < least or (megabytes == least and sign == ">"):
            raise reader.fail(
                f"CachingAllocator option {key} too small, must be {sign} {least}, not {megabytes}"
            )
        return megabytes

    return read


def _threshold(reader: _WordReader, options: AllocatorOptions) -> float:
    value = reader.real()
    if not 0 < value < 1:
        raise reader.fail(
            f"garbage_collect_threshold is invalid, set it in (0.0, 1.0), not {value}"
        )
    return value


def _fraction(reader: _WordReader, options: AllocatorOptions) -> float:
    value = reader.real()
    if not 0 <= value <= 1:
        raise reader.fail(
            f"per_process_memory_fraction is invalid, set it in [0.0, 1.0], not {value}"
        )
    return value


def _divisions(reader: _WordReader, options: AllocatorOptions) -> tuple[int, ...]:
    word = reader.value()
    if word == "[":
        return _intervals(reader)
    value = reader.size(word)
    if not _power_of_two(value):
        raise reader.fail(f"For roundups, the divisions has to be power of 2, not {value}")
    return every(value)


def _intervals(reader: _WordReader) -> tuple[int, ...]:
    """Return one divisor per interval from [256:1,512:2,>:4]: the first also for smaller sizes, ">"
    for the rest."""
    table, last, first = [0] * INTERVALS, 0, True
    while (word := reader.word()) != "]":
        value = reader.size(reader.value())
        if value and not _power_of_two(value):
            raise reader.fail(
                f"For roundups, the divisions has to be power of 2 or 0 to disable roundup, "
                f"not {value}"
            )
        if word == ">":
            table[last + 1 :] = [value] * (INTERVALS - last - 1)
        else:
            last = _interval(reader, word)
            table[0 : last if first else 0] = [value] * (last if first else 0)
            table[last], first = value, False
        if reader.more and reader.words[reader.position] != "]":
            reader.separator()
    return tuple(table)


def _interval(reader: _WordReader, word: str) -> int:
    boundary = reader.size(word)
    if not _power_of_two(boundary):
        raise reader.fail(f"For roundups, the intervals have to be power of 2, not {boundary}")
    return min(boundary.bit_length() - 1, INTERVALS - 1)


def _power_of_two(value: int) -> bool:
    return value > 0 and value & (value - 1) == 0


Read = Callable[[_WordReader, AllocatorOptions], Any]
READ: dict[str, tuple[Version, Read]] = {  # key -> first torch that has it, and its reader
    "max_split_size_mb": ((1, 10), _at_least_a_segment("max_split_size_mb")),
    "garbage_collection_threshold": ((1, 12), _threshold),
    "roundup_power2_divisions": ((1, 12), _divisions),
    "expandable_segments": ((2, 1), _expandable),
    "max_non_split_rounding_mb": ((2, 6), _at_least_a_segment("max_non_split_rounding_mb")),
    "per_process_memory_fraction": ((2, 10), _fraction),
    "large_segment_size_mb": ((2, 11), _large_segment),
}
WITHOUT_EFFECT: dict[str, Version] = {  # on device memory: locks, host memory, addresses
    "release_lock_on_cudamalloc": (2, 2),
    "release_lock_on_hipmalloc": (2, 2),
    "pinned_use_cuda_host_register": (2, 2),
    "pinned_use_hip_host_register": (2, 2),
    "pinned_num_register_threads": (2, 2),
    "pinned_use_background_threads": (2, 6),
    "pinned_reserve_segment_size_mb": (2, 10),
    "pinned_free_catch_all": (2, 12),
    "throw_on_cudamalloc_oom": (2, 12),
    "pinned_max_round_threshold_mb": (2, 13),
    "pinned_max_cached_size_mb": (2, 13),
    "expandable_segments_reserve": (2, 15),
    "expandable_segments_reserve_by_class": (2, 15),
}


def text(options: AllocatorOptions) -> str:
    """Return `options` as a PYTORCH_ALLOC_CONF."""
    changed = {
        name: value for name, value in options._asdict().items() if value != getattr(DEFAULT, name)
    }
    divisions = changed.pop("roundup_power2_divisions", None)
    words = [f"{key}:{value}" for key, value in changed.items()]
    if divisions is not None:
        each = ",".join(f"{1 << n}:{value}" for n, value in enumerate(divisions))
        words.append(f"roundup_power2_divisions:[{each}]")
    return ",".join(words)
