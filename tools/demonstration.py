"""The models of the page's demonstration dataset: the built-in catalogue, and real configs.

    python -m tools.demonstration CONFIGS > models.jsonl
    weighbridge scan plan models.jsonl ./weighed --questions tools/demonstration.yaml \\
        --gpu 3060 --gpu 4090 --gpu 5090 --gpu l40s --gpu h100 --gpu h200
    weighbridge scan run ./weighed --jobs 2
    weighbridge scan publish ./weighed src/weighbridge/faces/web/demonstration \\
        --license apache-2.0 --source "weighbridge's catalogue and 593 public configs"

CONFIGS is a folder of ORG__NAME/config.json. A model that both have is taken from there. The list
holds whole configs and stays where it is made; what is published has none of their text.
"""

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from weighbridge.models import catalogue

BETWEEN = "__"  # of organization and name, in the name of a folder


def main(configs: str) -> None:
    for row in rows(Path(configs)):
        print(json.dumps(row))


def rows(configs: Path) -> Iterator[dict[str, Any]]:
    """Yield a row for each model as `weighbridge scan` reads it: id, sha, config."""
    seen = set()
    for path in sorted(configs.glob(f"*{BETWEEN}*/config.json")):
        raw = path.read_bytes()
        name = path.parent.name.replace(BETWEEN, "/", 1)
        seen.add(name.lower())
        text = raw.decode(errors="replace")
        yield {"id": name, "sha": hashlib.sha256(raw).hexdigest(), "config": text}
    for name in catalogue.names():
        entry = catalogue.find(name)
        if entry.repo_id.lower() not in seen:
            seen.add(entry.repo_id.lower())
            yield {"id": entry.repo_id, "config": dict(entry.config)}


if __name__ == "__main__":
    main(*sys.argv[1:])
