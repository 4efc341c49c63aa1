"""Run files against the cards that they are for, by the rules of weighbridge.toml.

    [[check]]
    files = ["configs/*.yaml"]      # below the folder of weighbridge.toml
    gpu = "a100-80gb:8"             # and any other setting: headroom, ram, context...
    fail_on = ["no", "unread"]      # of no, unknown (cannot say) and unread (nobody can read it,
                                    # or a value that decides)

A file is checked by the first rule that it matches (patterns.py). What no rule matches is named,
and does not fail: a commit changes files of all kinds.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from weighbridge.answers.questions.question import question
from weighbridge.answers.remedies.case import DEVICE
from weighbridge.base._version import __version__
from weighbridge.base.errors import BadFileError, NotFoundError, UsageError, WeighbridgeError
from weighbridge.base.records import field, frozen_record
from weighbridge.base.sentences import sentence
from weighbridge.base.wording import one_line, shown
from weighbridge.files.runfiles.document import documents
from weighbridge.files.runfiles.kinds import folder_of, read, text_of
from weighbridge.files.runfiles.patterns import below, matches
from weighbridge.files.runfiles.weighing import Open, WeighedFile, weighed
from weighbridge.workload import TABLES

SCHEMA = "weighbridge.check/1"
RULES = "weighbridge.toml"
Result = Literal["yes", "no", "unknown", "unread"]
FAILS: tuple[Result, ...] = ("no", "unknown", "unread")
USUAL: tuple[Result, ...] = ("no", "unread")  # a gate rejects files that it cannot read
MOST_FILES = 500


@frozen_record
class CheckRule:
    """File patterns, and the settings for files that match them."""

    files: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    fail_on: tuple[str, ...] = USUAL


@frozen_record
class CheckedFile:
    """A file with its answer, or the reason why it could not be read."""

    name: str
    rule: CheckRule
    found: WeighedFile | None = None
    why: str = ""

    @property
    def result(self) -> Result:
        """Return the file's verdict; "unread" if no run has an estimate, or if a missing value or
        file leaves the answer open."""
        if self.found is None or not self.found.answered:
            return "unread"
        reports = (run.report for run in self.found.runs)
        every = (r.verdict.conditions for r in reports if r and r.verdict)
        absent = any(one.opens == "either" for conditions in every for one in conditions)
        return "unread" if self.found.fits == "unknown" and absent else self.found.fits

    @property
    def code(self) -> int:
        """Return the exit code for this file by itself, as with --check."""
        return 2 if self.found is None else self.found.code(check=True)

    @property
    def failed(self) -> bool:
        """Return whether the file's rule counts its result as a failure."""
        return self.result in self.rule.fail_on

    @property
    def reason(self) -> str:
        """Return the verdict's reason as a sentence, or why there is no verdict."""
        for run in self.found.runs if self.found is not None else ():
            if run.report is None and self.result in ("unread", "unknown"):
                return run.why
            verdict = run.report and run.report.verdict
            if verdict and self.result in (verdict.fits, "unread"):
                return verdict.reason
        return self.why or "no card is named: gpu in the rule says it"

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form: the result, and the whole answer."""
        return {
            "file": self.name,
            "result": self.result,
            "failed": self.failed,
            "reason": self.reason,
            "answer": None if self.found is None else self.found.to_dict(),
        }


@frozen_record
class FileCheck:
    """The answer of `weighbridge check`. `uncovered`: files that the user named but no rule
    matches."""

    files: tuple[CheckedFile, ...]
    uncovered: tuple[str, ...] = ()

    @property
    def code(self) -> int:
        """Return the exit code: 0, or that of the first failed file."""
        failed = sorted((FAILS.index(f.result), f.code) for f in self.files if f.failed)
        return next((code for _, code in failed), 0)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON answer (docs/report.md)."""
        return {
            "schema": SCHEMA,
            "version": __version__,
            "failed": self.code != 0,
            "files": [one.to_dict() for one in self.files],
            "not_covered": list(self.uncovered),
        }


def rules_of(path: Path) -> tuple[CheckRule, ...]:
    """Return the rules of weighbridge.toml. Raises UsageError for an invalid rule."""
    text, name = text_of(path, None)
    (document,) = documents(text, "toml", name)
    checks = document.data.get("check")
    if not isinstance(checks, list) or not checks:
        raise BadFileError(sentence("check.none", name=name))
    return tuple(_rule(each, f"{name}, check {number}") for number, each in enumerate(checks, 1))


def _rule(check: Any, where: str) -> CheckRule:
    settings = dict(check) if isinstance(check, dict) else {}
    files, fails = settings.pop("files", None), settings.pop("fail_on", list(USUAL))
    if not _texts(files) or not files:
        raise UsageError(sentence("check.files", value=shown(files)), where=where)
    outside = next((p for p in files if os.path.isabs(p) or ".." in Path(p).parts), None)
    if outside is not None:
        raise UsageError(sentence("check.outside", pattern=shown(outside)), where=where)
    if not _texts(fails) or not set(fails) <= set(FAILS):
        raise UsageError(
            sentence("check.fail_on", names=", ".join(FAILS), value=shown(fails)), where=where
        )
    known = {"model", *TABLES["infer"], *TABLES["train"]}
    strange = sorted(settings.keys() - known)
    if strange:
        raise UsageError(sentence("check.no_setting", name=shown(strange[0])), where=where)
    try:
        question("infer", None, {name: v for name, v in settings.items() if name in DEVICE})
    except WeighbridgeError as error:
        raise UsageError(f"{where}: {error}") from None
    return CheckRule(files=tuple(files), settings=settings, fail_on=tuple(fails))


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def checked(
    rules: Sequence[CheckRule], folder: Path, names: Sequence[str], open_: Open
) -> FileCheck:
    """Return the answers for `names`, or for all matching files below `folder`, each by the first
    rule that matches it. Raises UsageError for too many files, NotFoundError for a missing one."""
    patterns = [pattern for rule in rules for pattern in rule.files]
    files = [] if names else [*below(folder, patterns)]
    wanted = [_name(folder, name) for name in names] or [n for n in files if n != RULES] or files
    pairs = [(name, next((r for r in rules if matches(name, r.files)), None)) for name in wanted]
    if not pairs:
        listed = ", ".join(patterns)
        raise NotFoundError(sentence("check.no_match", folder=folder, patterns=listed))
    covered = {name: rule for name, rule in pairs if rule is not None}
    if len(covered) > MOST_FILES:
        raise UsageError(sentence("check.many", count=len(covered), most=MOST_FILES))
    return FileCheck(
        files=tuple(_checked(folder, *one, open_) for one in covered.items()),
        uncovered=tuple(name for name, rule in pairs if rule is None),
    )


def _name(folder: Path, name: str) -> str:
    """Return a file's path relative to the rules' folder. Raises NotFoundError if there is no such
    file."""
    if not Path(name).is_file():
        what = "is a folder: name files of it" if Path(name).is_dir() else "no such file"
        raise NotFoundError(f"{shown(name)}: {what}")
    return Path(os.path.relpath(name, folder)).as_posix()


def _checked(folder: Path, name: str, rule: CheckRule, open_: Open) -> CheckedFile:
    settings = dict(rule.settings)
    model = settings.pop("model", None)
    try:
        text, _ = text_of(folder / name, None)
        file = read(text, name, folder=folder_of(folder / name, None))
        known = {setting for run in file.runs for setting in TABLES[run.task]}
        of_its_tasks = {setting: value for setting, value in settings.items() if setting in known}
        return CheckedFile(name=name, rule=rule, found=weighed(file, open_, of_its_tasks, model))
    except WeighbridgeError as error:
        return CheckedFile(name=name, rule=rule, why=error.line)
    except Exception as error:  # the other files get their answers even if this one fails
        why = f"this is a defect of weighbridge: {type(error).__name__}: {error}"
        return CheckedFile(name=name, rule=rule, why=one_line(why))


def sarif(check: FileCheck) -> dict[str, Any]:
    """Return the answer as SARIF 2.1.0, which code hosts show beside the lines of a change."""
    results = [result for one in check.files for result in _results(one)]
    rules = sorted({result["ruleId"] for result in results})
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "weighbridge",
                        "version": __version__,
                        "rules": [{"id": rule} for rule in rules],
                    }
                },
                "results": results,
            }
        ],
    }


def _results(one: CheckedFile) -> Iterator[dict[str, Any]]:
    if one.result != "yes":
        level = "error" if one.failed else "warning"
        yield _result(one.name, f"fits-{one.result}", level, one.reason, 1)
    for run in one.found.runs if one.found is not None else ():
        for key in run.run.unread:
            yield _result(one.name, "not-understood", "note", f"{key.key}: {key.why}", key.line)


def _result(name: str, rule: str, level: str, text: str, line: int) -> dict[str, Any]:
    place = {"artifactLocation": {"uri": quote(name)}, "region": {"startLine": max(line, 1)}}
    return {
        "ruleId": rule,
        "level": level,
        "message": {"text": text},
        "locations": [{"physicalLocation": place}],
    }
