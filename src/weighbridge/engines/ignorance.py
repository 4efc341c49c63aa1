"""Gaps in what is known of an answer, by kind, and how far published figures lay from such answers.

    format     taken from a name: no file was read, and other modules may be packed than the name
               usually means. Weights of seven checkpoints in NVFP4 of three models (Qwen3.6 and 3.8
               27B, 35B, Gemma 4 26B) were 0.90 to 1.15 of it: attention is in 4, 8 or 16 bits
    sibling    of a release that was not read, by that of the same name and size before or after it.
               Of 28 pairs in the catalogue (Qwen2 to 3.8, DeepSeek V3 to 3.2, Llama 3 to 3.3, Phi,
               GLM, Kimi, Gemma, OLMo, Mistral), each at 8,192 tokens: weights 0.98 to 1.13, but for
               one whose maker went to INT4, activations 1.00 to 1.17, caches 0.29 to 1.33
    size.*     a bare size ("70b"), by a model that stands for it (models/catalogue/sizes.txt): as
               far as those of that size in the catalogue lie from it that have a twentieth of the
               downloads of the most downloaded one, at 8,192 tokens and as LoRA over 2,048; at
               least as far as a sibling. From 24 billion parameters on, weights are 0.974 to 1.053
               of what a name says (52 models), so that is their width
    half       like `format`, for formats of 8 bits, whose other modules are at most twice as large
    release    not read: the nearest release's rules answer. Figures of vLLM 0.9 to 0.33, each by
               the rules of three minor releases earlier: activations 0.39 to 2.71 of it (30
               figures), room for the KV cache 0.91 to 1.36 (42), weights 0.998 to 1.015 (43)
    mix        of GGUF types in a repository of which no file was read: publishers keep other
               tensors in more bits under the same name. Weights of 23 files were 0.991 to 1.052 of
               what llama.cpp's own recipe makes, which is exact if the user sets --quantization.
               Also of a repository that a run line names, and of a file that one makes
    own_mix    of a publisher, whose name no recipe of llama.cpp has (UD-Q4_K_XL): assumed
    latest.*   the newest release of an engine that was read, which is also the one if none is set.
               Releases of half a year by the rules of the latest: activations of vLLM were 0.50 to
               1.00 of it (30 figures), compute buffers of llama.cpp 0.73 to 1.09. A machine whose
               newer release needs less does what is planned, so only the low end is wider
    engine     not read: the nearest engine's rules answer (stand_ins.toml). Figures of SGLang by
               vLLM's newest rules, and of vLLM by SGLang's: weights were 0.93 to 1.34 of it (82),
               a run's peak 0.87 to 3.98 (207), tokens of the KV cache as few as 0.15 in one figure
               of twenty (80)
    device     of another maker (Intel, Huawei, Google), for which a server is answered by its rules
               for CUDA devices: as wide as an engine that was not read, assumed
    towers     a flag that replicates the vision encoder on each rank, which is a fifth of a model
               at most (assumed: of Qwen2.5-VL's 3B 0.18, of its 72B 0.01)
    pool, steps, loaded
               a flag or variable that changes what is cached per token, what a step takes, or what
               is loaded, in a way that none of our rules covers. Of 15 figures one in twenty had
               0.31 of the estimated cache, and none more than 1.01

Values are shares of the expected bytes, below and above. A kind without figures is assumed. What is
uncertain in most answers (USUAL) is in their intervals without a sentence; a user of an engine that
was not read names it.
"""

from collections.abc import Iterable, Iterator
from functools import cache

from weighbridge.base.memory import NO_DOUBT, Doubt
from weighbridge.base.parsed import lines_beside
from weighbridge.base.sentences import Sentence, keys_of, sentence

GUESSED = "format_usual"  # note of a model whose format is guessed
SIBLING = "sibling_of"  # note of a model that a release of the same name replaces
SIZED = "size_as"  # note of a bare size, for which a model of that size stands
UNREAD = "unread"
DEVICE = "device"  # of a maker whose cards the server's rules do not cover
STANDS_IN = "stands_in"  # for an engine that the user named and that was not read
USUAL = ("mix", "latest", "engine", "size")
PLAIN = ("F32", "F16", "BF16", "Q8_0")  # GGUF types that are no mix
EIGHT = ("fp8", "w8", "int8", "gptq-8", "mlx-8", "bnb-int8", "mxfp8")


@cache
def _rows() -> dict[str, list[str]]:
    return {row.split()[0]: row.split()[1:] for row in lines_beside(__file__, "ignorance.txt")}


@cache
def shares(kind: str) -> tuple[Doubt, int]:
    """Return the uncertainty of a kind, and the number of figures behind it; 0: assumed."""
    numbers = list(map(float, _rows()[kind]))
    doubt = Doubt(*zip(numbers[:6:2], numbers[1:6:2], strict=True))
    return doubt, int(numbers[6])


def kinds(
    notes: Iterable[str], form: str, unmodelled: str, *, gguf: str, release: str
) -> Iterator[str]:
    """Yield the kinds of uncertainty of an answer, from the model's `notes`, its format `form` and
    the reasons in `unmodelled` (flags without a rule). `gguf` is the model's reference if none of
    its files was read; `release` is the engine's name for its latest release, UNREAD, or ""."""
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
    if STANDS_IN in reasons:  # wider than any flag's uncertainty
        yield "engine"
    else:
        yield from dict.fromkeys(_flags(reasons))


def of_name(notes: Iterable[str]) -> tuple[str, ...]:
    """Return the kinds that follow from a model's notes, whatever the question."""
    return tuple(_of_name(notes))


def _of_name(notes: Iterable[str]) -> Iterator[str]:
    for note in notes:
        if isinstance(note, Sentence) and note.key == SIZED:
            yield f"size.{note.values['typed']}"
        elif SIBLING in keys_of(note):
            yield "sibling"


def _flags(reasons: Iterable[str]) -> Iterator[str]:
    rows = (line.split() for line in lines_beside(__file__, "unmodelled.txt"))
    table = {word: kind for kind, *words in rows for word in words}
    yield from (table.get(reason, "pool") for reason in reasons if table.get(reason) != "host")


@cache
def doubt(kinds: tuple[str, ...]) -> Doubt:
    """Return the uncertainty of all `kinds` together."""
    whole = NO_DOUBT
    for kind in kinds:
        whole = whole.plus(shares(kind)[0])
    return whole


def sentences(kinds: Iterable[str]) -> Iterator[str]:
    """Yield a sentence per kind, except the USUAL ones."""
    for kind in dict.fromkeys(k for k in kinds if not k.startswith(USUAL)):
        count = shares(kind)[1]
        yield sentence(f"unsure.{kind}", figures=count) if count else sentence(f"assumed.{kind}")
