"""The words of a command -> a document: flags are its keys, as a config has them.

mapping(["--bf16", "True", "--lora-r=8", "--packing"]) -> {"bf16": True, "lora_r": 8, ...}
"""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from weighbridge.engines.launch.shell import is_variable
from weighbridge.files.runfiles.document import Document, Path, Place

FLAG = re.compile(r"--?([A-Za-z][\w.\-]*)(?:=(.*))?", re.DOTALL)
# Names of variables that hold flags, and not the value of the flag before
FLAGS = re.compile(r"(?i)args(?![a-z])|(?<![a-z])(?:opts|options|flags|extra)(?![a-z])|[@*]")
EXPR = re.compile(r"\$\(expr (?P<left>\d{1,9}) \\?(?P<sign>[*/+-]) (?P<right>\d{1,9})\)")
CONFIG = re.compile(r"\b(?:\w*[A-Z]{2}|Reward)Config\(")  # configs of TRL's trainers
LOADS = re.compile(r"\bAutoModel\w*\.from_pretrained\(")
PARSES = re.compile(r"\b(?:TrlParser|HfArgumentParser|parse_args\w*)\b")
COMPUTED = "$computed"  # treated as a variable
WORDS = {"true": True, "false": False, "none": None, "null": None}


def mapping(words: Sequence[str]) -> dict[str, Any]:
    """Return a command's flags by name: several values are a list, a flag without one is True."""
    values: dict[str, Any] = {}
    name = ""
    for word in words:
        flag = FLAG.fullmatch(word)
        if flag is not None:
            name = flag[1].replace("-", "_")
            values[name] = True if flag[2] is None else plain(flag[2])
        elif is_variable(word) and not (name and values[name] is True and not FLAGS.search(word)):
            values[word] = COMPUTED
        elif name and values[name] is True:
            values[name] = plain(word)
        elif name:
            before = values[name] if isinstance(values[name], list) else [values[name]]
            values[name] = [*before, plain(word)]
    return {name: _counted(value) if _computed(value) else value for name, value in values.items()}


def in_calls(flags: str, text: str) -> str:
    """Return flags of TRL's command as keyword arguments for a script that parses none: in its
    config and its LoraConfig, with the command that starts it; "" without a config. If the script
    loads the model itself, its dtype goes into that call."""
    config = CONFIG.search(text)
    if config is None or PARSES.search(text):
        return ""
    keywords = mapping(shlex.split(flags))
    lora = {
        name.replace("lora_r", "r"): keywords.pop(name)
        for name in [*keywords]
        if name.startswith("lora_")
    }
    starts = {
        name: keywords.pop(name) for name in [*keywords] if name.startswith(("accel", "offload_"))
    }
    dtype = {"dtype": keywords.pop("dtype")} if "dtype" in keywords else {}
    keywords.pop("use_peft", None)
    loads = LOADS.search(text)
    keywords |= {"model_init_kwargs": dtype} if dtype and loads is None else {}
    stage = str(starts.pop("accelerate_config", "")).removeprefix("zero")
    launch = {"use_deepspeed": "", "zero_stage": stage, **starts} if stage or starts else {}
    lines = (
        _call(loads[0], dtype) if loads is not None else "",
        _call(config[0], keywords),
        f"peft_config={_call('LoraConfig(', lora)}" if lora else "",
        " ".join(
            ("accelerate launch", *(f"--{name} {value}".rstrip() for name, value in launch.items()))
        ),
    )
    return "\n".join(filter(None, lines if launch else lines[:-1]))


def _call(begins: str, keywords: Mapping[str, Any]) -> str:
    words = ", ".join(f"{name}={value!r}" for name, value in keywords.items())
    return f"{begins}{words})" if words else ""


def _counted(value: Any) -> Any:
    """Return the value of $(expr 16 / 2); COMPUTED for other programs."""
    words = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    match = EXPR.fullmatch(words)
    if match is None:
        return COMPUTED
    left, right = int(match["left"]), int(match["right"])
    if match["sign"] == "/":
        return left // right if right else COMPUTED
    return {"*": left * right, "+": left + right, "-": left - right}[match["sign"]]


def _computed(value: Any) -> bool:
    """Return whether the shell computes a value: $(expr 16 / 2)."""
    words = value if isinstance(value, list) else [value]
    return any(isinstance(word, str) and word.startswith("$(") for word in words)


def document(text: str, words: Sequence[str], name: str, folder: str = "") -> Document:
    """Return a command's flags as a document, each at its flag's line."""
    data = mapping(words)
    places: Mapping[Path, Place] = {
        (key,): Place(text.count("\n", 0, match.start()) + 1)
        for key in data
        if (match := re.search(_pattern(key), text))
    }
    return Document(syntax="shell", text=text, data=data, name=name, places=places, folder=folder)


def _pattern(key: str) -> str:
    """Return a pattern for a flag, or for a variable in its place."""
    if key.startswith("$"):
        return re.escape(key)
    return rf"--?{re.escape(key).replace('_', '[-_]')}\b"


def plain(word: str) -> Any:
    """Return a word as the value that a config would have."""
    low = word.strip().lower()
    if low in WORDS:
        return WORDS[low]
    for kind in (int, float):
        try:
            return kind(low)
        except ValueError:
            continue
    return word.strip()


# Changed where they stand


# A value: in quotes, a shell's $(...) (which may have blanks), or a word
VALUE = (
    r"(?:(?P<by>=|[ \t]+)(?P<value>\"[^\"]*\"|'[^']*'|\$\{[^{}\n]{1,200}\}|\$\(\([^\n]{1,200}?\)\)"
    r"|[^\s\"'\\-][^\s\"'\\]*))?(?=[\s\\]|$)"
)


def _in_place(text: str, flag: "re.Match[str]", value: str) -> str:
    """Return a text with a new value for a flag."""
    if not flag["value"] or not value:
        return text if not value else f"{text[: flag.end()]} {value}{text[flag.end() :]}"
    start, end = flag.span("value")
    return f"{text[:start]}{value}{text[end:]}"


def argued(text: str, known: Sequence[str], words: Mapping[str, Any]) -> Iterator[str]:
    """Yield scripts with changed arguments: new values at their places, new arguments after the
    first of `known`, once for each name in `a|b`. The caller reads each again to find the right
    one. Yields nothing without a place."""
    if not words:
        yield text
        return
    key, value = next(iter(words.items()))
    others = {name: word for name, word in words.items() if name != key}
    for after in _with(text, known, key.split("|"), value):
        yield from argued(after, known, others)


def _with(text: str, known: Sequence[str], names: Sequence[str], value: Any) -> Iterator[str]:
    """Yield a script with one argument changed: at its place, else after another one and in its
    style."""
    written_value = str(value).lower() if isinstance(value, bool) else str(value)
    stands = next(filter(None, (_flag(text, name) for name in names)), None)
    if stands is not None:
        same = (stands["value"] or "").strip("\"'").lower() == written_value.lower()
        yield text if same else _in_place(text, stands, written_value)
        return
    other = next(filter(None, (_flag(text, name) for name in known)), None)
    if other is None:
        return
    start, dotted = other[0], "." in re.split(r"[=\s]", other[0], maxsplit=1)[0]
    alike = [name for name in names if ("." in name) == dotted]
    for name in alike[::-1] if dotted else alike[-1:]:
        word = (
            f"--{name} {written_value}".rstrip() if start[0] == "-" else f"{name}={written_value}"
        )
        yield f"{text[: other.end()]} {word}{text[other.end() :]}"


def _flag(text: str, name: str) -> re.Match[str] | None:
    """Return the match of a flag or Hydra override with its value, outside of comments; None
    without one."""
    spelled = re.escape(name).replace("_", "[-_]")
    dotted = rf"|(?<![\w.-])\+{{0,2}}{re.escape(name)}(?==)" if "." in name else ""
    matches = re.finditer(rf"(?:(?<![\w-])--?{spelled}{dotted}){VALUE}", text)
    lines = ((one, text.rfind("\n", 0, one.start()) + 1) for one in matches)
    return next((one for one, place in lines if not text[place:].lstrip().startswith("#")), None)
