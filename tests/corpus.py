"""The corpus of real configs, where it is present beside the checkout (it is not part of it)."""

import json
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2] / "shared" / "data"
MODELS = ROOT / "models"


@cache
def manifest():
    """One record a file: model_id, file, verified, ... Empty where the corpus is absent."""
    path = MODELS / "MANIFEST.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def configs(model_type=None):
    """(file, raw config) of every top-level config.json, optionally of one model type."""
    for entry in manifest():
        path = MODELS / entry["file"]
        if path.name == "config.json" and entry["file"].count("/") == 1 and path.exists():
            raw = json.loads(path.read_text())
            if model_type is None or raw.get("model_type") == model_type:
                yield entry["file"], raw
