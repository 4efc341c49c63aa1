"""A question of one line as the command that it means, word by word.

    can I run qwen3-32b on 2x3090 with 32k context     fit qwen3-32b --context 32k --gpu 3090:2
    4张3090能跑qwen3-32b吗                               fit qwen3-32b --gpu 3090:4
    lora微调qwen3-8b，batch size 4，3090                  train qwen3-8b --method lora ...

A number of the line that is in no word of the command was not understood: then there is none.
"""

import re
from itertools import islice

from weighbridge.files.runfiles.cards import card
from weighbridge.files.runfiles.document import Document, documents
from weighbridge.files.runfiles.in_words import named_by, programs
from weighbridge.files.runfiles.named import NAMED, beginnings, models
from weighbridge.files.runfiles.picture_words import (
    BYTES,
    RULES,
    TRAINS,
    WordRule,
    is_line,
    method,
    pipeline,
    plain,
    settings,
    whose,
)
from weighbridge.files.runfiles.text import LAUNCH
from weighbridge.models.catalogue import everyday, pipelines
from weighbridge.workload.train import LEARNS

BEFORE_LENGTH = re.compile(
    r"(?ai)(?:context|ctx|上下文|长度|seq(?:uence)?(?:[ _-]?len(?:gth)?)?"
    r"|max[ _-](?:model[ _-])?len)(?:[ _-](?:length|window|size|of|is))*"
    r"[ :=为是]{0,3}(?P<value>\d{1,4}k|\d{3,7})(?![\w.])"
)
LENGTH = re.compile(
    r"(?ai)(?<![\w.-])(?P<value>\d{1,4}k(?![\w-])|\d{3,7}(?=[ -]?(?:tokens?|context|上下文|长度)))"
)
ASKERS = re.compile(
    r"(?ai)(?<![\w.])(?P<value>\d{1,5}) ?[个名路]?(?:concurrent |simultaneous |parallel )?"
    r"(?:users?|requests?|clients?|people|sessions?|用户|并发|请求|人)"
)
BATCH = re.compile(
    r"(?ai)(?:批大小|批次|\bbs|并发|concurrency)[ :=为是]{0,3}(?P<value>\d{1,5})(?![\w.])"
)
FORM = re.compile(
    r"(?ai)(?<![\w.-])(?P<value>q[2-8]|[48]-?bit|int[48]|awq|gptq|mxfp4|nvfp4)(?![\w-])"
)
OF_LANGUAGE = (
    WordRule("context", BEFORE_LENGTH, plain),
    WordRule("context", LENGTH, plain),
    WordRule("batch_size", ASKERS, plain),
    WordRule("batch_size", BATCH, plain),
    WordRule("quantization", FORM, plain),
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
    if not is_line(text) or LAUNCH.search(text):
        return []
    (document,) = documents(text.strip(), "text", "the text")
    named, pictured = models(document), pipeline(document)
    names = [piece.value for piece in named[:MOST_MODELS]] or _plain_names(text)
    if pictured is not None and not named:
        names = [pictured.value]
    engines = programs(document)
    if not names or len(engines) > 1:
        return []
    asked = _settings(document, " ".join(names))
    for engine in engines:
        asked |= named_by(engine.program)
    line = [
        *_task(document, "gpu" in asked, names[0] if pictured is not None and not named else "")
    ]
    if line[0] == "train" or "--for" in line:
        asked = {"seq_len" if name == "context" else name: asked[name] for name in asked}
    line.insert(1, " ".join(names[:1]))
    line[2:2] = names[1:]
    for name, value in asked.items():
        line += [f"--{name.replace('_', '-')}", value]
    typed = " ".join(line)
    numbers = re.findall(r"\d+(?:\.\d+)?", text)
    return line if all(number in typed for number in numbers) else []


def _plain_names(text: str) -> list[str]:
    """Return the first name in words alone, or tag, that the catalogue takes, else a size: "mistral
    small", "70b"; [] of none."""
    phrases = (match[1] for pattern in (TAG, NAMED) for match in pattern.finditer(text))
    names = (name for phrase in phrases for name in beginnings(phrase))
    known = (n for n in names if re.search(r"[ :\d-]", n) and everyday.meaning(n) is not None)
    return [*islice(known, 1)] or SIZE.findall(text)[:1]


def _task(document: Document, has_card: bool, pipeline: str) -> tuple[str, ...]:
    """Return the command that a line asks, and what it is told beside settings."""
    text, way = document.text, method(document)
    learned = LEARNED.search(text)
    counts = ("--smallest", "count") if COUNTS.search(text) and has_card else ()
    if learned or way is not None or (pipeline and TRAINS.search(text)):
        named = learned[1].lower() if learned else way.value if way is not None else "lora"
        return ("train-image" if pipeline else "train", "--method", named)
    if pipeline and not has_card:
        entry = pipelines.find(pipeline)
        return ("video" if entry and entry.recipe.get("kind") == "video" else "image",)
    if TRAINS.search(text):
        return ("fit", "--for", "train" if FULL.search(text) else "lora", *counts)
    if WHICH.search(text) and not has_card:
        return ("fit", "--smallest", "gpu")
    return ("fit", *counts) if has_card else ("infer",)


def _settings(document: Document, names: str) -> dict[str, str]:
    """Return the settings that a line says, as they are typed, but for a format in its model's
    name; a card that it names no more of than its size is one that is sold with that."""
    asked = {n: p.value for n, p in settings(document, (*RULES, *OF_LANGUAGE)).items()}
    if asked.get("quantization", "\n").lower() in names.lower():
        del asked["quantization"]
    asked.pop("gpu_memory", None)
    named = card(document)
    sizes = [m["value"] for m in BYTES.finditer(document.text) if whose(m) != "ram"]
    if named is not None:
        asked["gpu"] = named.value
    elif len(sizes) == 1:
        asked["gpu"] = f"{sizes[0]}gb"
    return asked
