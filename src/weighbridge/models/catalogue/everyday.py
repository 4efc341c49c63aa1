"""Everyday names of models, without their full name -> entries of the built-in catalogue.

    Llama_3.1 8B, llama3.1-8b            another spelling: hyphens and blanks tell nothing
    llama-3.1-8b-instruct, gemma-3-27b-it   a tune of a base has the base's shapes
    qwen3-coder-30b, deepseek-r1:8b   a tune with an id and a context of its own (`tunes.py`)
    llama3.1:8b, qwen3:30b, mixtral:latest  tags of Ollama: NAME:SIZE[-VARIANT][-QUANTIZATION]
    mixtral, mistral-7b, phi3    a short table
    vit_b_16, regnet_y_400mf             torchvision's names of networks that timm has too

    llama 70b, qwen 32b                 the newest release of a family in that size

Sizes of mixtures are understood without their active part (qwen3:30b is qwen3-30b-a3b). Whatever
is answered with the shapes of another name is said.
"""

import re
from collections.abc import Iterator
from functools import cache

from weighbridge.base.parsed import lines_beside
from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import clauses, sentence
from weighbridge.base.wording import spelled_like
from weighbridge.models import catalogue
from weighbridge.models.catalogue import CatalogueEntry, pipelines, tunes
from weighbridge.models.catalogue.copies import PACKED
from weighbridge.models.catalogue.files import MLX
from weighbridge.models.catalogue.owners import (
    BY_BYTES,
    OF_OWNERS,
    PADDED,
    PUBLISHED,
    USUALLY,
    usual,
)
from weighbridge.models.catalogue.tunes import Tune

# Words of tunes and of files: the same shapes with other weights
OF_TUNES = ("instruct", "it", "chat", "base", "hf", "pt", "text", "thinking", "think", "reasoning")
OF_FILES = ("inst", "preview", "qat", "sft", "dpo", "distill", "latest", "gguf", "beta", "meta")
TUNES = frozenset((*OF_TUNES, *OF_FILES))
TRAINED_ON = frozenset(("instruct", "it", "chat", "thinking", "reasoning"))  # other weights
# Releases: 2407, which is a year and a month, 0324, a month and a day, v0.1; 4090 is a card
DATE = re.compile(r"2\d(?:0[1-9]|1[0-2])|(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])")
VERSION = re.compile(r"v\d(?:\.\d)?")
BITS = tuple(f"{bits}bit" for bits in (2, 3, 4, 5, 6, 8))
FORMS = frozenset(
    ("awq", "gptq", "fp8", *BITS, "bnb", "nf4", "int4", "int8", "mlx", "mxfp4", "nvfp4")
) | {"fp4", "quantized.w4a16", "quantized.w8a16", "quantized.w8a8"}
# How, or by whom, a copy was packed: nothing about its format or its shapes. MTP: with the layers
# that predict further tokens, which a config counts apart
PACKED_BY = frozenset(("unsloth", "ud", "autoround", "dwq", "imatrix", "i1", "mtp"))
# Of a file that is split, too (llama.cpp, gguf-split)
END_OF_FILE = re.compile(r"(?:-\d{5}-of-\d{5})?[-_. ]gguf$")
QUANT = re.compile(r"(?:ud-)?i?q\d(?:_(?!mtp)[a-z0-9]+)*|bf16|fp16|f16|fp32|f32|mxfp4")
GGUF = re.compile(r"i?q\d")
# As published, or nearly: GGUF's name of each
FLOATS = {"bf16": "BF16", "fp16": "F16", "f16": "F16", "fp32": "F32", "f32": "F32"}
WRITTEN = {"bf16": "bfloat16", "fp16": "float16", "f16": "float16", "fp32": "float32"}
SIZE = re.compile(r"e?\d+(?:\.\d+)?(?:x\d+(?:\.\d+)?)?[bmt]")
# Words that only together say which format it is
FOUR_AND_EIGHT = ("4bit", "8bit", "int4", "int8")
FORMS_OF_TWO = frozenset(("awq-4bit", "awq-int4", "bnb-4bit", "bnb-8bit", "bnb-nf4")) | {
    *(f"mlx-{bits}" for bits in BITS),
    *("awq-8bit", "awq-int8", "fp8-dynamic"),
    *(f"gptq-{width}" for width in FOUR_AND_EIGHT),
}
DYNAMIC = ["fp8", "dynamic"]
OF_GGUF = "q4_k_m"  # default type of llama-server -hf REPO (llama.cpp common/download.cpp)
OF_QAT = "q4_0"  # of Google's QAT models, also at ollama.com/library (gemma3: -it-qat)

# Everyday name -> entry. Sizes: what `latest` is at ollama.com/library, read in tags of
# github.com/ollama/ollama's README (August 2026) and of the models' own pages; the others: cards of
# the models at huggingface.co, which name their base.
_WRITTEN = dict(map(str.split, lines_beside(__file__, "names.txt")))
NAMES: dict[str, str] = {name: entry.rstrip("~") for name, entry in _WRITTEN.items()}
# Bare size -> the model that stands for it
SIZES = dict(map(str.split, lines_beside(__file__, "sizes.txt")))
# Missing releases, for which a sibling stands
SIBLINGS = frozenset(name for name, entry in _WRITTEN.items() if entry.endswith("~"))

# Repositories of tunes: a base's id, the word of its tunes, and what that makes of the id. The
# others keep their base's, which has the same shapes.
TUNED = (
    (re.compile(r"(meta-llama/(?:Meta-)?Llama-3(?:\.\d)?-\d+B)"), "instruct", r"\1-Instruct"),
    (re.compile(r"(meta-llama/Llama-2-\d+b)-hf"), "chat", r"\1-chat-hf"),
    (re.compile(r"(Qwen/Qwen2(?:\.5)?-[\d.]+B)"), "instruct", r"\1-Instruct"),
    (re.compile(r"(google/gemma-(?:[23]-)?\d+b)(?:-pt)?"), "it", r"\1-it"),
)


class Meaning(NamedTuple):
    """What a name means: its catalogue entry, the format in the name, and a note for the user."""

    entry: CatalogueEntry
    quantization: str = ""
    note: str = ""
    tune: str = ""  # name of the tune, if the entry is its base's

    @property
    def name(self) -> str:
        return self.tune or self.entry.name


def has(text: str) -> bool:
    return meaning(text) is not None


@cache
def meaning(text: str) -> Meaning | None:
    """Return the meaning of an everyday name in any spelling; None if it is unknown."""
    typed = text.strip().lower()
    if catalogue.has(typed):
        return Meaning(catalogue.find(typed))
    if not re.fullmatch(r"[\w.: -]{2,96}", typed, re.ASCII):
        return None
    name, form = _without_form(typed)
    entry, tune = _entry_and_tune(typed, name, form)
    if entry is None:
        return None
    untyped = form == OF_GGUF and OF_GGUF not in typed
    if untyped and in_mxfp4(entry):
        untyped, form = False, ""  # GGUF files of this name keep the published format
    stored = FLOATS.get(form) or (form.upper() if GGUF.match(form) else form)
    named = next((name for name, known in tunes.TUNES.items() if known is tune), "")
    instructed = tune or _usual_tune(typed, entry)
    tuned = _entry_of_tune(
        _without_quantization(_with_padded_width(entry, form), form, typed), instructed
    )
    sibling = not SIBLINGS.isdisjoint(_shorter(name))
    note = _sibling(text.strip(), entry) if sibling else _reading_note(text.strip(), entry)
    if tune or instructed.positions:
        note = clauses(note or _shapes(text.strip(), entry), _tune_note(instructed))
    if untyped:
        note = clauses(note or _shapes(text.strip(), entry), sentence("untyped_gguf"))
    return Meaning(tuned, stored, note, named)


def _usual_tune(typed: str, entry: CatalogueEntry) -> Tune:
    """Return the tune that an entry's name usually means, with its own positions."""
    repo_id = _instruct_repository(typed, entry)
    return Tune(entry.name, repo_id, tunes.POSITIONS.get(repo_id))


def _with_padded_width(entry: CatalogueEntry, form: str) -> CatalogueEntry:
    """Return the entry of a quantized copy, with the MLP width to which its owner padded it."""
    owner, width = entry.repo_id.partition("/")[0], entry.config.get("intermediate_size")
    wider = PADDED.get(owner, {}).get(width) if form.startswith(("awq", "gptq")) else None
    if wider is None:
        return entry
    return entry._replace(config={**entry.config, "intermediate_size": wider})


def _without_quantization(entry: CatalogueEntry, form: str, typed: str) -> CatalogueEntry:
    """Return the entry of a plain-dtype copy of a model that its maker quantizes. Experts trained
    in MXFP4 stay so in GGUF, whatever the file's name says."""
    packed = entry.config.get("quantization_config")
    gguf = ":" in typed or typed.endswith("gguf")
    if form not in WRITTEN or not packed or (gguf and packed["quant_method"] == "mxfp4"):
        return entry
    plain = {n: v for n, v in entry.config.items() if n != "quantization_config"}
    return entry._replace(config={**plain, "torch_dtype": WRITTEN[form]})


def _entry_of_tune(base: CatalogueEntry, tune: Tune) -> CatalogueEntry:
    """Return the base's entry with the tune's id and positions."""
    if tune.positions is None:
        return base._replace(repo_id=tune.repo_id)
    changed = {"max_position_embeddings": tune.positions}
    text = base.config.get("text_config")
    config = {**base.config, **({"text_config": {**text, **changed}} if text else changed)}
    return base._replace(repo_id=tune.repo_id, config=config)


def _tune_note(tune: Tune) -> str:
    """Return a sentence that names a tune's own repository."""
    if tune.positions:
        return sentence("own_positions", repo=tune.repo_id, positions=tune.positions)
    return sentence("its_own", repo=tune.repo_id)


def form_at_its_end(name: str) -> str:
    """Return the format at the end of a model's name: "awq" of Foo-9B-AWQ; "" for none, or for a
    plain dtype."""
    typed = name.strip().lower()
    _, form = _without_form(typed)
    untyped = form == OF_GGUF and OF_GGUF not in typed
    return "" if untyped or form in FLOATS else form.upper() if GGUF.match(form) else form


def _without_form(typed: str) -> tuple[str, str]:
    """Return (name, format): a name without the format at its end, and that format."""
    typed, of_gguf = re.subn(END_OF_FILE, "", typed)
    typed = re.sub(r"[-_. ]mtp$", "", typed)
    match = re.fullmatch(rf"(.+?)[-:. ]({QUANT.pattern})", typed)
    name, form = (match[1], match[2]) if match else (typed, "")
    words = _words(name)
    forms = [words.pop(), words.pop()][::-1] if words[-2:] == DYNAMIC else []
    while len(words) > 1 and (words[-1] in PACKED_BY or _names_form(words[-1], form)):
        forms = [word for word in (words.pop(), *forms) if word not in PACKED_BY]
    form = _joined_format(forms) if forms else form
    if not form and "qat" in words:
        form = OF_QAT
    if not form and of_gguf:
        form = OF_GGUF
    return "-".join(words), form.removeprefix("ud-")


def _names_form(word: str, form: str) -> bool:
    """Return whether `word` is part of a format's name; False if a GGUF type follows it."""
    return word in FORMS and not QUANT.fullmatch(form)


def _joined_format(forms: list[str]) -> str:
    """Return the format of these words: both joined if that is a known format (gptq-int8), else the
    first."""
    whole = "-".join(forms)
    return whole if whole in FORMS_OF_TWO else forms[0]


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[-_: ]+", name) if word]


def _entry_and_tune(typed: str, name: str, form: str) -> tuple[CatalogueEntry | None, Tune | None]:
    """Return (entry, tune) of a name, by tag, as it is, or without words that do not change shapes.
    The tune is None unless it has its own id."""
    if not form and typed in tunes.TAGS:
        moved = tunes.TUNES[tunes.TAGS[typed]]
        return catalogue.find(moved.base), moved
    for shorter in _shorter(name):
        spelled = _spelled(shorter)
        if spelled is not None:
            return spelled, None
        tune = _tune(shorter)
        if tune is not None:
            return catalogue.find(tune.base), tune
    return None if ":" in typed else _newest(name), None


def _newest(name: str) -> CatalogueEntry | None:
    """Return the entry of a family's newest release in a size: qwen3-32b for "qwen 32b"; None if
    there is none."""
    family, _, size = "-".join(_words(name)).rpartition("-")
    if not family.isalpha() or not SIZE.fullmatch(size):
        return None
    pattern = re.compile(rf"{family}-?(?P<release>\d+(?:\.\d+)?)-{re.escape(size)}(?:-a\d+b)?")
    found = {float(m["release"]): m[0] for n in catalogue.names() if (m := pattern.fullmatch(n))}
    return catalogue.find(found[max(found)]) if found else None


def _tune(name: str) -> Tune | None:
    found = tunes.find(name)
    return found or tunes.find(_tune_keys().get(_key(name), ""))


def _shorter(name: str) -> Iterator[str]:
    words = _words(name)
    yield name
    tuned = [word for word in words if word not in TUNES]
    undated = [word for word in tuned if not DATE.fullmatch(word)]
    yield "-".join(tuned)
    yield "-".join(undated)
    yield "-".join(word for word in undated if not VERSION.fullmatch(word))


def _spelled(name: str) -> CatalogueEntry | None:
    key = _key(name)
    spelled = NAMES.get(name) or (_entry_by_key().get(key) if key else None)
    if spelled is None and SIZE.fullmatch(_words(name)[-1] if name else ""):
        start = f"{key}a"  # followed by the active size
        mixtures = [
            n
            for k, n in _entry_by_key().items()
            if k.startswith(start) and k[len(start) :][:1].isdigit()
        ]
        plain = [n for n in mixtures if not _without_form(n)[1]]  # skips -fp8 of the same model
        spelled = plain[0] if len(plain) == 1 else None
    return None if spelled is None else catalogue.find(spelled)


def _key(name: str) -> str:
    return re.sub(r"[-_ ]", "", name)


@cache
def _tune_keys() -> dict[str, str]:
    return {_key(name): name for name in reversed((*tunes.TUNES, *tunes.SHORT))}


@cache
def _entry_by_key() -> dict[str, str]:
    """Return entry names by a key that all spellings of a name share."""
    keys = {_key(name): name for name in reversed(catalogue.names())}
    for name, entry in NAMES.items():
        keys.setdefault(_key(name), entry)
    return keys


@cache
def _names_by_key() -> dict[str, str]:
    """Return the names of entries, tunes and pipelines by their keys, for suggestions."""
    keys = {**_entry_by_key(), **{_key(name): name for name in tunes.TUNES}}
    return {**pipelines.keys(), **keys}


def _shapes(typed: str, entry: CatalogueEntry) -> str:
    return sentence("sized_as", typed=typed, name=entry.name, repo=entry.repo_id)


def _sibling(typed: str, entry: CatalogueEntry) -> str:
    return sentence("sibling_of", typed=typed, name=entry.name, repo=entry.repo_id)


def _reading_note(typed: str, entry: CatalogueEntry) -> str:
    """Return a sentence on how a name was understood; "" if it is another spelling of the
    entry's."""
    return "" if _key(typed.lower()) == _key(entry.name) else _shapes(typed, entry)


def _instruct_repository(typed: str, entry: CatalogueEntry) -> str:
    """Return the Hub repository that a name means; an Ollama tag means the instruct tune unless it
    says `text`."""
    words = set(_words(typed))
    maker = entry.repo_id.partition("-")[0].lower()  # Meta-Llama-3.1-8B-Instruct of meta-llama
    if not _key("-".join(_words(typed))).removeprefix(maker).startswith(_key(entry.name)):
        return entry.repo_id
    for base, word, tune in TUNED:
        match = base.fullmatch(entry.repo_id)
        if match and (word in words or (":" in typed and not words & {"text", "base", "pt"})):
            return match.expand(tune)
    return entry.repo_id


def other_tune(typed: str, repo_id: str) -> bool:
    """Return whether a name states a kind of tune (instruct, chat) that the repository's name
    lacks."""
    tuned = TRAINED_ON.intersection(_words(typed.rpartition("/")[2].lower()))
    return not tuned <= set(_words(repo_id.rpartition("/")[2].lower()))


def in_mxfp4(entry: CatalogueEntry) -> bool:
    """Return whether a model is published in MXFP4, which its GGUF files keep."""
    packed = entry.config.get("quantization_config") or {}
    return packed.get("quant_method") == "mxfp4"


# Hub ids

# Repositories without an owner in their id: the first that were on the Hub. Source:
# docs/source/pretrained_models.rst of github.com/huggingface/transformers at 02ef825be208.
FIRST = re.compile(
    r"(?:albert|bert|camembert|ctrl|distil(?:bert|gpt2|roberta)|gpt2|openai-gpt|roberta|t5|"
    r"transfo-xl|xlm|xlnet)(?:[-@:].*)?"
)


# What goes on with the sentence that names the entry. Source of the second:
# unsloth.ai/blog/dynamic-4bit: what they leave out of 4 bits stands in each config alone
GOES_ON = frozenset(("format_usual", "dynamic_4bit"))


def may_be_an_id(text: str) -> bool:
    """Return whether a name without owner can be a Hub repository."""
    return FIRST.fullmatch(text.strip().lower()) is not None


# Owners whose repositories of others' names are copies of these: https://huggingface.co/unsloth
COPIES = (
    *("unsloth", "mlx-community", "lmstudio-community", "cyankiwi", "cpatonn", "bartowski"),
    *("ggml-org", "redhatai", "quanttrio"),
)


def is_mirrored(repo_id: str) -> bool:
    """Return whether a repository's owner copies other owners' models under their names."""
    return repo_id.lower().partition("/")[0] in COPIES


def of_owner(repo_id: str) -> Meaning | None:
    """Return the entry with the shapes of a repository: of the same owner (meta-llama's
    Llama-3.1-8B-Instruct), or of a copy whose name says that it is quantized (RedHatAI's
    ...-FP8-dynamic), with a note on its format."""
    owner, _, name = repo_id.lower().rpartition("/")
    meant = meaning(name) if owner else None
    if meant is None:
        return None
    if not meant.quantization or meant.quantization in FLOATS.values():
        theirs = owner in COPIES or meant.entry.repo_id.lower().startswith(f"{owner}/")
        return meant._replace(quantization="") if theirs else None
    packed = OF_OWNERS.get(owner, {}).get(meant.quantization) or USUALLY.get(meant.quantization)
    again = "quantization_config" in meant.entry.config and owner not in (*COPIES, *OF_OWNERS)
    if packed is None or again or in_mxfp4(meant.entry):  # who packs it again, and what of it
        return None
    known = meant.quantization in PUBLISHED.get(owner, {})
    named = repo_id.lower() in BY_BYTES | MLX | PACKED
    guessed = "" if known or named else sentence("format_usual")
    dynamic = name.endswith("-unsloth-bnb-4bit")
    note = clauses(guessed, sentence("dynamic_4bit") if dynamic else "")
    config = {**meant.entry.config, "quantization_config": usual(packed, meant.entry.config)}
    return Meaning(meant.entry._replace(config=config), note=note, tune=meant.tune)


# What comes near


NEAR = 0.75  # least similarity of names with different first letters


def nearest(text: str, most: int = 3) -> list[str]:
    """Return at most `most` catalogue names similar to `text`, nearest first."""
    from difflib import SequenceMatcher

    key = _key(re.sub(r"[:/]", "-", text.strip().lower()))[:96]
    keys = _names_by_key()
    close = spelled_like(key, keys, 4 * most)
    close = [
        known
        for known in close
        if known[0] == key[0] or SequenceMatcher(None, known, key).ratio() > NEAR
    ]
    close += [known for known in keys if key and known.startswith(key)]
    family = re.match(r"[a-z]{4,}", key)  # krea-2: flux.1-krea-dev
    close = close or [known for known in keys if family and family[0] in known]
    return list(dict.fromkeys(keys[known] for known in close))[:most]
