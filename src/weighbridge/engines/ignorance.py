"""Gaps in what is known of an answer, by kind, and how far figures lay from such answers.

    format     of a name: no file was read, and other modules may be packed than such names usually
               mean. Weights of seven checkpoints in NVFP4 of three models (Qwen3.6 and 3.8 27B,
               35B, Gemma 4 26B) were 0.90 to 1.15 of it: attention is in 4, 8 or 16 bits
    sibling    of a release that was not read, by that of the same name and size before or after it.
               Of 28 pairs in the catalogue (Qwen2 to 3.8, DeepSeek V3 to 3.2, Llama 3 to 3.3, Phi,
               GLM, Kimi, Gemma, OLMo, Mistral), each at 8,192 tokens: weights 0.98 to 1.13, but for
               one whose maker went to INT4, activations 1.00 to 1.17, caches 0.29 to 1.33
    half       the same of formats of 8 bits, whose other modules are at most twice as large
    release    none that was read: the nearest law answers. Figures of vLLM 0.9 to 0.33, each asked
               of the law three minor releases earlier: activations 0.39 to 2.71 of it (30 figures),
               what is left for the cache 0.91 to 1.36 (42), weights 0.998 to 1.015 (43)
    mix        of GGUF types in a repository of which no file was read: publishers keep other
               tensors in more bits under the same name. Weights of 23 files were 0.991 to 1.052 of
               what llama.cpp's own recipe makes, which is exact where --quantization asks for it.
               It is taken of a repository that a run line names, too, and of a file that one makes
    own_mix    of a publisher's, whose name no recipe of llama.cpp has (UD-Q4_K_XL): assumed
    latest.*   the newest release of an engine that was read, which is also what nobody has named.
               Releases of half a year were asked again of its law: of vLLM activations were 0.50 to
               1.00 of it (30 figures), of llama.cpp compute buffers 0.73 to 1.09. A machine that
               has less to do than is planned does it, so that only the low end is wider
    engine     that was not read: the nearest one's rules answer (stand_ins.toml). Figures of
               SGLang asked of vLLM's newest rules, and of vLLM asked of SGLang's: weights were 0.93
               to 1.34 of it (82), a run's peak 0.87 to 3.98 (207), tokens of the pool as few as
               0.15 in one figure of twenty (80)
    device     of another maker (Intel, Huawei, Google), on which a server is answered by its rules
               for CUDA devices: as wide as an engine that was not read, assumed
    towers     a flag by which each rank has the whole encoder of pictures, which is a fifth of a
               model at most (assumed: of Qwen2.5-VL's 3B 0.18, of its 72B 0.01)
    pool, steps, loaded
               a flag or variable that changes what is kept of tokens, what a step takes, or what is
               loaded, in a way that no rule of ours has. Of 15 figures one in twenty had 0.31 of
               the cache that was said, and none more than 1.01

Shares of what is expected, below it and above. A kind that is no figure's is assumed. What is open
of most answers (USUAL) is in their intervals, and no answer says it again; who asks for an engine
that was not read says its name.
"""

from collections.abc import Iterable, Iterator
from functools import cache

from weighbridge.base.memory import NO_DOUBT, Doubt
from weighbridge.base.parsed import lines_beside
from weighbridge.base.sentences import keys_of, sentence

GUESSED = "format_usual"  # the note of a model whose format is guessed
SIBLING = "sibling_of"  # the note of a model that a release of the same name stands for
UNREAD = "unread"
DEVICE = "device"  # of a maker whose cards a server's rules are not of
STANDS_IN = "stands_in"  # for an engine that was named and not read
USUAL = ("mix", "latest", "engine")
PLAIN = ("F32", "F16", "BF16", "Q8_0")  # GGUF types that are no mix
EIGHT = ("fp8", "w8", "int8", "gptq-8", "mlx-8", "bnb-int8", "mxfp8")


@cache
def _rows() -> dict[str, list[str]]:
    return {row.split()[0]: row.split()[1:] for row in lines_beside(__file__, "ignorance.txt")}


@cache
def shares(kind: str) -> tuple[Doubt, int]:
    """Return what is open of answers of a kind, and the figures that say so; 0 is assumed."""
    numbers = list(map(float, _rows()[kind]))
    doubt = Doubt(*zip(numbers[:6:2], numbers[1:6:2], strict=True))
    return doubt, int(numbers[6])


def kinds(
    notes: Iterable[str], form: str, unmodelled: str, *, gguf: str, release: str
) -> Iterator[str]:
    """Yield the kinds of an answer: of a model with such `notes` and the name of its format, by a
    `release`, and flags that no rule has. `gguf` is the reference of a model of whose files none
    was read, and `release` an engine's name where it is its latest, "unread", or neither."""
    yield from of_name(notes)
    if any(GUESSED in keys_of(note) for note in notes):
        yield "half" if form.startswith(EIGHT) else "format"
    if "gguf" in gguf.lower() and form[:1].isupper() and form not in PLAIN:
        yield "mix" if form in gguf else "own_mix"
    if release == UNREAD:
        yield "release"
    elif f"latest.{release}" in _rows():
        yield f"latest.{release}"
    reasons = unmodelled.split()
    if STANDS_IN in reasons:  # wider than what any flag leaves open
        yield "engine"
    else:
        yield from dict.fromkeys(_flags(reasons))


def of_name(notes: Iterable[str]) -> tuple[str, ...]:
    """Return the kinds of an answer about a model with such notes, whatever it is asked for."""
    return ("sibling",) if any(SIBLING in keys_of(note) for note in notes) else ()


def _flags(reasons: Iterable[str]) -> Iterator[str]:
    rows = (line.split() for line in lines_beside(__file__, "unmodelled.txt"))
    table = {word: kind for kind, *words in rows for word in words}
    yield from (table.get(reason, "pool") for reason in reasons if table.get(reason) != "host")


@cache
def doubt(kinds: tuple[str, ...]) -> Doubt:
    """Return what they leave open together."""
    whole = NO_DOUBT
    for kind in kinds:
        whole = whole.plus(shares(kind)[0])
    return whole


def sentences(kinds: Iterable[str]) -> Iterator[str]:
    """Yield a sentence for each kind."""
    for kind in dict.fromkeys(k for k in kinds if not k.startswith(USUAL)):
        count = shares(kind)[1]
        yield sentence(f"unsure.{kind}", figures=count) if count else sentence(f"assumed.{kind}")
