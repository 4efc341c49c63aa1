"""The dataset of the page's Registry tab: files that `weighbridge scan publish` wrote.

FILES              their names, below registry/ of the page
files_of(folder)   their places, or an error about them
DEMONSTRATION      the dataset that is shown unless the user names another
"""

import json
from collections.abc import Mapping
from pathlib import Path

from weighbridge.base.errors import BadFileError, UsageError
from weighbridge.base.sentences import sentence

SCHEMA = "weighbridge.registry/1"
LIST = "registry.json"
FILES = (LIST, "models.parquet", "keys.parquet", "answers.parquet")
NAMES = "names.parquet"  # exists only in a large dataset
FOLDER = "registry"  # folder of the page with the dataset
DEMONSTRATION = Path(__file__).with_name("demonstration")
MOST = 16_000_000  # most bytes of the list that are read


def is_published(folder: Path) -> bool:
    """Return whether a folder holds a published dataset, not one that `scan` is still answering."""
    return (folder / LIST).is_file()


def files_of(folder: Path) -> Mapping[str, Path]:
    """Return path on the page -> file, for the files of a dataset. Raises UsageError or
    BadFileError if they do not belong to one dataset."""
    if not is_published(folder):
        raise UsageError(sentence("dataset.none", folder=folder, file=LIST))
    try:
        with (folder / LIST).open("rb") as file:
            registry = json.loads(file.read(MOST))
        schema = registry["schema"]
        files = [*FILES[1:], *(name for name in registry["files"] if name == NAMES)]
        listed = {name: registry["files"][name]["bytes"] for name in files}
    except (OSError, ValueError, KeyError, TypeError):
        raise BadFileError(sentence("dataset.no_list", path=folder / LIST)) from None
    if schema != SCHEMA:
        raise BadFileError(
            sentence("dataset.schema", path=folder / LIST, schema=schema, known=SCHEMA)
        )
    for name, size in listed.items():
        if not (folder / name).is_file() or (folder / name).stat().st_size != size:
            raise BadFileError(sentence("dataset.other_file", path=folder / name, list=LIST))
    return {f"{FOLDER}/{name}": folder / name for name in (LIST, *listed)}
