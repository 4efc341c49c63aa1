"""Small models, and a plan of a few questions about them: a second of one core."""

import json
from importlib.util import find_spec

import pytest

from tests.scan import small
from weighbridge.faces.scan import asking, planning, registry

MISSING = [name for name in ("pyarrow", "duckdb") if find_spec(name) is None]
QUESTIONS = b"""
questions:
  - {name: load, task: load}
  - {name: serve, task: infer, workload: {engine: vllm, context: [512, 1024]}}
  - {name: tune, task: train, workload: {method: lora, seq_len: 64}}
"""


@pytest.fixture(scope="session", autouse=True)
def libraries():
    if MISSING:
        pytest.skip(f"{' and '.join(MISSING)}: in the extra test-scan")


@pytest.fixture
def folder(tmp_path):
    """A folder of models, of which two are one, one is no JSON and one is of no known type."""
    root = tmp_path / "models"
    for name, text in small.texts().items():
        (root / name).mkdir(parents=True)
        (root / name / "config.json").write_text(text)
    return root


@pytest.fixture
def planned(folder, tmp_path):
    """(folder of a dataset, its plan), in four parts."""
    return make(folder, tmp_path / "out")


def make(folder, out, parts=4):
    questions = asking.read(QUESTIONS, "questions", ["4090"])
    found = registry.models(folder)
    return out, planning.plan(found, out, questions, source="models", parts=parts)


def notes(out):
    return [json.loads(path.read_text()) for path in sorted(out.glob("notes/*/*.json"))]


def files(out):
    """The answers of a dataset, file by file."""
    root = out / "answers"
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*.parquet"))}
