"""What a command is given in the place of a model: a reference, or a file that starts a run."""

import os
import re
import shlex
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click

from weighbridge.base.errors import NotFoundError, UsageError
from weighbridge.base.sentences import sentence
from weighbridge.base.wording import spelled_like

STDIN = "-"
RUN_FILES = (".yaml", ".yml", ".toml", ".ipynb", ".sh", ".slurm", ".sbatch")  # no model ends so
SIZE = re.compile(r"(?i)\d+(?:\.\d+)?[mbt]")  # 70B
# A name that nobody here knows has a number in it; or it is ORG/NAME of the Hub, or its address
NUMBERED = re.compile(r"[\w.:@-]*\d[\w.:@-]*$")
OWNED = re.compile(rf"[\w.-]+/[\w.-]+(?:[@:/].*)?$|https?://|hf://|{NUMBERED.pattern}")
MODELS = (".safetensors", ".gguf", ".json")  # of a question about a model
SIGNS = re.compile(r"[\u4e00-\u9fff]")
OF_FILES = frozenset(("--as", "--fix", "--write", "--emit", "--model", "--save"))
FENCED = re.compile(r"```\w*\n([^\n]*)\n?```")
TEXTS = (".txt", ".md")
LONGEST = 4096  # bytes of a file that may be a question: of a longer one a part, which is none
OF_MODELS = ("fit", "load", "infer", "train", "image", "video", "train-image")
FEWEST_WORDS = 2  # of a question that is typed where a file's name stands
ALONE = "--model goes with a run file that names no model; else leave it out and name MODEL"


def is_text(reference: str) -> bool:
    """Tell whether a reference is stdin, or a file of any name that no model is read from."""
    suffix = os.path.splitext(reference)[1].lower()
    return reference == STDIN or (os.path.isfile(reference) and suffix not in MODELS[:2])


def in_sentences(reference: str) -> bool:
    """Tell whether what stands where a file does is words that people ask in, and no path."""
    from weighbridge.files.runfiles.kinds import SUFFIXES

    named = os.path.splitext(reference.rstrip())[1].lower() in SUFFIXES
    path = named or reference.startswith(("/", "./", "../", "~")) or os.path.lexists(reference)
    signs = SIGNS.search(reference) is not None  # of Chinese, which has no blanks
    return (signs or len(reference.split()) >= FEWEST_WORDS) and not path


def asked_in_words(words: Sequence[str]) -> list[str]:
    """Return the command that words ask which people write a question in, typed, on stdin or in a
    text file, and what is typed behind it; [] of all else."""
    if words[:1] == [STDIN]:
        words = [_unfenced(_piped()), *words[1:]]
    elif words and words[0].endswith(TEXTS) and os.path.isfile(words[0]):
        with open(words[0], "rb") as file:
            words = [_unfenced(file.read(LONGEST)), *words[1:]]
    names, options = _until_flags(words)
    text = " ".join(names)
    if not in_sentences(text) or not OF_FILES.isdisjoint(options):
        return []
    from weighbridge.faces.cli.options import language_of
    from weighbridge.files.runfiles import asked
    from weighbridge.models.checkpoint.gather import has_name

    if len(names) > 1 and all(map(has_name, names)):  # several models
        return []
    line = asked.words(text)
    if text.isascii() and len(text.split()) == 2 and "--not-understood" in line:  # a typo
        return []
    foreign = line and "--lang" not in options and language_of(text, 0) != "en"
    return [*line, *options, *(("--lang", "zh") if foreign else ())] if line else []


def asked_behind(args: Sequence[str]) -> list[str]:
    """Return a command whose model was named in several words, "fit llama 8b", with one name; the
    command that words behind its name ask, "train llama 8b on a 4090", where all of them are
    understood; [] of all else."""
    (command, *names), options = _until_flags(args)
    if len(names) < FEWEST_WORDS:
        return []
    from weighbridge.models.checkpoint.gather import has_name

    named = " ".join(names)
    if all(map(has_name, names)):
        return []
    if has_name(named):
        return [command, named, *options]
    line = asked_in_words([f"{command} {named}", *options]) if command in OF_MODELS else []
    return [] if "--not-understood" in line else line


def _until_flags(args: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the words before the first flag, and that flag with what is behind it."""
    typed = next((n for n, word in enumerate(args) if word.startswith("-")), len(args))
    return [*args[:typed]], [*args[typed:]]


def _piped() -> bytes:
    """Return what is on stdin, and put it back for who reads it next."""
    import io

    raw = _stdin()
    sys.stdin = io.TextIOWrapper(io.BytesIO(raw), encoding="utf-8")
    return raw


def _unfenced(raw: bytes) -> str:
    """Return a text without a fence around it."""
    text = raw.decode(errors="replace").strip()
    fenced = FENCED.fullmatch(text)
    return fenced[1] if fenced else text


def _stdin() -> bytes:
    """Return what is piped or pasted, one byte more than is read of a file at most."""
    from weighbridge.base.cost import MOST

    if sys.stdin.isatty():
        click.echo("paste the file, the command or the message, then Ctrl-D", err=True)
    return sys.stdin.buffer.read(MOST + 1)


def starts(reference: str) -> bool:
    """Tell whether a reference is a run file and no model, by its name."""
    if reference == STDIN:
        return True
    if not os.path.isfile(reference):
        return False
    from weighbridge.files.runfiles.kinds import FOUND_BY_NAME, SUFFIXES

    name = os.path.basename(reference)
    suffix = os.path.splitext(name)[1].lower()
    named = FOUND_BY_NAME.search(name) is not None or suffix in SUFFIXES
    return named and suffix not in MODELS


def of_file(references: Sequence[str], settings: dict[str, Any]) -> bool:
    """Tell whether a command was given one run file in the place of a model: one that `--model` is
    typed beside is of any name. Without a file nothing is left of that option. Raises NotFoundError
    for a word that ends as only such files do, and is none, and UsageError for a run file beside a
    model, and for --model beside one."""
    named = settings.get("model")
    if named is not None and len(references) == 1 and os.path.isfile(references[0]):
        return True
    if len(references) != 1:
        _alone(references)
        seen = False
    else:
        suffix = os.path.splitext(references[0])[1].lower()
        if suffix in RUN_FILES and not os.path.isfile(references[0]):
            raise NotFoundError(no_file(references[0]) or f"{references[0]}: no such file")
        seen = starts(references[0])
    if named is not None and not seen:
        raise UsageError(ALONE)
    if not seen:
        settings.pop("model", None)
    return seen


def _alone(references: Sequence[str]) -> None:
    """Raises UsageError for a run file among other references: its line names the model."""
    file = next((each for each in references if each != STDIN and starts(each)), None)
    if file is None:
        return
    models = [each for each in references if not starts(each)]
    line = ["weighbridge", file, *(["--model", *models] if len(models) == 1 else ())]
    raise UsageError(sentence("file.no_model", name=file, command=shlex.join(line)))


def given_file(
    references: Sequence[str], settings: dict[str, Any]
) -> tuple[Any, str | None] | None:
    """Return the run file that a command was given in the place of a model, as `given_text`; None
    where it was given none."""
    return given_text(references[0]) if of_file(references, settings) else None


def given_text(file: str) -> tuple[Any, str | None]:
    """Return what is weighed: stdin's text with a name, or a path."""
    from pathlib import Path

    from weighbridge.files.runfiles.document import decoded

    if file != STDIN:
        return (file, "the text") if in_sentences(file) else (Path(file), None)
    return decoded(_stdin(), "the text"), "the text"


def names_model(words: Sequence[str], commands: Iterable[str]) -> bool:
    """Tell whether the first of the words that were typed, which is no command and no run file, is
    a model. What may be a path is one where options follow it: ORG/NAME."""
    reference = words[0]
    suffix = os.path.splitext(reference)[1].lower()
    if os.path.isfile(reference):
        return suffix in MODELS
    if os.path.isdir(reference):
        return _holds_model(reference)
    from weighbridge.files.runfiles.kinds import SUFFIXES
    from weighbridge.models.checkpoint.gather import has_name

    if suffix in SUFFIXES or reference.startswith("-"):
        return False
    if has_name(reference) or SIZE.fullmatch(reference):
        return True
    options = any(word.startswith("-") for word in words[1:])
    names = OWNED if options else NUMBERED
    return names.match(reference) is not None and not spelled_like(reference, commands)


def _holds_model(folder: str) -> bool:
    return any(file.endswith((*MODELS[:2], "config.json")) for file in os.listdir(folder))


def no_file(reference: str) -> str:
    """Say what is wrong with a word that looks like a file and starts no run; "" where it does not
    look like one."""
    suffix = os.path.splitext(reference)[1].lower()
    if os.path.isdir(reference):
        return f"{reference} is a folder: name a file of it, or ask about a model: weighbridge load"
    unread = _unread(reference)
    if unread:
        return unread
    if "/" in reference or suffix:
        return f"{reference}: no such file; name one, or a command (weighbridge --help)"
    return ""


def _unread(reference: str) -> str:
    """Say why what stands at a path is no file that can be read; "" where nothing stands there."""
    try:
        os.stat(reference)
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:
        return f"{reference}: {getattr(error, 'strerror', None) or 'this is no path'}"
    if os.path.isfile(reference):
        return ""
    return f"{reference} is a pipe or a device, no plain file: weighbridge - < {reference}"
