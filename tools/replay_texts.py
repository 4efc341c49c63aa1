"""Did the answer about any text change? Reads run files, pastes and messages, and compares what is
understood and answered with what is kept.

    python -m tools.replay --texts                    the public files and messages of tests/
    python -m tools.replay --texts FOLDER FILE.jsonl  and every text below a folder or in a list
    python -m tools.replay --texts --accept           write what came

tests/texts.jsonl has a line a text: where it stands, a hash of it, and what it is taken for: each
run's task, model, verdict and peak, hashes of its settings, command, notes and report, and the
cause that is named for a message. A text of others is kept as its hash alone.
"""

import json
import os
from collections.abc import Iterator, Sequence
from hashlib import sha256
from multiprocessing import Pool
from pathlib import Path
from typing import Any, NamedTuple

from tools import explained

import weighbridge
from weighbridge.base.errors import WeighbridgeError

ROOT = Path(__file__).parent.parent
KEPT = ROOT / "tests" / "texts.jsonl"
ENDS = {".yaml", ".yml", ".json", ".toml", ".txt", ".sh", ".py", ".md"}
ADDED = frozenset({"role", "stays", "binds"})  # keys that are younger than what is kept
LARGEST = 200_000  # bytes of a file that is read
WORDS = ("message", "given", "text", "command")  # keys of a row that hold a text


class Text(NamedTuple):
    """A text that is asked about."""

    place: str
    text: str

    @property
    def name(self) -> str | None:
        """The name of its file, which tells kinds apart; a row of a list has none."""
        file = Path(self.place)
        return file.name if file.suffix in ENDS else None

    @property
    def hash(self) -> str:
        return _hash(f"{self.name or ''}\n{self.text}")


def without(told: Any, names: frozenset[str]) -> Any:
    """Return the JSON of an answer without keys of these names."""
    if isinstance(told, dict):
        return {key: without(value, names) for key, value in told.items() if key not in names}
    return [without(one, names) for one in told] if isinstance(told, list | tuple) else told


def _hash(value: object) -> str:
    told = without(value, ADDED)
    text = told if isinstance(told, str) else json.dumps(told, sort_keys=True, default=str)
    return sha256(text.encode()).hexdigest()[:12]


def texts(folders: Sequence[Path]) -> Iterator[Text]:
    """Yield the texts of tests/, then those below each folder."""
    for path in (
        *sorted(ROOT.glob("tests/runfiles/public/*.jsonl")),
        ROOT / "tests/oom/messages.jsonl",
    ):
        yield from _rows(path, path.stem)
    for folder in folders:
        if folder.suffix == ".jsonl":
            yield from _rows(folder, folder.stem)
        for path in sorted(folder.rglob("*")):
            place = f"{folder.name}/{path.relative_to(folder)}"
            if path.suffix in ENDS and path.stat().st_size < LARGEST:
                yield Text(place, path.read_text(encoding="utf-8", errors="replace"))


def _rows(path: Path, place: str) -> Iterator[Text]:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
        row = json.loads(line)
        text = next((row[key] for key in WORDS if row.get(key)), None) if row else None
        if text:
            yield Text(f"{place}-{number}", text if isinstance(text, str) else _written(row, text))


def _written(row: dict[str, Any], given: Any) -> str:
    """Write the facts of a public file in its own syntax: JSON is YAML, and is read as such."""
    parts = given if row.get("syntax") == "yaml" else given[:1]
    return "\n---\n".join(json.dumps(part, indent=1) for part in parts)


def answer(one: Text) -> dict[str, Any]:
    """Return what is kept of the answer about a text."""
    try:
        told = weighbridge.weigh(one.text, name=one.name, offline=True).to_dict()
    except WeighbridgeError as error:
        return {"error": type(error).__name__, "says": _hash(str(error))}
    message = {k: v for k, v in (told["message"] or {}).items() if k != "version"}
    return {
        "kind": told["kind"],
        "fits": told["fits"],
        "runs": [_run(run) for run in told["runs"]],
        "words": _hash([told["warnings"], told["findings"], message]),
        **({"cause": message["cause"]} if message else {}),
    }


def _run(run: dict[str, Any]) -> dict[str, Any]:
    report = run["report"] or {}
    fullest = max(
        report.get("devices", ()), key=lambda d: d["peak"]["driver"]["expected"], default={}
    )
    return {
        "task": run["task"],
        "model": run["model"],
        "fits": (report.get("verdict") or {}).get("fits"),
        "peak": (fullest.get("peak") or {}).get("driver"),
        "settings": _hash(run["settings"]),
        "command": _hash(run["command"]),
        "read": _hash([run["understood"], run["not_understood"], run["notes"], run["missing"]]),
        "error": run["error"] and _hash(run["error"]),
    }


def replayed(
    folders: Sequence[Path], every: int = 1, *, accept: bool, forgiven: bool = False
) -> int:
    """Print what changed since the texts were kept; return 1 if something did and is not accepted.
    Of the texts each `every`-th is asked."""
    asked = list(texts(folders))[::every]
    with Pool(len(os.sched_getaffinity(0))) as pool:
        mapped = pool.imap(answer, asked, chunksize=4) if asked[9:] else map(answer, asked)
        answers = list(mapped)
    now = {
        one.hash: {"place": one.place, "answer": got}
        for one, got in zip(asked, answers, strict=True)
    }
    lines = KEPT.read_text(encoding="utf-8").splitlines() if KEPT.exists() else []
    before = {row.pop("text"): row for row in map(json.loads, lines)}
    changed = [
        key for key, row in now.items() if before.get(key, {}).get("answer") != row["answer"]
    ]
    for key in changed:
        print(now[key]["place"], "|", ", ".join(_differing(before.get(key), now[key]["answer"])))
    if forgiven:
        changes = [_to_change(now[key], before.get(key)) for key in changed]
        changed = [changed[i] for i in explained.unexplained(changes, KEPT)]
    print(f"{len(changed)} of {len(now)} answers about texts changed")
    if accept:
        rows = ({"text": key, **row} for key, row in {**before, **now}.items())
        KEPT.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return int(bool(changed) and not accept)


def _to_change(now: dict[str, Any], before: dict[str, Any] | None) -> explained.Change:
    """Return the change of the answer about one text; its question is "texts"."""
    differing = _differing(before, now["answer"])
    names = sorted({difference.split(" ")[0] for difference in differing})
    return explained.Change(now["place"], "texts", names, 0.0)


def _differing(before: dict[str, Any] | None, now: dict[str, Any]) -> Iterator[str]:
    if before is None:
        yield "new"
        return
    old = before["answer"]
    yield from (
        name for name in {**old, **now} if name != "runs" and old.get(name) != now.get(name)
    )
    runs = old.get("runs", []), now.get("runs", [])
    if len(runs[0]) != len(runs[1]):
        yield f"{len(runs[0])} runs, now {len(runs[1])}"
    for was, run in zip(*runs, strict=False):
        yield from (
            f"{name} {was[name]} -> {run[name]}" for name in run if was.get(name) != run[name]
        )
