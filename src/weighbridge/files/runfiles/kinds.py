"""The kinds of run files, and how one is found by what is in it.

A kind is a module that ends with its record, `KIND`. The order of `HOMES` decides between kinds
that tell the same document: the more particular stands first.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import import_module

from weighbridge.base.cost import MOST
from weighbridge.base.errors import BadFileError, NotFoundError, UsageError
from weighbridge.base.records import replace
from weighbridge.base.sentences import sentence
from weighbridge.base.wording import shown
from weighbridge.files.runfiles import notebook, segments
from weighbridge.files.runfiles.document import UNNAMED, Document, decoded, documents, first
from weighbridge.files.runfiles.pieces import cut_short, has_words
from weighbridge.files.runfiles.record import Kind, PlannedRun, RunFile
from weighbridge.files.runfiles.slurm import asking
from weighbridge.workload import TABLES

HOMES = (
    "training.ai_toolkit",
    "training.onetrainer",
    "training.picture_trainers",
    "training.axolotl",
    "training.llama_factory",
    "training.zero",
    "training.accelerate",
    "training.torchtune",
    "training.torchtitan",
    "training.litgpt",
    "training.automodel",
    "training.ultralytics",
    "training.trl",
    "training.rewards",
    "training.megatron",
    "training.launch",
    "training.script",
    "serving.pipeline_script",
    "serving.engine_script",
    "training.unanswered",
    "serving.workflow",
    "serving.compose",
    "training.jobs",  # Kubernetes manifests that train
    "serving.kubernetes",
    "serving.llama_swap",
    "serving.engine_configs",
    "serving.dockerfile",
    "serving.modelfile",
    "serving.commands",
    "text",
)
SUFFIXES: Mapping[str, str] = {
    ".yaml": "yaml",
    ".yml": "yaml",
    ".json": "json",
    notebook.SUFFIX: "json",
    ".toml": "toml",
    ".py": "python",
    ".sh": "shell",
    ".bash": "shell",
    ".slurm": "shell",
    ".sbatch": "shell",
    ".bat": "shell",
    ".ps1": "shell",
    ".modelfile": "modelfile",
    ".txt": "text",
    ".md": "text",
    ".log": "text",
    ".out": "text",
}
SYNTAXES = ("json", "toml", "yaml", "modelfile", "python", "shell", "text")  # tried in this order
KEYED = ("json", "toml", "yaml")  # syntaxes with keys, which any program's config may have
BATCHED = ("shell", "text")  # syntaxes in which #SBATCH lines occur
FEWEST_WORDS = 3  # words of a line of prose; fewer may be a config key
ASKED = {"train": ("train", "train_image"), "infer": ("infer", "image")}
OF_A_MODEL = re.compile(r'"(?:architectures|model_type|_class_name)"\s*:')  # keys of config.json
FOUND_BY_NAME = re.compile(r"(?i)(^|[._-])(model|docker)file$")


@cache
def kinds() -> tuple[Kind, ...]:
    """Return every kind, imported when the first file is read."""
    return tuple(import_module(f"weighbridge.files.runfiles.{home}").KIND for home in HOMES)


def named(name: str) -> Kind:
    """Return the kind called `name`. Raises UsageError for an unknown one."""
    for each in kinds():
        if each.name == name.lower().replace("_", "-"):
            return each
    known = ", ".join(each.name for each in kinds())
    raise UsageError(sentence("file.no_kind", option="--as", name=shown(name), known=known))


def read(text: str, name: str = "the text", kind: str | None = None, folder: str = "") -> RunFile:
    """Return the run file in a text. `kind` overrides recognition by content; files that the text
    refers to are read below `folder`. Raises UsageError if no kind recognizes the text,
    BadFileError if it is malformed."""
    return replace(_read(text, name, kind, folder), folder=folder)


def _first_kind(
    pieces: Sequence[Document], syntax: str, among: Sequence[Kind]
) -> tuple[Kind, list[Document]] | None:
    """Return (kind, pieces): the first of `among` that recognizes a piece, with its pieces; None if
    none does."""
    for each in among:
        pieces_told = [d for d in pieces if syntax in each.syntaxes and each.tells(d)]
        if pieces_told:
            return each, pieces_told
    return None


def _read(text: str, name: str, kind: str | None, folder: str) -> RunFile:
    book = notebook.opened(text, name)
    if book is not None:
        return _of_notebook(book, text, name, kind)
    if kind is not None:
        return _as(named(kind), text, name, folder)
    by_suffix = SUFFIXES.get(os.path.splitext(name)[1].lower())
    words = _with_words(text, name, folder) if by_suffix in (None, "text") else None
    if words is not None:
        return words
    broken: BadFileError | None = None
    for syntax in _syntaxes(text, name):
        try:
            pieces = _pieces(text, syntax, name, folder)
        except BadFileError as error:
            broken = error if syntax == by_suffix else broken
            continue
        told_by_kind = _first_kind(pieces, syntax, kinds())
        if told_by_kind is not None:
            return _file(*told_by_kind, text, name)
    inner = _of_another_program(text, name) if by_suffix in KEYED else None
    if inner is None:
        raise broken or _untold(name, text)
    return inner


def _with_words(text: str, name: str, folder: str) -> RunFile | None:
    """Return the runs of a text with prose; None for a plain file, or if it has no run."""
    if FOUND_BY_NAME.search(os.path.basename(name)) or not has_words(text):
        return None
    prose, (whole,) = named("text"), _pieces(text, "text", name, folder)
    return _file(prose, [whole], text, name) if prose.tells(whole) else None


def _of_another_program(text: str, name: str) -> RunFile | None:
    """Return the launch lines in another program's config as a run file, None if it has none."""
    # imported here: it reads the catalogue's names, which most files of a scan do not need
    from weighbridge.files.runfiles.config_script import script_of

    try:
        script, gpu = script_of(first(text, KEYED, name).data)
    except BadFileError:
        return None
    told_by_kind = _first_kind(documents(script, "shell", f"{name}.sh"), "shell", kinds())
    if told_by_kind is None:
        return None
    file = _file(*told_by_kind, script, name)
    card = {"gpu": gpu} if gpu else {}
    runs = tuple(replace(run, settings={**card, **run.settings}) for run in file.runs)
    return replace(file, runs=runs, text=text)


def _untold(name: str, text: str = "") -> UsageError:
    if name == UNNAMED and "\n" not in text.strip() and len(text.split()) >= FEWEST_WORDS:
        return UsageError(sentence("file.untold.words"), where=name)
    known = ", ".join(each.name for each in kinds())
    if name.endswith(".py"):
        return UsageError(sentence("trace.own_code", path=name), where=name)
    if OF_A_MODEL.search(text):
        return UsageError(sentence("file.untold.model", path=name), where=name)
    return UsageError(sentence("file.untold", option="--as KIND", known=known), where=name)


def _of_notebook(book: notebook.Notebook, text: str, name: str, kind: str | None) -> RunFile:
    """Return the runs of a notebook: of its Python, else of its shell commands. The file's `text`
    stays the notebook's."""
    asked = kinds() if kind is None else (named(kind),)
    for code in book.codes:
        code_name = (
            f"{name}.sh" if code.syntax == "shell" else name
        )  # a shell script, whatever its first line is
        pieces = documents(code.text, code.syntax, code_name)
        told_by_kind = _first_kind(pieces, code.syntax, asked)
        if told_by_kind is not None:
            cell_file = _file(*told_by_kind, text, name)
            runs = tuple(notebook.placed(run, code, book) for run in cell_file.runs)
            return replace(cell_file, runs=runs)
    raise _untold(name)


def text_of(file: "str | os.PathLike[str]", name: str | None) -> tuple[str, str]:
    """Return (text, name) of a file; text that the caller passes with a `name`, or with line
    breaks, is returned unchanged. Raises NotFoundError and BadFileError."""
    if isinstance(file, str) and name is not None:
        return file, name
    path = os.fspath(file)
    if isinstance(file, str) and "\n" in file:
        return file, "the text"
    try:
        with open(path, "rb") as opened:
            raw = opened.read(MOST + 1)
    except OSError as error:
        raise NotFoundError(
            sentence("file.not_opened", why=error.strerror), where=f"{path:.80}"
        ) from None
    if raw.startswith(b"PK\x03\x04"):  # a file of torch.save
        from weighbridge.files.runfiles.training.saved import arguments

        return arguments(raw, path), path
    return decoded(raw, path), path


def folder_of(file: "str | os.PathLike[str]", name: str | None) -> str:
    """Return the folder below which a file may refer to others; "" for text that the caller
    passes."""
    if isinstance(file, str) and (name is not None or "\n" in file):
        return ""
    return os.path.dirname(os.fspath(file)) or os.curdir


def of_task(file: RunFile, task: str | None) -> RunFile:
    """Return the file with only its runs of `task`. Raises UsageError if it has none."""
    asked = TABLES.keys() if task is None else ASKED.get(task, (task,))
    runs = tuple(run for run in file.runs if run.task in asked)
    if not runs:
        other = file.runs[0].task
        raise UsageError(sentence("file.other_task", name=file.name, task=other))
    return replace(file, runs=runs)


def _pieces(text: str, syntax: str, name: str, folder: str) -> list[Document]:
    return [replace(piece, folder=folder) for piece in documents(text, syntax, name)]


def _as(each: Kind, text: str, name: str, folder: str) -> RunFile:
    error: BadFileError | None = None
    for syntax in each.syntaxes:
        try:
            pieces = _pieces(text, syntax, name, folder)
        except BadFileError as broken:
            error = error or broken
            continue
        keyed = [
            piece for piece in pieces if syntax not in KEYED or isinstance(piece.data, Mapping)
        ]
        if keyed:
            return _file(each, keyed, text, name)
        error = error or BadFileError(f"{name}: {each.title} is keys with values, and it has none")
    assert error is not None
    raise error


def _file(each: Kind, pieces: Sequence[Document], text: str, name: str) -> RunFile:
    runs = tuple(_with_its_text(run, piece) for piece in pieces for run in each.read(piece))
    if not runs:
        raise UsageError(sentence("file.starts_nothing", title=each.title), where=name)
    return RunFile(kind=each.name, title=each.title, name=name, runs=runs, text=text)


def _with_its_text(run: PlannedRun, piece: Document) -> PlannedRun:
    """Return `run` with facts from its text: notes on unusual keys, the allocator's environment
    variable, and a batch job's cards."""
    short = cut_short(piece.text) if piece.syntax in BATCHED else ()
    odd = (*(f"{piece.name}:{line}: {what}" for line, what in piece.remarks), *short)
    run = replace(run, notes=(*run.notes, *odd)) if odd else run
    run = segments.with_allocator(run, piece.text, piece.syntax)
    return asking(run, piece.text) if piece.syntax in BATCHED else run


def _syntaxes(text: str, name: str) -> Iterator[str]:
    """Yield the syntaxes that a text may have, the likeliest first."""
    suffix = os.path.splitext(name)[1].lower()
    first = "modelfile" if FOUND_BY_NAME.search(os.path.basename(name)) else SUFFIXES.get(suffix)
    if first and first != "text":  # a .txt or .md file may hold any syntax
        yield first
    if first in ("yaml", "json", "toml"):
        return
    json = text.lstrip()[:1] in ("{", "[")
    others = [each for each in SYNTAXES if each != first or first == "text"]
    yield from (each for each in others if json or each != "json")
