"""A question of one line as the command that it means, word by word.

    can I run qwen3-32b on 2x3090 with 32k context     fit qwen3-32b --context 32k --gpu 3090:2
    4张3090能跑qwen3-32b吗                               fit qwen3-32b --gpu 3090:4
    lora微调qwen3-8b，batch size 4，3090                  train qwen3-8b --method lora ...

A number of the line that is in no word of the command was not understood: then there is none.
"""

import re
from collections.abc import Iterator, Mapping
from itertools import chain, islice

from weighbridge.base.errors import UsageError
from weighbridge.files.runfiles import in_words, picture_words
from weighbridge.files.runfiles.cards import card
from weighbridge.files.runfiles.document import Document, documents
from weighbridge.files.runfiles.named import NAMED, beginnings, models
from weighbridge.files.runfiles.picture_words import whose
from weighbridge.files.runfiles.text import LAUNCH
from weighbridge.models.catalogue import everyday, pipelines
from weighbridge.workload.train import LEARNS

TOKENS = re.compile(
    r"(?ai)(?:context|ctx|上下文|长度|seq(?:uence)?(?:[ _-]?len(?:gth)?)?"
    r"|max[ _-](?:model[ _-])?len)(?:[ _-](?:length|window|size|of|is))*"
    r"[ :=为是]{0,3}(\d{1,4} ?k|\d{3,7})(?![\w.])"
    r"|(?<![\w.])(\d{1,7} ?k?)[ -]?(?:tokens?|context|ctx|上下文|长度)"
    r"|(?<![\w.-])(\d{1,4}k)(?![\w-])"
)
ASKERS = re.compile(
    r"(?ai)(?<![\w.])(\d{1,5}) ?[个名路]?(?:concurrent |simultaneous |parallel )?"
    r"(?:users?|requests?|clients?|people|sessions?|用户|并发|请求|人)"
    r"|(?:并发|concurrency)[ :=为是]{0,3}(\d{1,5})"
)
BATCH = re.compile(r"(?ai)(?:批大小|批次|\bbs)[ :=为是]{0,3}(\d{1,4})(?![\w.])")
FORM = re.compile(
    r"(?ai)(?<![\w.-])(q[2-8]|[48][ -]?bit|int[48]|awq|gptq|mxfp4|nvfp4|[48]比特)(?![\w-])"
)
TAG = re.compile(r"(?a)(?<![\w/.])([a-z][a-z0-9.-]*:\d[\w.-]*)")
COUNTS = re.compile(r"(?ai)\bhow many\b|几[张块卡]|多少[张块卡]")
WHICH = re.compile(
    r"(?ai)\b(?:what|which|minimum|smallest|cheapest) (?:\w+ )?(?:gpu|card)"
    r"|什么(?:显?卡|GPU)|哪[张种款]"
)
FULL = re.compile(r"(?ai)\bfull(?:y)?\b")
SIZE = re.compile(r"(?ai)(?<![\w.-])(\d{1,4}(?:\.\d)?b)(?![\w-])")  # of a model without a name
LEARNED = re.compile(rf"(?ai)(?<![\w-])({'|'.join(LEARNS)})(?![\w]|-[\w.]*\d[bB])")
MOST_MODELS = 4


def words(text: str) -> list[str]:
    """Return the words of the command that a line asks; [] of what is no line of words with a model
    in it, of one with a command in it, and where a number of it was not understood."""
    if not picture_words.is_line(text) or LAUNCH.search(text):
        return []
    (document,) = documents(text, "text", "the text")
    pictured = picture_words.pipeline(document)
    names = [piece.value for piece in models(document)] or list(_plain_names(text))
    names = [pictured.value] if pictured is not None and not names else names[:MOST_MODELS]
    programs = in_words.programs(document)
    if not names or len(programs) > 1:
        return []
    asked = {**_settings(document, " ".join(names)), **_cards(document)}
    for program in programs:
        asked |= in_words.named_by(program.program)
    pipeline = names[0] if pictured is not None and names == [pictured.value] else ""
    task, *more = _task(document, not asked.keys().isdisjoint(("gpu", "gpu_memory")), pipeline)
    if task == "train" or "--for" in more:
        asked["seq_len"] = asked.pop("context", "")
    asked = {name: value for name, value in asked.items() if value}
    flags = ((f"--{name.replace('_', '-')}", value) for name, value in asked.items())
    line = [task, *names, *more, *chain.from_iterable(flags)]
    said = " ".join(line)
    numbers = re.findall(r"\d+(?:\.\d+)?", text)
    return line if all(number in said for number in numbers) else []


def _plain_names(text: str) -> Iterator[str]:
    """Yield the first name in words alone, or tag, that the catalogue takes, else a size: "mistral
    small", "70b"."""
    for match in (*TAG.finditer(text), *NAMED.finditer(text)):
        for name in beginnings(match[1]):
            if re.search(r"[ :\d-]", name) and everyday.meaning(name) is not None:
                yield name
                return
    yield from (match[1] for match in islice(SIZE.finditer(text), 1))


def _task(document: Document, has_card: bool, pipeline: str) -> tuple[str, ...]:
    """Return the command that a line asks, and what it is told beside settings."""
    text, method = document.text, picture_words.method(document)
    learned = LEARNED.search(text)
    trains = picture_words.TRAINS.search(text) is not None or method is not None
    counts = ("--smallest", "count") if COUNTS.search(text) and has_card else ()
    if pipeline and not trains:
        entry = pipelines.find(pipeline)
        kind = "video" if entry and entry.recipe.get("kind") == "video" else "image"
        return ("fit",) if has_card else (kind,)
    if pipeline or learned or method is not None:
        named = learned[1].lower() if learned else method.value if method is not None else "lora"
        return ("train-image" if pipeline else "train", "--method", named)
    if trains:
        return ("fit", "--for", "train" if FULL.search(text) else "lora", *counts)
    if WHICH.search(text) and not has_card:
        return ("fit", "--smallest", "gpu")
    return ("fit", *counts) if has_card else ("infer",)


def _settings(document: Document, names: str) -> dict[str, str]:
    """Return the settings that a line says, as they are typed; not what its model's name says."""
    pieces = {name: piece.value for name, piece in picture_words.settings(document).items()}
    for name, pattern in (("context", TOKENS), ("batch_size", ASKERS), ("batch_size", BATCH)):
        for match in pattern.finditer(document.text):
            pieces[name] = next(filter(None, match.groups())).replace(" ", "")
    for match in FORM.finditer(document.text):
        pieces["quantization"] = match[1].replace("比特", "bit").replace(" ", "-")
    form = pieces.get("quantization", "").lower()
    if form and form in names.lower():
        del pieces["quantization"]
    return pieces


def _cards(document: Document) -> Mapping[str, str]:
    """Return the cards of a line: those that it names, or one of the size that it says, as it is
    sold."""
    named = card(document)
    if named is not None:
        return {"gpu": named.value, "gpu_memory": ""}
    sizes = [m for m in picture_words.BYTES.finditer(document.text) if whose(m) != "ram"]
    sold = f"{sizes[0]['value']}gb" if len(sizes) == 1 else ""
    return {"gpu": sold, "gpu_memory": ""} if sold and _is_sold(sold) else {}


def _is_sold(size: str) -> bool:
    """Tell whether cards are sold by this size: 24gb."""
    from weighbridge.machines.accelerators.names import find

    try:
        return find(size).part.name.endswith("GB card")
    except UsageError:
        return False
