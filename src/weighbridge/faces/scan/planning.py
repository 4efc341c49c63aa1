"""The plan of a scan: the models of a registry, and one config per key, in parts of about equal
size."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from weighbridge.base.canonical import canonical_text, digest
from weighbridge.base.errors import UsageError, WeighbridgeError
from weighbridge.base.sentences import sentence
from weighbridge.base.units import ceil_div
from weighbridge.base.wording import redacted
from weighbridge.faces.scan.asking import ScanQuestion
from weighbridge.faces.scan.dataset import (
    CONFIGS,
    MODELS,
    ScanPlan,
    configs_file,
    parquet,
    put,
    put_json,
)
from weighbridge.faces.scan.earlier import set_aside
from weighbridge.faces.scan.registered import RegisteredModel

KEYS_A_PART = 32  # some 30 seconds of one core, the most that a killed process loses
MOST_PARTS = 10_000


def plan(
    registered: Iterable[RegisteredModel],
    out: Path,
    questions: Sequence[ScanQuestion],
    *,
    source: str,
    parts: int | None = None,
) -> ScanPlan:
    """Write the plan of a scan into the folder `out`, and return it.

    Args:
        registered: the models, each with its config.
        questions: the questions that each key is asked.
        source: the place that the models were read from, in words.
        parts: the number of parts; None makes each some 30 seconds long.

    Raises:
        weighbridge.WeighbridgeError: a source that cannot be read, or holds no model.
    """
    texts: dict[str, str] = {}
    rows = list(_model_rows(registered, texts))
    if not rows:
        raise UsageError(sentence("scan.no_model"), where=source)
    set_aside(out)
    number = parts or min(MOST_PARTS, ceil_div(len(texts), KEYS_A_PART)) or 1
    rows.sort(key=lambda row: (row["key"] or "", row["id"]))
    listed = put(out / "models.parquet", parquet(rows, MODELS))
    unread = sum(row["unread"] is not None for row in rows)
    planned = ScanPlan(
        parts=number,
        questions=tuple(questions),
        source=source,
        counts={"models": len(rows), "keys": len(texts), "unread": unread},
        configs=tuple(_write_configs(out, number, texts)),
        models=listed,
    )
    put_json(out / "plan.json", planned.to_dict())  # written last: the files that it names exist
    return planned


def _write_configs(out: Path, parts: int, texts: dict[str, str]) -> Iterator[str]:
    """Write the configs of each part, and yield the files' checksums. Parts depend on keys only, so
    a source in another order gives an equal plan."""
    members: list[list[str]] = [[] for _ in range(parts)]
    for key in sorted(texts):
        members[int(key[:8], 16) % parts].append(key)
    for number, keys in enumerate(members):
        configs = [{"key": key, "config": texts[key]} for key in keys]
        yield put(configs_file(out, number), parquet(configs, CONFIGS))


def _model_rows(
    registered: Iterable[RegisteredModel], texts: dict[str, str]
) -> Iterator[dict[str, Any]]:
    """Yield the row of each model, and add the config of each new key to `texts`."""
    for model in registered:
        key, unread = None, model.unread
        if model.config is not None:
            try:
                text = canonical_text(model.config)
            except WeighbridgeError as error:
                unread = str(error)
            else:
                key = digest(text + model.header)
                texts.setdefault(key, text if model.weights is None else json.dumps(model.weights))
        yield {
            "id": _storable(model.id),
            "sha": model.sha,
            "downloads": model.downloads,
            "key": key,
            "unread": unread,
        }


def _storable(text: str) -> str:
    """Return text that UTF-8 can hold, since file names may have lone surrogates, with passwords of
    addresses removed."""
    return redacted(text.encode(errors="replace").decode())
