"""Settings of pictures and video in the words of a question: a number counts with the word that
says what it is of, and of two values of one setting neither is taken.

    Wan 2.2 14B i2v fp8 720p, 5 seconds, on a 4090 with 64 GB of RAM
    sdxl lora batch 4 12GB kohya                                        a line of words alone
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from weighbridge.base.errors import UsageError
from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import sentence
from weighbridge.files.programs import told_by
from weighbridge.files.runfiles.cards import CARD
from weighbridge.files.runfiles.document import Document
from weighbridge.files.runfiles.named import MOST_TEXT, Piece, piece_of
from weighbridge.files.runfiles.named import pipeline as named_pipeline
from weighbridge.models.catalogue import pipelines
from weighbridge.settings.kinds import IMAGE

TRAINS = re.compile(
    r"(?i)\b(?:train|fine-?tun|dreambooth|(?<!with )(?<!\+ )(?<!and )(?<!a )loras? (?:on|in) "
    r"(?:a |my )?\d{1,3} ?gb)|训练|微调"
)
LONGEST_LINE = 600  # characters of a question, as people type one
NEAR = 30  # characters around a number that tell its setting
COMFY = re.compile(r"(?i)comfy|Requested to load \w|got prompt\n")
# Lines of ComfyUI's log (comfy/model_base.py, model_management.py; main.py where a prompt has run)
LOADED = re.compile(
    r"model weight dtype torch\.(?P<value>float8_e4m3fn|float8_e5m2|bfloat16|float16)"
)
RAN = re.compile(r"Prompt executed in (?P<time>[\d:.]{1,16})")
IN_PART = re.compile(r"loaded partially;?[^\n]{1,60}? (?P<value>\d{1,7}\.\d{1,3}) MB offloaded")
# A waiting time, and not a video's length
WAITED = re.compile(r"(?i)\b(?:in|takes?|took|after|every|within|last|about|only)[ ~]{1,2}$")
SIZE = re.compile(
    r"(?a)(?<![\w.])(?P<value>\d{3,5} ?[x\u00d7*] ?\d{3,5}|(?:480|540|720|1080)[pP])(?!\w)"
)
FRAMES = re.compile(r"(?ai)(?<![\w.])(?P<value>\d{1,4})[ -]?(?:frames?\b(?! ?(?:/|per|a)\b)|帧)")
SECONDS = re.compile(
    r"(?ai)(?<![\w.])(?P<value>\d{1,3}(?:\.\d)?)(?:[ -]?(?:s|secs?|seconds?)(?![\w/])|[ ]?秒)"
    r"(?! ?(?:/|per\b|a\b|each\b))"
)
BATCH = re.compile(
    r"(?ai)(?<!global )\bbatch(?:[ _-]?size)?(?: of| is)?[ :=]{0,2}(?P<value>\d{1,4})(?![\w.])"
)
FORMAT = re.compile(
    r"(?i)(?<![a-z0-9])(?P<value>fp8|nf4|(?:ud-)?i?q[1-8]_(?:k(?:_(?:xl|[sml]))?|[01]|nl|xxs|xs|s|m)|bf16|fp16"
    r"|b?float16)(?![a-z0-9])"
)
# The format of text encoders, not of the denoiser
OF_TEXT = re.compile(r"(?i)(?:\bt5\w*|\bclip|\btext[ -]encoders?)[ _-](?:in |as |at )?$")
BEFORE_TEXT = re.compile(r"(?i)[ _-](?:t5|clip|text[ -]encoder)")
BYTES = re.compile(
    r"(?ai)(?:(?<![\w.])(?<!\d,)|(?<=\d[x*]))(?P<value>\d{1,4}) ?(?:gi?b|g|gigs?)(?![a-z])"
)
OF_HOST = re.compile(
    r"(?i)[ -]?(?:of )?(?:my )?"
    r"(?:(?:system|host|main|cpu|pc|ddr[2-6]) ?(?:ram|memory)?(?:[ -]?\d{4})?(?: ?mhz)?|ram"
    r"|内存(?! ?[=是为:]? ?\d{1,4} ?g))(?![a-z])"
)
HOST_BEFORE = re.compile(r"(?i)(?:\bram|内存)[ :=是为(\uff08]{0,3}$")
OF_CARD = re.compile(
    r"(?i)[ -]?(?:of )?(?:v-?ram|(?:gpu|video|graphics|card|nvidia|geforce)s?(?![a-z])|显存|显卡)"
)
CARD_BEFORE = re.compile(
    r"(?i)(?:\b(?:on|with|have|has|in|under|for|fits?|only|just)"
    r"(?: (?:a|an|my|the|only|just)){0,2} "
    r"|\bv-?ram[ :=]{1,3}|显存[ :=是为]{0,3}|每[张块](?:显?卡)?[有是]?)$"
)
# Bytes of something else, or a part of a card that something takes
OF_OTHERS = re.compile(
    r"(?i)[ -]?(?:of |big |large )?(?:\w{1,20}[ -])?(?:files?|models?|checkpoints?|weights?|gguf|"
    r"safetensors|downloads?|disk|ssd|nvme|swap|page|datasets?|free|left|loras?|more|less|short|"
    r"images|for|in use)(?![a-z])|[ ]?/"
)
TAKEN = re.compile(
    r"(?i)\b(?:takes?|us(?:es?|ing)|needs?|requires?|took|about|around|~|plus|and|is|are) ?$"
)
METHODS: Mapping[str, str] = {
    "full": r"full(?:[ -](?:parameter|weights?))?[ -](?:fine-?tun\w*|training)|全参|全量",
    "qlora": r"qlora|load_in_4bit ?= ?True",
    "dora": r"dora",
    "lora": r"lora",
    "loha": r"loha",
    "lokr": r"lokr",
}
# Adapter options that QLoRA shares
OF_ADAPTERS = re.compile(r"(?i)[ _-]?(?:r|rank|alpha|dropout|target\w*)(?![a-z])[ =:]{0,3}")
DENIED = re.compile(r"(?i)\b(?:no|not|without|instead of|rather than|vs\.?|or) (?:a )?$")
# The pipeline's input, if the words do not name its series
TASK = re.compile(r"(?i)(?<![a-z0-9])(?P<value>ti2v|i2v|t2v|(?:image|img)[ -]?(?:to|2)[ -]?vid\w*)")
FILE = re.compile(r"(?<![\w.-])(?P<value>[\w.-]{3,120}\.(?:safetensors|gguf|sft))(?!\w)")
DTYPES = {"bf16": "bfloat16", "fp16": "float16", "bfloat16": "bfloat16", "float16": "float16"}


class WordRule(NamedTuple):
    """A setting in prose: its pattern, and `spelled`, which returns a match's value as on the
    command line, or "" if the words around it mean something else."""

    setting: str
    pattern: "re.Pattern[str]"
    spelled: Callable[["re.Match[str]"], str]


def is_line(text: str) -> bool:
    """Return whether a text is one line, like a question typed into a box."""
    return len(text.strip()) <= LONGEST_LINE and "\n" not in text.strip()


def _before(match: "re.Match[str]") -> str:
    return match.string[max(match.start() - NEAR, 0) : match.start()]


def _size(match: "re.Match[str]") -> str:
    height, width = IMAGE.read(re.sub(r"[\u00d7*]", "x", match["value"].replace(" ", "")))
    return f"{width}x{height}"


def plain(match: "re.Match[str]") -> str:
    return match["value"]


def _lasting(match: "re.Match[str]") -> str:
    return "" if WAITED.search(_before(match)) else match["value"]


def _form(match: "re.Match[str]") -> str:
    form = match["value"].lower()
    texts = OF_TEXT.search(_before(match)) or BEFORE_TEXT.match(match.string, match.end())
    if form in DTYPES or texts:
        return ""
    return form.removeprefix("ud-").upper() if "q" in form else form


def _form_of_text(match: "re.Match[str]") -> str:
    form = match["value"].lower()
    texts = OF_TEXT.search(_before(match)) or BEFORE_TEXT.match(match.string, match.end())
    return f"text={form}" if texts and form not in DTYPES else ""


def _dtype(match: "re.Match[str]") -> str:
    return DTYPES.get(match["value"].lower(), "")


def _loaded(match: "re.Match[str]") -> str:
    return "fp8" if match["value"].startswith("float8") else ""


RULES = (
    WordRule("size", SIZE, _size),
    WordRule("frames", FRAMES, plain),
    WordRule("seconds", SECONDS, _lasting),
    WordRule("batch_size", BATCH, plain),
    WordRule("quantization", FORMAT, _form),
    WordRule("quantization", LOADED, _loaded),
    WordRule("of_text", FORMAT, _form_of_text),
    WordRule("dtype", FORMAT, _dtype),
)


def settings(document: Document, rules: Sequence[WordRule] = RULES) -> dict[str, Piece]:
    """Return the settings in a text's words, spelled as on the command line."""
    text = document.text[:MOST_TEXT]
    pieces: dict[str, list[Piece]] = {}
    for rule in rules:
        for match in rule.pattern.finditer(text):
            if value := spelled(rule, match):
                pieces.setdefault(rule.setting, []).append(piece_of(document, match, value))
    for setting, piece in _memory(document):
        pieces.setdefault(setting, []).append(piece)
    return {
        setting: each[0] for setting, each in pieces.items() if len({p.value for p in each}) == 1
    }


def spelled(rule: WordRule, match: "re.Match[str]") -> str:
    """Return a match as on the command line; "" if the rule rejects it."""
    try:
        return rule.spelled(match)
    except (UsageError, ValueError):  # an impossible size
        return ""


def _memory(document: Document) -> Iterator[tuple[str, Piece]]:
    """Yield the host's memory, and if the text names no card, the card's."""
    text = document.text[:MOST_TEXT]
    named = CARD.search(text) is not None
    for match in BYTES.finditer(text):
        setting = whose(match)
        if setting == "ram" or (setting and not named):
            yield setting, piece_of(document, match, f"{match['value']}GiB")


def whose(match: "re.Match[str]") -> str:
    """Return the setting that a number of bytes belongs to; "" if the words do not show it."""
    text, before, end = match.string, _before(match), match.end()
    if OF_HOST.match(text, end) or HOST_BEFORE.search(before):
        return "ram"
    if OF_CARD.match(text, end):
        return "gpu_memory"
    if OF_OTHERS.match(text, end) or TAKEN.search(before):
        return ""
    return "gpu_memory" if CARD_BEFORE.search(before) or is_line(text) else ""


def method(document: Document) -> Piece | None:
    """Return the only training method that a text names and does not deny; None without one."""
    text = document.text[:MOST_TEXT]
    pieces = {}
    for name, pattern in METHODS.items():
        for match in re.finditer(rf"(?i)(?<![a-z])(?:{pattern})s?(?![a-z])", text):
            if "qlora" in pieces and OF_ADAPTERS.match(text, match.end()):
                continue
            pieces[name] = piece_of(document, match, name)
            if DENIED.search(_before(match)):
                return None
    return next(iter(pieces.values())) if len(pieces) == 1 else None


def ran(document: Document) -> str:
    """Return a sentence that ComfyUI finished, and what it left in RAM; "" without its log."""
    text = document.text[:MOST_TEXT]
    ended, left = RAN.search(text), IN_PART.search(text)
    if ended is None:
        return ""
    if left is None:
        return sentence("words.ran", time=ended["time"])
    return sentence("words.ran_in_part", time=ended["time"], mib=left["value"])


def trainer(document: Document) -> Piece | None:
    """Return the only pipeline trainer that a text names, else None."""
    text = document.text[:MOST_TEXT]
    named = [
        piece_of(document, match, program.name)
        for program in told_by("pictures")
        if (match := re.search(program.pictures, text))
    ]
    return named[0] if len(named) == 1 else None


def pipeline(document: Document) -> Piece | None:
    """Return the pipeline of a text: of its file name, else the named one, or the one of its series
    for the stated task (i2v, t2v)."""
    text = document.text[:MOST_TEXT]
    for match in FILE.finditer(text):
        if pipelines.of_file(match["value"]) is not None:
            return piece_of(document, match, match["value"])
    named = named_pipeline(document, plain=is_line(text) and _tells_more(document))
    return None if named is None else named._replace(value=_of_task(named.value, text))


def _tells_more(document: Document) -> bool:
    """Return whether a text is also about memory, pictures or training."""
    text = document.text[:MOST_TEXT]
    words = (CARD, COMFY, TRAINS, BYTES)
    more = (settings(document), trainer(document), any(each.search(text) for each in words))
    return any(more)


def _of_task(name: str, text: str) -> str:
    """Return the pipeline of the same series for the task in the text; else `name`."""
    words = (match["value"].lower() for match in TASK.finditer(text))
    asked = {"i2v" if word.startswith("im") else word for word in words}
    if len(asked) != 1:
        return name
    (task,) = asked
    size = re.search(r"(?i)(?<!\d)(?:480|720)p", text)
    spelled = re.sub(r"(?<=-)(?:ti2v|t2v|i2v)(?=-|$)", task, name)
    other = spelled if spelled != name or task == "t2v" else f"{name}-{task}"
    sized = f"{re.sub(r'-(?:480|720)p$', '', other)}-{size[0].lower()}" if size else other
    return next((one.name for one in map(pipelines.find, (sized, other)) if one is not None), name)
