"""A small registry, answered and published: a few models of the catalogue, one whose name is HTML,
two that are one to memory, one of no known type and one that is no JSON."""

import json
from unittest.mock import patch

from tests.scan.test_running import run
from weighbridge.faces.scan import asking, planning, publishing, registry
from weighbridge.faces.scan.packing import pack
from weighbridge.models.catalogue import find

HOSTILE = "<img src=x onerror=\"document.title='owned'\">"
NAMES = (
    "llama-3.1-8b",
    "llama-3.1-70b",
    "qwen3-0.6b",
    "qwen3-32b",
    "gpt-oss-20b",
    "mistral-7b-v0.3",
)
DOWNLOADS = {name: 1000 - at for at, name in enumerate(NAMES)}
QUESTIONS = b"""
questions:
  - {name: load, task: load}
  - {name: vllm, task: infer, workload: {engine: vllm, context: 8192}}
"""
CARDS = ("h100", "4090")
GROUP = 4  # models that are read together


def source(path):
    rows = [
        *(
            {"id": f"org/{n}", "downloads": DOWNLOADS[n], "config": dict(find(n).config)}
            for n in NAMES
        ),
        {"id": HOSTILE, "config": dict(find(NAMES[0]).config)},
        {"id": "org/no-type", "downloads": 5, "config": {"model_type": f"no-such-{HOSTILE}"}},
        {"id": "org/broken", "config": "{"},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def answered(root):
    """(folder of a dataset, its plan), whose parts are all answered."""
    out = root / "weighed"
    found = registry.models(source(root / "models.jsonl"))
    plan = planning.plan(
        found, out, asking.read(QUESTIONS, "q", CARDS), source=f"a {HOSTILE}", parts=2
    )
    run(out, plan)
    pack(out, plan)
    return out, plan


def published(root):
    """(folder of a dataset, its plan, the folder for readers), with few models in each group."""
    out, plan = answered(root)
    folder = root / "published"
    with patch.object(publishing, "GROUP", GROUP):
        publishing.publish(out, plan, folder)
    return out, plan, folder
