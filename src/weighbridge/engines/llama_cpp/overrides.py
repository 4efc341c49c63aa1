r"""--override-tensor: tensors placed by their names, whatever layer they belong to.

    -ot 'blk\.[0-6]\.ffn_.*_exps=CUDA1,exps=CPU'

Pairs of a pattern and a buffer, with commas between them; the first pattern that is found in a
tensor's name decides. A buffer is a card's (CUDA0, ROCm1, Vulkan0, ...) or the host's.

Source: llama.cpp 0c1e57098 common/arg.cpp (parse_tensor_buffer_overrides),
src/llama-model-loader.cpp (create_tensor); ik_llama.cpp 8337e4cd3 common/common.cpp
(parse_buft_overrides), src/llama-load-tensors.cpp (get_context_for_tensor).
"""

import re
from collections.abc import Iterable, Sequence

from weighbridge.base.errors import UsageError
from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import sentence
from weighbridge.base.watching import go_on
from weighbridge.engines.llama_cpp.patterns import PatternError, PatternWork, TensorPattern

HOST = re.compile(r"CPU|(CUDA|ROCm)_Host")
CARD = re.compile(r"(?:CUDA|ROCm|MUSA|Vulkan|SYCL|CANN|MTL)(\d{1,3})|Metal")
MOST_SIGNS = 1 << 15  # characters of all patterns together
ALL = 999  # layers: more than any model has, as the programs' own documentation writes it


class Override(NamedTuple):
    """A pattern, its buffer, and the buffer's device; the host is numbered after all GPUs."""

    pattern: str
    buffer: str
    device: int

    @property
    def written(self) -> str:
        return f"{self.pattern}={self.buffer}"


# Experts of a layer, as both programs name them for --n-cpu-moe: llama.cpp 0c1e57098
# common/common.h (LLM_FFN_EXPS_REGEX)
EXPERTS = r"\.ffn_(up|down|gate|gate_up)_(ch|)exps"


def overrides(pairs: Sequence[str], gpus: int, alone: int | None) -> tuple[Override, ...]:
    """Return the parsed `pairs`; `alone` is the card if only one of several is used. Raises
    UsageError for what the program refuses, too."""
    if sum(map(len, pairs)) > MOST_SIGNS:
        raise UsageError(sentence("overrides.long", most=MOST_SIGNS))
    found, work = tuple(_override(pair, gpus, alone) for pair in pairs), PatternWork()
    for each in found:
        _made(each.pattern, work)
    return found


def _override(pair: str, gpus: int, alone: int | None) -> Override:
    pattern, equals, buffer = pair.partition("=")
    if not equals:
        raise UsageError(sentence("overrides.no_buffer", pair=pair))
    if HOST.fullmatch(buffer):
        return Override(pattern, buffer, gpus)
    card = CARD.fullmatch(buffer)
    if card is None:
        raise UsageError(sentence("overrides.buffer", pair=pair, buffer=buffer))
    number = int(card[1] or 0)
    if number >= gpus:
        there = sentence("gpus.one") if gpus == 1 else sentence("gpus.many", count=gpus)
        raise UsageError(sentence("overrides.no_card", pair=pair, buffer=buffer, there=there))
    if alone is not None and number != alone:
        raise UsageError(sentence("overrides.alone", pair=pair, alone=alone))
    return Override(pattern, buffer, number)


def cards(pairs: Iterable[str]) -> int:
    """Return the number of cards up to the last one that a pair names."""
    named_ = (CARD.fullmatch(pair.rpartition("=")[2]) for pair in pairs)
    return max((1 + int(card[1] or 0) for card in named_ if card), default=0)


def _made(pattern: str, work: PatternWork) -> TensorPattern:
    try:
        return TensorPattern(pattern, work)
    except PatternError as error:
        raise UsageError(sentence("pattern", pattern=pattern, why=error.args[0])) from None


def named(names: Iterable[str], said: Sequence[Override]) -> dict[str, int]:
    """Return, for each tensor that a pattern is found in, the index of the first such pattern.
    Raises UsageError if that takes too long."""
    left, work = list(names), PatternWork()
    numbers: dict[str, int] = {}
    for number, each in enumerate(said):
        go_on()
        pattern = _made(each.pattern, work)
        try:
            numbers |= {name: number for name in left if pattern.found(name)}
        except PatternError as error:
            raise UsageError(sentence("pattern", pattern=each.pattern, why=error.args[0])) from None
        left = [name for name in left if name not in numbers]
    return numbers


def of_first(count: int) -> str:
    """Return the pair that leaves the experts of the first `count` layers to the host, as
    --n-cpu-moe does; from `ALL` on those of every layer."""
    if count >= ALL:
        return f"{EXPERTS}=CPU"
    return f"{blocks(range(count))}{EXPERTS}=CPU"


def blocks(numbers: Iterable[int]) -> str:
    r"""Return a pattern that matches blocks by their numbers; tens with the same last digits are
    merged: blk\.([3-9]|[12][0-9]|3[05])."""
    ones: dict[int, list[int]] = {}
    for number in sorted(set(numbers)):
        ones.setdefault(number // 10, []).append(number % 10)
    tens: dict[tuple[str, str], list[int]] = {}  # (hundreds, last digits) -> tens
    for ten, digits in ones.items():
        if ten:
            tens.setdefault((str(ten)[:-1], _digits(digits)), []).append(ten % 10)
    words = [_digits(ones[0])] if 0 in ones else []
    words += [f"{hundreds}{_digits(each)}{digits}" for (hundreds, digits), each in tens.items()]
    return f"blk\\.({'|'.join(words)})"


def _digits(digits: Sequence[int]) -> str:
    """Return a pattern that matches one of `digits`, which are sorted."""
    if len(digits) == 1:
        return str(digits[0])
    runs: list[list[int]] = []
    for digit in digits:
        if runs and digit == runs[-1][-1] + 1:
            runs[-1].append(digit)
        else:
            runs.append([digit])
    written = (f"{r[0]}-{r[-1]}" if len(r) > 2 else "".join(map(str, r)) for r in runs)
    return f"[{''.join(written)}]"
