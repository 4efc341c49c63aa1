"""What the user types in place of a model: a model reference, a question in words, or a run
file."""

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
RUN_FILES = (
    ".yaml",
    ".yml",
    ".toml",
    ".ipynb",
    ".sh",
    ".slurm",
    ".sbatch",
)  # endings of run files that no model has
SIZE = re.compile(r"(?i)\d+(?:\.\d+)?[mbt]")  # 70B
# An unknown model name contains a number, or is ORG/NAME on the Hub, or its URL
NUMBERED = re.compile(r"[\w.:@-]*\d[\w.:@-]*$")
OWNED = re.compile(rf"[\w.-]+/[\w.-]+(?:[@:/].*)?$|https?://|hf://|{NUMBERED.pattern}")
MODELS = (".safetensors", ".gguf", ".json")  # files that hold a model
SIGNS = re.compile(r"[\u4e00-\u9fff]")
OF_FILES = frozenset(("--as", "--fix", "--write", "--emit", "--model", "--save"))
FENCED = re.compile(r"```\w*\n([^\n]*)\n?```")
TEXTS = (".txt", ".md")
LONGEST = 4096  # bytes read of a text file; a longer file is no question
OF_MODELS = ("fit", "load", "infer", "train", "image", "video", "train-image")
FEWEST_WORDS = 2  # fewest words of a question typed in place of a file
ALONE = "--model goes with a run file that names no model; else leave it out and name MODEL"


def is_text(reference: str) -> bool:
    """Return whether `reference` is "-" (stdin), or an existing file other than .safetensors and
    .gguf."""
    suffix = os.path.splitext(reference)[1].lower()
    return reference == STDIN or (os.path.isfile(reference) and suffix not in MODELS[:2])


def in_sentences(reference: str) -> bool:
    """Return whether text typed in place of a file is a question in words, not a path."""
    from weighbridge.files.runfiles.kinds import SUFFIXES

    named = os.path.splitext(reference.rstrip())[1].lower() in SUFFIXES
    path = named or reference.startswith(("/", "./", "../", "~")) or os.path.lexists(reference)
    signs = SIGNS.search(reference) is not None  # Chinese text has no blanks
    return (signs or len(reference.split()) >= FEWEST_WORDS) and not path


def asked_in_words(words: Sequence[str]) -> list[str]:
    """Return the command line that a question in words means, with the options typed after it; []
    if `words` are no question. The question is typed, on stdin or in a text file."""
    if words[:1] == [STDIN]:
        words = [_strip_fence(_read_and_restore_stdin()), *words[1:]]
    elif words and words[0].endswith(TEXTS) and os.path.isfile(words[0]):
        with open(words[0], "rb") as file:
            words = [_strip_fence(file.read(LONGEST)), *words[1:]]
    names, options = _split_at_flags(words)
    text = " ".join(names)
    if not in_sentences(text) or not OF_FILES.isdisjoint(options):
        return []
    from weighbridge.faces.cli.options import language_of
    from weighbridge.files.runfiles import asked
    from weighbridge.models.checkpoint.gather import has_name

    if len(names) > 1 and all(map(has_name, names)):  # these are several models, not a question
        return []
    line = asked.words(text)
    if (
        text.isascii() and len(text.split()) == 2 and "--not-understood" in line
    ):  # most likely a mistyped command
        return []
    foreign = line and "--lang" not in options and language_of(text, 0) != "en"
    return [*line, *options, *(("--lang", "zh") if foreign else ())] if line else []


def asked_behind(args: Sequence[str]) -> list[str]:
    """Return a command line with the words of a model's name joined: "fit llama 8b". If the words
    after the name are understood too, return the command line they mean: "train llama 8b on a
    4090"; else []."""
    (command, *names), options = _split_at_flags(args)
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


def _split_at_flags(args: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the words before the first one that begins with "-", and all words from it on."""
    typed = next((n for n, word in enumerate(args) if word.startswith("-")), len(args))
    return [*args[:typed]], [*args[typed:]]


def _read_and_restore_stdin() -> bytes:
    """Return the bytes of stdin, and put them back for the next reader."""
    import io

    raw = _read_stdin()
    sys.stdin = io.TextIOWrapper(io.BytesIO(raw), encoding="utf-8")
    return raw


def _strip_fence(raw: bytes) -> str:
    """Return the decoded text, stripped of blanks and of a Markdown fence around it."""
    text = raw.decode(errors="replace").strip()
    fenced = FENCED.fullmatch(text)
    return fenced[1] if fenced else text


def _read_stdin() -> bytes:
    """Return the bytes piped or pasted on stdin, cut one byte after the most that is read of a
    file."""
    from weighbridge.base.cost import MOST

    if sys.stdin.isatty():
        click.echo("paste the file, the command or the message, then Ctrl-D", err=True)
    return sys.stdin.buffer.read(MOST + 1)


def starts(reference: str) -> bool:
    """Return whether `reference` is "-" (stdin), or an existing file with the name of a run
    file."""
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
    """Return whether the user gave one run file in place of a model; with `--model` it may have any
    name.

    Removes an unused `model` from `settings`. Raises NotFoundError for a missing file with the
    ending of a run file; UsageError for a run file together with a model, or for --model with a
    model.
    """
    named = settings.get("model")
    if named is not None and len(references) == 1 and os.path.isfile(references[0]):
        return True
    if len(references) != 1:
        _refuse_file_among_models(references)
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


def _refuse_file_among_models(references: Sequence[str]) -> None:
    """Refuse a run file among several references, by UsageError with the line to type."""
    file = next((each for each in references if each != STDIN and starts(each)), None)
    if file is None:
        return
    models = [each for each in references if not starts(each)]
    line = ["weighbridge", file, *(["--model", *models] if len(models) == 1 else ())]
    raise UsageError(sentence("file.no_model", name=file, command=shlex.join(line)))


def given_file(
    references: Sequence[str], settings: dict[str, Any]
) -> tuple[Any, str | None] | None:
    """Return the run file that the user gave in place of a model, in the form of `given_text`; None
    without one."""
    return given_text(references[0]) if of_file(references, settings) else None


def given_text(file: str) -> tuple[Any, str | None]:
    """Return (text, name) for stdin or a question in words, or (path, None) for a file."""
    from pathlib import Path

    from weighbridge.files.runfiles.document import decoded

    if file != STDIN:
        return (file, "the text") if in_sentences(file) else (Path(file), None)
    return decoded(_read_stdin(), "the text"), "the text"


def names_model(words: Sequence[str], commands: Iterable[str]) -> bool:
    """Return whether the first word, neither a command nor a run file, is a model. ORG/NAME, which
    may be a path, is a model only if options follow."""
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
    """Return what is wrong with a word that looks like a file but starts no run; "" if it does not
    look like a file."""
    suffix = os.path.splitext(reference)[1].lower()
    if os.path.isdir(reference):
        return f"{reference} is a folder: name a file of it, or ask about a model: weighbridge load"
    unread = _why_unreadable(reference)
    if unread:
        return unread
    if "/" in reference or suffix:
        return f"{reference}: no such file; name one, or a command (weighbridge --help)"
    return ""


def _why_unreadable(reference: str) -> str:
    """Return why `reference` is not a plain readable file; "" if nothing exists there or it is
    one."""
    try:
        os.stat(reference)
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:
        return f"{reference}: {getattr(error, 'strerror', None) or 'this is no path'}"
    if os.path.isfile(reference):
        return ""
    return f"{reference} is a pipe or a device, no plain file: weighbridge - < {reference}"
