"""A question of one line as the command that it means, read by consumption.

    can I run qwen3-32b on 2x3090 with 32k context     fit qwen3-32b --context 32k --gpu 3090:2
    4张3090能跑qwen3-32b吗                               fit qwen3-32b --gpu 3090:4
    lora微调qwen3-8b，batch size 4，3090                  train qwen3-8b --method lora ...
    qwen3-8b on a 4090 with 7 hats                     fit ... --not-understood '7 hats'

Each word is taken by a rule, or is in a closed list of words that decide nothing (spoken.toml), or
is typed behind --not-understood, which leaves the answer open. Rules are tried one after another on
what is left, so that "8-bit adam" is an optimizer before "8-bit" could be a format of weights.
"""

import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from itertools import islice, pairwise
from typing import Any

from weighbridge.base.errors import UsageError
from weighbridge.base.parsed import text_beside
from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import sentence
from weighbridge.files.programs import Program, told_by
from weighbridge.files.runfiles.cards import (
    CARD,
    COUNT,
    COUNTED_BY,
    MACHINE,
    NODES,
    card,
    count_of,
    part_id,
)
from weighbridge.files.runfiles.document import Document, documents
from weighbridge.files.runfiles.in_words import USUAL, named_by
from weighbridge.files.runfiles.named import NAMED, beginnings, models, stored
from weighbridge.files.runfiles.picture_words import (
    BYTES,
    OF_CARD,
    OF_HOST,
    RULES,
    WordRule,
    is_line,
    method,
    pipeline,
    plain,
    spelled,
    whose,
)
from weighbridge.files.runfiles.slurm import times
from weighbridge.files.runfiles.text import LAUNCH
from weighbridge.models.catalogue import everyday, pipelines
from weighbridge.settings.setting import Setting
from weighbridge.training.frameworks import FRAMEWORKS
from weighbridge.workload import FSDP, INFER, TABLES, TRAIN, engines_of
from weighbridge.workload.train import LEARNS

TAKEN = "\x1f"  # replaces each character that a rule has taken
NUMBER = r"\d{1,7}"
LENGTH = re.compile(r"(?ai)(?<![\w.-])(?P<value>\d{1,4}k)(?![\w-])")
FORM = re.compile(
    r"(?ai)(?<![\w.-])(?P<value>q[2-8]|[2-68][- ]?bit|int[48]|awq|gptq|mxfp4|nvfp4)s?(?![\w-])"
)
OF_LANGUAGE = (
    WordRule("context", LENGTH, plain),
    WordRule("quantization", FORM, lambda match: match["value"].replace(" ", "-")),
)
COUNTS = re.compile(
    r"(?ai)\bhow many\b"
    r"(?! (?:concurrent|simultaneous|parallel|users|requests|clients|people|persons|tokens))"
    r"|几[张块卡]|多少[张块卡]"
)
WHICH = re.compile(
    r"(?ai)\b(?:what|which|minimum|smallest|cheapest) (?:\w+ )?(?:gpu|card)"
    r"|什么(?:显?卡|GPU)|哪[张种款]"
)
TRAINS = re.compile(
    r"(?i)(?<![a-z])(?:fine[ -]?tun(?:e[sd]?|ing)|ft|(?:continue(?:d)? )?(?:pre[ -]?)?train(?:ing)?"
    r"|sft|dreambooth)(?![a-z])|(?:预|再)?训练?|微调|精调"
    r"|(?<!with )(?<!with a )\bloras? (?:on|in)(?= (?:a |my )?\d{1,3} ?gb)"
)
PRETRAINS = re.compile(r"(?i)pre[ -]?train|from scratch|预训练|从头")
MODELS = re.compile(
    r"(?ai)\b(?:what|which)(?: (?:\w+ )?(?:models?|llms?))? (?:can|could|will) (?:i )?"
    r"(?:(?:run|fit)\b|(?=(?:q?lora|fine[ -]?tune|train)\b))"
    r"|\b(?:what|which) (?:models?|llms?) (?:run|fit|work)s?(?= (?:on|in|into|with)\b)"
    r"|\b(?:what's|what is|which is) the (?:best|biggest|largest) (?:model|llm|thing)s?"
    r"(?: (?:i|we) can run)?"
    r"|\b(?:can|could|will) (?:run|fit|handle) (?:what|which)(?: models?| llms?)?(?!\w)"
    r"|\b(?:best|largest|biggest)(?: (?:local|open|ai|chat|language))? (?:models?|llms?)"
    r"(?= (?:for|on|to|that|in)\b)|\bhow (?:big|large)(?: of)? an? (?:model|llm)s?\b"
    r"|(?:能|可以)跑(?:什么|哪些|多大的?)(?:大?模型)?|多大的?模型"
)
FULL = re.compile(  # "full" of the training named behind it, not of "full context"
    r"(?ai)\bfull(?:y)?(?:[ -](?:parameter|weights?))?"
    rf"(?=[ -]*(?:(?:bf|fp)16 )?(?:fine|ft|pre|train|tun|sft|{TAKEN}|[,.)?]|$))|全参数?|全量"
    r"|\bfull[ -](?:param(?:eter)?s?|weights?)\b"
)
AMOUNT = re.compile(r"(?i)\bhow much\b|\brequirements?\b|多少")
SERVES = re.compile(r"(?i)\b(?:serv(?:e|ing)|inference|deploy(?:ing)?|host(?:ing)?)\b|部署|推理")
SIZE = re.compile(r"(?ai)(?<![\w.-])(\d{1,4}(?:\.\d)?b)(?![\w-])")  # a model's size without a name
LEARNED = re.compile(rf"(?ai)(?<![\w-])({'|'.join(LEARNS)})(?![\w]|-[\w.]*\d[bB])")
METHOD = re.compile(r"(?ai)(?<![a-z])(?:qlora|dora|loha|lokr|lora)s?(?![a-z])")
CHIP = r"m[1-5](?: (?:pro|max|ultra))?"
MAC = re.compile(  # 16GB Mac mini, MacBook Air M4 24GB, M2 Mac with 8GB
    rf"(?i)(?<![a-z0-9])(?:(?P<first>\d{{1,3}}) ?gb )?(?:apple )?(?:(?P<before>{CHIP}) )?"
    rf"(?:(?P<middle>\d{{1,3}}) ?gb )?(?:imac|mac(?:book)?|(?<=m\d )air)s?"
    rf"(?: (?:mini|studio|pro|air))*(?: (?P<chip>{CHIP}))?"
    r"(?:(?: with| has|,)?[ (]{1,2}(?P<size>\d{1,3}) ?gb?)?(?![a-z0-9])"
    r"(?: (?:of )?(?:unified )?(?:memory|ram))?"
)
ADAPTERS = re.compile(  # adapters that a run uses but does not train
    r"(?ai)\d (?:lora[ -]?)?(?:adapters|loras)\b|\bwith (?:an?|one|two|my|some) (?:\w+ )?loras?\b"
    r"|\+ ?(?:\w+ )?loras?\b(?! (?:train|fine|tun))"
    r"|\b(?:lightx2v|lightning|turbo|hyper|lcm|causvid|distill(?:ed|ation)?) loras?\b(?! ?train)"
)
BEHIND = re.compile(rf"(?<={TAKEN}) ?(?P<count>[一两二三四五六七八]|\d{{1,2}}) ?[张块卡]")
SLICE = re.compile(  # a part of a card: "one MIG slice 3g.40gb of an A100"
    r"(?ai)(?<![\w.-])(?:(?:an?|one|1|mig|slice|with) )*(\d+g\.\d+gb)(?: mig)?(?: slice)?(?: of)?"
)
LAPTOP = re.compile(r"(?i)\b(?:laptop|notebook)\b|笔记本")
OF_LAPTOP = re.compile(r"(?i) (?:laptop|mobile)$")  # as cards.py has it in names
BARE = re.compile(  # a word that may be a card's name, and is not of a longer one: 4060 of 4060 Ti
    r"(?ai)(?<![\w.+/%'\u2019-])(?:[a-z]+\d+[a-z]{0,2}|\d{3,4})"
    r"(?![\w+/%'\u2019-]|\.\w| (?:ti|super|xtx?|gre)\b)"
)
WORD = re.compile(r"[A-Za-z0-9](?a:[\w.+/%'\u2019-]*)|[\u4e00-\u9fff]+")
COUNTED = re.compile(  # before a size: two 16GB cards
    r"(?ai)(?<![\w.])(?P<count>\d{1,2}|two|dual|three|four|six|eight|[两双三四六八])"
    r"(?: ?[x\u00d7*张块卡]| (?:gpus|cards) (?:with|of|having))? ?$"
)
MANY = re.compile(  # before a card's name: 2 p40, 4x a10g
    rf"(?ai)(?<![\w.-])(?P<count>\d{{1,2}})(?: ?x ?|(?<!{TAKEN}.) )$"
)
BELOW = re.compile(r"(?<![^\s(])-$")  # the minus sign of a size
NO_CARDS = (  # before a card's name: 0 4090s, -2 x 4090
    r"(?ai)(?<![\w.-])(?:-\d{{1,4}}|0{{1,4}}|zero|零) ?[x\u00d7*张块]? ?"
    r"(?:(?:nvidia|geforce|rtx|amd|radeon) )*{}s?(?![\w-])"
)
ENOUGH = re.compile(r"(?i) ?(?:be )?(?:enough|sufficient|够)")
EITHER = re.compile(  # between cards that are alternatives
    r"(?i) ?(?:[,\uff0c\u3001/]|或者?|还是|,? ?\b(?:or|vs\.?|versus)\b) ?"
    r"(?:(?:on|an?|one|my|the|single|used|old|new|second-?hand) )*"
)
BOTH = re.compile(  # between cards of one machine
    r"(?i) ?(?:\+|&|\band\b|\bplus\b|\bwith\b|和|加|跟) ?(?:(?:an?|one|my|another|used|old) )*"
)
NOTHING = re.compile(r"(?!)")
SERVED_TOO = ("offload", "precision", "rollout_tp")  # training's, but people say it of serving
SOUGHT = {"context": "context", "users": "batch_size", "batch": "batch_size"}  # by --max
OF_FIT = ("max", "as_published")  # options of `fit` that are no settings
REQUESTED = {"image": "infer", "video": "infer", "train-image": "train"}  # command -> task
MOST_MODELS = 4
# Settings that rank models: name in a question -> name in `models`
RANKED = {"context": "min_context", "engine": "engine", "quantization": "quantization"}
UNKNOWN = re.compile(  # gtp-oss-120b, MiniCPM-V 4.5
    r"(?a)(?<![\w.-])[A-Za-z][\w.]*-(?:[\w.-]*\d[\w.]*|[\w.-]+ \d{1,2}\.\d(?![\w.]))"
)
MOST_UNREAD = 8  # unread words of a question; a text with more is something else
# Of a message, which a program wrote, and of a command, which has flags and names files. People say
# that something runs out of memory, or when it does
NO_QUESTION = re.compile(
    r"(?i)(?<!run )(?<!runs )(?<!ran )(?<!running )(?<!goes )(?<!going )(?<!went )(?<!get )"
    r"(?<!gets )(?<!getting )(?!^out of memory (?:when|while|with|on|during|for)\b)"
    r"\bout of memory\b|\berror\b|\bexception\b|traceback|\bfailed\b|[{}\[\]]"
    r"|\.(?:py|ya?ml|toml|sh|json)\b"
)
FLAG = re.compile(r"(?a)(?:^|\s)--[a-z]")
# Marks of a config, code, a Modelfile, Markdown or a prompt: their lines are not one sentence
OF_A_FILE = re.compile(
    r"(?m)^\s*(?:(?:- )?[a-z][\w.-]*\s*[:=]|\w+_\w+\s*[:=]|(?:FROM|PARAMETER|ENV|RUN) |[$>#]\s)"
    r"|^\s*[\w.-]+[:=]\s*$|[<|`;]"
)
LISTED = re.compile(r"\n\s*(?:[-*\u2022] |(?=[A-Z]\w*: ))")  # "GPU: 4090" on a line of its own


class Spoken(NamedTuple):
    """A row of spoken.toml: a pattern of words, and the setting and value that they mean."""

    setting: str
    pattern: "re.Pattern[str]"
    value: str
    tasks: tuple[str, ...]
    usual: Mapping[str, str]  # settings that such a line implies, unless it states others

    def typed(self, match: "re.Match[str]") -> str:
        """Return the value of a match, spelled as on the command line."""
        groups = {name: value or "" for name, value in match.groupdict().items()}
        return self.value.format(all=re.sub(r"[ -]", "_", match[0].lower()), **groups)


class SpokenRules(NamedTuple):
    """The rules of spoken.toml: words for settings, and words without effect."""

    settings: tuple[Spoken, ...]
    phrases: "re.Pattern[str]"
    english: frozenset[str]
    chinese: "re.Pattern[str]"
    names: Mapping[str, str]  # everyday name -> name in our tables


@cache
def _rules() -> SpokenRules:
    """Return the rules of spoken.toml."""
    data = tomllib.loads(text_beside(__file__, "spoken.toml"))
    rows = tuple(
        Spoken(
            row["setting"],
            _pattern(row["pattern"]),
            row["value"],
            tuple(row.get("tasks", ())),
            row.get("usual", {}),
        )
        for row in data["says"]
    )
    nothing = data["nothing"]
    chinese = sorted(nothing["chinese"].split(), key=len, reverse=True)
    return SpokenRules(
        settings=rows,
        phrases=_pattern("|".join(nothing["phrases"])),
        english=frozenset(nothing["english"].split()),
        chinese=re.compile("|".join(chinese)),
        names=data["names"],
    )


def _pattern(text: str) -> "re.Pattern[str]":
    return re.compile(rf"(?ai)(?<![\w.-])(?:{text.replace('{n}', NUMBER)})(?![a-z0-9-])")


class Line:
    """A line of prose, read by consumption. `left`: its text, with TAKEN for each consumed
    character."""

    def __init__(self, text: str) -> None:
        self.left = text
        self.strange: list[str] = []  # words for what no setting of ours covers

    @property
    def document(self) -> Document:
        """Return the unconsumed rest as a document for the readers of texts."""
        return documents(self.left, "text", "the text")[0]

    def take(self, start: int, end: int) -> None:
        """Consume the characters from `start` to `end`."""
        self.left = self.left[:start] + TAKEN * (end - start) + self.left[end:]

    def find(self, pattern: "re.Pattern[str]") -> list["re.Match[str]"]:
        """Return all matches of a pattern in the unconsumed rest, and consume them."""
        matches = [match for match in pattern.finditer(self.left) if match[0]]
        for match in matches:
            self.take(match.start(), match.end())
        return matches

    def name(self, value: str) -> None:
        """Consume a model's name wherever it occurs, with a next word that does not change its
        meaning: "70b" is also "70 b", and "deepseek r1" may be followed by "671b"."""
        spelled_so = re.escape(value).replace(r"\ ", " ").replace("b", " ?b").replace("B", " ?B")
        for match in self.find(re.compile(rf"(?i){spelled_so}")):
            behind, meant = WORD.match(self.left, match.end() + 1), stored(value)
            same = behind and meant and meant == stored(f"{value} {behind[0]}")
            if behind and same and not behind[0].isdigit():
                self.take(behind.start(), behind.end())

    def words(self) -> Iterator[str]:
        """Yield the unconsumed words that could change the answer."""
        rules = _rules()
        yield from self.strange
        self.find(rules.phrases)
        for match in WORD.finditer(self.left):
            word = match[0].rstrip(".'\u2019-%/").lower().replace("\u2019", "'")
            if not word.isascii():
                word = rules.chinese.sub("", word)
            if word and word not in rules.english:
                yield word


class AskedQuestion(NamedTuple):
    """A question as a command: its `task`, its models, and its options and settings as on the
    command line; "" for a switch."""

    task: str
    models: Sequence[str]
    settings: Mapping[str, str]

    @property
    def words(self) -> list[str]:
        """Return the words of the command."""
        typed = [self.task, *self.models]
        for name, value in self.settings.items():
            typed += [f"--{name.replace('_', '-')}", *((value,) if value else ())]
        judged = self.task.startswith("train") and "gpu" in self.settings
        return [*typed, *(("--check",) if judged else ())]  # a question's exit code is its verdict

    def request(self, workload: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the question as a request; the caller's settings in `workload` take precedence.
        Raises UsageError unless it is about exactly one model."""
        if len(self.models) != 1:
            raise UsageError(sentence("request.one_model", names=", ".join(self.models) or "-"))
        spoken = {name: value or True for name, value in self.settings.items()}
        task = REQUESTED.get(self.task, self.task)
        return {"task": task, "model": self.models[0], "workload": {**spoken, **(workload or {})}}


def read(text: str) -> AskedQuestion | None:
    """Return the question in a line or in several lines of prose, with what no rule consumed as
    `not_understood`. None for text without a model, for a command or a message."""
    text = _one_line(text)
    if not is_line(text) or LAUNCH.search(text) or NO_QUESTION.search(text):
        return None
    if FLAG.search(text) and not CARD.search(text):  # a command of a program that nobody knows
        return None
    line = Line(text.strip())
    whole = line.document
    has_card = "gpu" in _device(Line(line.left))
    makes = "" if models(whole) else getattr(pipeline(whole), "value", "")
    named = [makes] if makes else _names(line)
    if not named and (which := _which_models(line)):
        return which
    named = named or _unknown_name(line)
    if not named:
        return None
    task, options = _task(line, has_card, makes)
    settings = Settings(line, task, trains="for" in options, makes=bool(makes))
    settings.take_named()  # before names and cards: "tp 2 3090" are not two cards
    if makes:
        _take_pipeline(line)
    else:
        named = _names(line) or named
    for name in sorted(named, key=len, reverse=True):  # a name may be the end of a longer one
        line.name(name)
    device, engines = _device(line), _programs(line, "pictures" if makes else "words")
    asked = settings.take_rest()
    if asked.get("quantization", "\n").lower() in " ".join(named).lower():
        del asked["quantization"]
    program = _program(line, engines, task, options)
    if settings.about == "train":
        asked |= _implied_by_sharding({**asked, **program}, packed="qlora" in options.values())
    if not program and settings.about == "infer":
        program = _engine_of(asked)
    unread = [*line.words()]
    if len(unread) > MOST_UNREAD:
        return None
    left = {"not_understood": " ".join(unread)} if unread else {}
    return AskedQuestion(task, named, {**options, **asked, **device, **program, **left})


def _implied_by_sharding(asked: Mapping[str, str], *, packed: bool) -> dict[str, str]:
    """Return the settings that sharding and offloading imply, in a question about training."""
    offload, shard, implied = asked.get("offload"), asked.get("shard"), dict[str, str]()
    if offload and not shard:  # offloading needs sharding
        implied["shard"] = shard = "fsdp2" if packed else "zero3"
    if offload == "params" and shard in ("zero1", "zero2"):
        implied["offload"] = "optimizer"  # all that these can offload
    trainer = FRAMEWORKS.get(asked.get("framework", USUAL))
    stored = "bnb_4bit_quant_storage" in asked
    if packed and not stored and shard in FSDP and trainer is not None and trainer.accelerate:
        implied["bnb_4bit_quant_storage"] = "bfloat16"  # else FSDP does not shard them
    return implied


def _one_line(text: str) -> str:
    """Return prose of several lines as one line, with names spelled as in our tables."""
    if not OF_A_FILE.search(text):
        text = " ".join(LISTED.sub(", ", text).split())
    for name, spelled_so in _rules().names.items():
        text = text.replace(name, spelled_so)
    return text


def words(text: str) -> list[str]:
    """Return the words of the command that a line means; [] if it means none."""
    question = read(text)
    return [] if question is None else question.words


def _which_models(line: Line) -> AskedQuestion | None:
    """Return the question which models a card runs or trains; None if the line asks something
    else."""
    device = _device(line) if line.find(MODELS) else {}
    if "gpu" not in device:
        return None
    way = [match[0].lower() for pattern in (METHOD, TRAINS) for match in line.find(pattern)]
    trains = {"for": "qlora" if "qlora" in way else "lora"} if way else {}
    settings = Settings(line, "infer", trains=bool(way), makes=False)
    settings.take_named()
    program = _program(line, _programs(line, "words"), settings.about, {})
    asked = {**settings.take_rest(), **program}
    ranked = {name: asked.pop(key) for key, name in RANKED.items() if key in asked}
    asked |= {"ram": device["ram"]} if "ram" in device else {}
    left_over = (f"{name} {value}".replace("_", " ").strip() for name, value in asked.items())
    unread = [*line.words(), *left_over]
    if len(unread) > MOST_UNREAD:
        return None
    left = {"not_understood": " ".join(unread)} if unread else {}
    return AskedQuestion("models", (), {"gpu": device["gpu"], **trains, **ranked, **left})


def _take_pipeline(line: Line) -> None:
    """Consume the words that name a pipeline: the longest beginning of a phrase that means one."""
    for match in NAMED.finditer(line.left):
        for begun in beginnings(match[1]):
            one = pipelines.find(begun)
            if one is not None:
                line.take(match.start(1), match.start(1) + len(begun))
                break
    line.find(
        re.compile(
            r"(?i)(?<![a-z0-9])(?:ti2v|i2v|t2v|(?:image|img|text)[ -]?(?:to|2)[ -]?vid\w*|"
            r"(?:text[ -]?(?:to|2)[ -]?)?(?:image|img|picture|photo)s?(?![a-z]))|"
            r"文?生图|图[片像]|画图"
        )
    )


def _names(line: Line) -> list[str]:
    """Return the models named in a line; else the first plain-word name in the catalogue ("mistral
    small"); else a size ("70b"); [] without any."""
    if named := models(line.document):
        return [piece.value for piece in named[:MOST_MODELS]]
    names = (name for match in NAMED.finditer(line.left) for name in beginnings(match[1]))
    known = (n for n in names if re.search(r"[ :\d-]", n) and everyday.meaning(n) is not None)
    return [*islice(known, 1)] or SIZE.findall(line.left)[:1]


def _unknown_name(line: Line) -> list[str]:
    """Return the only word in a line with a card that looks like a model's name, so that the error
    can suggest the nearest name; [] for none or several."""
    rest = Line(line.left)
    if not _device(rest):
        return []
    names = {match[0] for match in UNKNOWN.finditer(rest.left)}
    return [*names] if len(names) == 1 else []


def _device(line: Line) -> dict[str, str]:
    """Return the line's cards as `gpu`, or the one size it states instead, and its host memory as
    `ram`; consume their words."""
    if mac := _only_mac(line):
        return {"gpu": mac}
    said = line.left
    sizes = [*_sizes(line)]
    of_card = [size for size in sizes if size.of == "gpu_memory"]
    ram = {size.gb for size in sizes if size.of == "ram"}
    one = of_card[0] if len({size.gb for size in of_card}) == 1 else None
    unsure = partial(_card_of_ambiguous_name, line, one.gb if one else "")
    value = _cards(line) or _joined_cards(line) or unsure() or _bare_card_name(line)
    line.find(LAPTOP if not value or "Laptop" in value else NOTHING)
    if one is not None and not value:
        value = _cards_by_size(line, one)
    elif one is not None and ":" not in value and part_id(f"{value} {one.gb}GB"):
        value = f"{value} {one.gb}GB"
    for gb in ram:  # host memory: no such card is sold with that size
        value = value.removesuffix(f" {gb}GB") if part_id(value) == f"{gb}gb" else value
    for size in sizes:  # the size adds nothing to the card's name
        of_it = size.of == "gpu_memory" and size.gb.strip("-") in re.findall(r"\d+", value)
        if of_it or (size.of == "ram" and len(ram) == 1):
            line.take(size.start, size.end)
        elif TAKEN in line.left[size.start : size.end]:  # a size that this card is not sold with
            line.strange.append(f"{size.gb}GB")
    for match in line.find(SLICE) if value else ():
        sliced = f"{value} {match[1]}", f"{value} 80GB {match[1]}"
        value = next(filter(part_id, sliced), value)
    named = value.partition(":")[0]
    if value and re.search(NO_CARDS.format(re.escape(named)), said):
        value = f"{named}:0"  # no count, as is told
    found = {"gpu": value} if value else {}
    return {"ram": f"{min(ram)}GiB", **found} if len(ram) == 1 else found


def _cards(line: Line) -> str:
    """Consume the named cards and return them with their count; "" for none or several kinds."""
    named = card(line.document)
    if named is None:
        return ""
    value, cards = named.value, line.find(CARD)
    counted = [one for one in cards if any(one[group] for group in COUNTED_BY)]
    most = max(map(count_of, counted), default=1)  # "1 x L4, or two L4s" is not about one number
    line.strange += [one[0] for one in counted if count_of(one) < most]
    for pattern in (MACHINE, COUNT, NODES):
        line.find(pattern)
    if ":" not in value and (behind := line.find(BEHIND)):
        value = f"{value} {behind[0]['count']}卡"
    laptop = re.sub(r"(?= \d+GB$)|$", " Laptop", value, count=1)
    return laptop if LAPTOP.search(line.left) and part_id(laptop) else value


def _card_of_ambiguous_name(line: Line, size: str) -> str:
    """Consume the first card with an ambiguous name, and return the laptop's, or the one with
    `size` gigabytes, as the line states elsewhere; "" for none."""
    for match in CARD.finditer(line.left):
        laptop = f"{match['name']} Laptop" if LAPTOP.search(line.left) else ""
        sized = f"{match['name']} {size}GB" if size else ""
        known = next(filter(part_id, (laptop, sized)), "")
        unknown = OF_LAPTOP.search(match["name"]) and not part_id(match["name"])
        if known or unknown:  # not the desktop card: the refusal lists the known ones
            line.take(*match.span())
            return times(known or match["name"], count_of(match))
    return ""


def _joined_cards(line: Line) -> str:
    """Consume cards that are alternatives, "a 3090 or a 4090", or in one machine, "a 3090 and a
    3060". Return them joined by commas or plus signs; "" if anything else is between them."""
    found = [*CARD.finditer(line.left)]
    between = [line.left[a.end() : b.start()] for a, b in pairwise(found)]
    each = [card(Line(match[0]).document) for match in found]
    if len(found) < 2 or None in each:
        return ""
    for sign, pattern in ((",", EITHER), ("+", BOTH)):
        if all(map(pattern.fullmatch, between)):
            line.take(found[0].start(), found[-1].end())
            return sign.join(piece.value for piece in each if piece)
    return ""


def _cards_by_size(line: Line, size: "Size") -> str:
    """Return the cards of a line that states only their size and number; consume the number."""
    value = f"{size.gb}gb"
    counted = COUNTED.search(line.left, 0, size.start)
    if counted is None or not part_id(f"{counted['count']} {value}"):
        return value
    line.take(counted.start(), counted.end())
    return f"{counted['count']} {value}"


class Size(NamedTuple):
    """A number of gigabytes in a line, and the setting it belongs to."""

    gb: str
    of: str  # "ram" or "gpu_memory"
    start: int
    end: int


def _sizes(line: Line) -> Iterator[Size]:
    """Yield the memory sizes that a line states for cards and host."""
    for match in BYTES.finditer(line.left):
        below = "-" if BELOW.search(line.left, 0, match.start()) else ""  # no size, as is told
        if of := whose(match) or (ENOUGH.match(line.left, match.end()) and "gpu_memory"):
            behind = (OF_HOST if of == "ram" else OF_CARD).match(line.left, match.end())
            yield Size(below + match["value"], of, match.start(), (behind or match).end())


def _bare_card_name(line: Line) -> str:
    """Consume the only word with a digit that is a card's name ("t4", "2060"); return it, ""
    without one."""
    cards = [match for match in BARE.finditer(line.left) if part_id(match[0])]
    if len(cards) != 1:
        return ""
    (only,) = cards
    counted = MANY.search(line.left, 0, only.start())
    line.take(counted.start() if counted else only.start(), only.end())
    return f"{only[0]}:{counted['count']}" if counted else only[0]


def _only_mac(line: Line) -> str:
    """Consume the only Mac with its memory and return it; "" if none. The chip does not change the
    estimate."""
    macs = [m for m in MAC.finditer(line.left) if m["first"] or m["middle"] or m["size"]]
    if len(macs) != 1:
        return ""
    (match,) = macs
    size = f"{match['first'] or match['middle'] or match['size']}gb"
    chips = f"{match['before'] or match['chip']} {size}", f"mac {size}"
    name = next(filter(part_id, chips), "")  # of a chip that was never sold so, any Mac
    if name:
        line.take(match.start(), match.end())
    return name


def _programs(line: Line, face: str) -> list[Program]:
    """Return the engine or trainer that a line names and consume it; [] for several."""
    patterns = {program.name: getattr(program, face) for program in told_by(face)}
    found = [program for program in told_by(face) if re.search(patterns[program.name], line.left)]
    if len(found) != 1:
        return []
    line.find(re.compile(patterns[found[0].name]))
    return found


def _program(
    line: Line, programs: Sequence[Program], task: str, options: Mapping[str, str]
) -> dict[str, str]:
    """Return the setting that names the line's program: its engine, its trainer, or next to a
    method that learns from answers the engine that generates these. Others are recorded as not
    understood."""
    named: dict[str, str] = {}
    for program in programs:
        if task == "train" and program.task == "infer" and options["method"] in LEARNS:
            named = {"rollout_engine": program.name}
        elif task == "train-image" or (program.pictures and "for" in options):
            named = {"framework": program.name}
        elif program.task == task or (
            task == "fit" and (program.task == "train" or "for" not in options)
        ):
            named = {name: str(value) for name, value in named_by(program).items()}
        else:
            line.strange.append(program.title)
    return named


def _task(line: Line, has_card: bool, pipeline: str) -> tuple[str, dict[str, str]]:
    """Return the command that a line means, and its options; consume the words that state them."""
    serves = SERVES.search(line.left) and not TRAINS.search(line.left)
    way = None if serves or ADAPTERS.search(line.left) else method(line.document)
    learned = LEARNED.search(line.left)
    counted, which = COUNTS.search(line.left), WHICH.search(line.left)
    trainers = (p.words for p in told_by("words") if p.task == "train")
    trains = TRAINS.search(line.left) or way is not None
    trains = trains or any(re.search(words, line.left) for words in trainers)
    full = FULL.search(line.left) if trains else None
    pretrains = PRETRAINS.search(line.left)
    counts = {"smallest": "count"} if counted and has_card else {}
    said = ((LEARNED, learned), (METHOD, way), (TRAINS, trains), (FULL, full))
    for pattern, taken in (*said, (PRETRAINS, pretrains)):
        if taken:
            line.find(pattern)
    if which and not has_card and not pipeline and not learned:
        line.find(WHICH)
        method_named = "train" if full or pretrains else way.value if way is not None else "lora"
        return "fit", {**({"for": method_named} if trains else {}), "smallest": "gpu"}
    if learned or way is not None or pretrains or (pipeline and trains):
        named = "full" if pretrains else way.value if way is not None else "lora"
        named = learned[1].lower() if learned else named
        alone = (pretrains and not counts) or (pipeline and named == "qlora")
        if has_card and named in TUNES and not alone:
            line.find(COUNTS)
            return "fit", {"for": TUNES[named], **counts}
        adapters = ADAPTED.get(way.value, {}) if learned and way is not None else {}
        return "train-image" if pipeline else "train", {"method": named, **adapters}
    if pipeline and not has_card:
        entry = pipelines.find(pipeline)
        return "video" if entry and entry.recipe.get("kind") == "video" else "image", {}
    if counts:
        line.find(COUNTS)
    trains = trains or (not pipeline and _is_about_training(line))
    if trains and not has_card and AMOUNT.search(line.left):
        return "train", {"method": "full" if full else "lora"}
    if trains:
        return "fit", {"for": "train" if full else "lora", **counts}
    return "fit" if has_card else "infer", counts


# LoRA settings for a method that learns from rewards; TRL's rank (trainer/model_config.py)
ADAPTED = {"lora": {"lora_r": "16"}, "qlora": {"lora_r": "16", "quantization": "nf4"}}
TUNES = {"full": "train", "lora": "lora", "qlora": "qlora"}  # a method -> what `fit` calls it


def _is_about_training(line: Line) -> bool:
    """Return whether a line states a setting that only trainings have."""
    only = TRAIN.keys() - INFER.keys()
    rows = (row for row in _rules().settings if row.setting in only.difference(SERVED_TOO))
    return any(row.pattern.search(line.left) for row in rows)


class Settings:
    """The settings of one command, taken from a line."""

    def __init__(self, line: Line, task: str, *, trains: bool, makes: bool) -> None:
        self.line, self.asked, self.fits = line, dict[str, str](), task == "fit"
        self.usual = dict[str, str]()
        about = "train" if trains or task.startswith("train") else "infer"
        if makes:
            about = "image" if about == "infer" else "train_image"
        self.about = task if task in ("image", "video", "train-image") else about
        self.known: Mapping[str, Setting[Any]] = TABLES[about]

    def take_named(self) -> None:
        """Read the settings that the line states by name."""
        for row in _rules().settings:
            if not row.setting:
                self.line.strange += [match[0] for match in self.line.find(row.pattern)]
                continue
            says = not row.tasks or self.about in row.tasks
            if says and self._take(row.setting, row.pattern, row.typed):
                self.usual |= row.usual
        for name, setting in self.known.items():
            if pattern := _pattern_of_own_name(setting):
                self._take(name, pattern, lambda match: match.groupdict().get("value") or "")

    def take_rest(self) -> dict[str, str]:
        """Read the settings that a value alone states; return all, as on the command line."""
        for rule in (*RULES, *OF_LANGUAGE):
            self._take(rule.setting, rule.pattern, partial(spelled, rule))
        if SOUGHT.get(self.asked.get("max", "")) in self.asked:  # "max context 32k" is no search
            del self.asked["max"]
        texts = self.asked.pop("of_text", "")
        if texts:
            self.asked["quantization"] = "+".join(filter(None, (self._form, texts)))
        return {**({} if "dtype" in self.asked else self.usual), **self.asked}

    @property
    def _form(self) -> str:
        return self.asked.get("quantization", "")

    def _take(
        self, setting: str, pattern: "re.Pattern[str]", typed: Callable[["re.Match[str]"], str]
    ) -> bool:
        """Read a setting by one rule, if the line has exactly one valid value for it; return
        whether it does. Of two values neither counts."""
        if setting == "context" and self.about == "train":
            setting = "seq_len"
        matches = [match for match in pattern.finditer(self.line.left) if match[0]]
        matches = [match for match in matches if typed(match)] or matches
        said = {typed(match) for match in matches}
        said |= {self.asked[setting]} if setting in self.asked else set()
        if len(said) != 1 or not self._reads(setting, *said):
            return False
        self.asked[setting] = said.pop()
        for match in matches:
            self.line.take(match.start(), match.end())
        return bool(matches)

    def _reads(self, setting: str, value: str) -> bool:
        """Return whether the command has the setting, and `value` is valid for it."""
        if setting in OF_FIT:
            return self.fits
        if setting == "of_text":
            return bool(value)
        if setting not in self.known:
            return False
        try:
            self.known[setting].value(value or True)
        except UsageError:
            return False
        return True


@cache
def _pattern_of_own_name(setting: Setting[Any]) -> "re.Pattern[str] | None":
    """Return a pattern for a setting's own name with a value after it: "max num seqs 64"; None if
    the name is an everyday word."""
    names = (name.strip("-") for name in (setting.name, *setting.flags))
    spellings = [re.sub(r"[-_]", "[ _-]", name) for name in names if re.search("[-_]", name)]
    if not spellings:
        return None
    is_flag = setting.kind.name == "flag"
    numbers = r"true|false" if is_flag else r"\d[\w.]*|[a-z]\w*\d\w*|true|false|auto"
    value = "|".join(map(re.escape, setting.choices)) if setting.choices else numbers
    behind = rf"(?:[ =:]| of | is | at | to )+(?P<value>{value})(?![\w.])"
    optional = "?" if is_flag else ""
    return re.compile(
        rf"(?ai)(?<![\w-])(?:--)?(?:{'|'.join(spellings)})(?:{behind}){optional}(?![\w-])"
    )


def _engine_of(settings: Iterable[str]) -> dict[str, str]:
    """Return the first engine that has one of the line's settings, unless every engine has it."""
    having = [engines_of(INFER[name]) for name in settings if name in INFER]
    return next(({"engine": engines[0]} for engines in having if engines), {})
