"""What does the Hub's cache on disk hold of a repository?

    HF_HUB_CACHE/models--ORG--NAME/refs/REVISION            the commit that it was, as text
                                  /snapshots/COMMIT/FILE    links into ../../blobs

The layout is documented as stable (huggingface_hub docs, guides/manage-cache) and so read without
the client, whose module for it takes longer to import than this needs.
"""

import re
from pathlib import Path

from weighbridge.errors import NotFoundError

COMMIT = re.compile(r"[0-9a-f]{40}")


def default_dir() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def repository(cache_dir: Path, repo_id: str) -> Path:
    return cache_dir / "--".join(["models", *repo_id.split("/")])


def is_repository(path: Path) -> bool:
    return path.name.startswith("models--") and (path / "snapshots").is_dir()


def commit_of(repo: Path, revision: str) -> str | None:
    """The commit that `revision` was when last fetched; None when it never was."""
    if COMMIT.fullmatch(revision):
        return revision
    try:
        with (repo / "refs" / revision).open() as file:
            found = file.read(64).strip()
    except (OSError, UnicodeDecodeError):
        return None
    return found if COMMIT.fullmatch(found) else None


def snapshot(repo: Path, commit: str | None) -> Path | None:
    path = None if commit is None else repo / "snapshots" / commit
    return path if path is not None and path.is_dir() else None


def chosen_snapshot(repo: Path, revision: str | None) -> Path:
    """The snapshot that a user means who names the folder of a repository in the cache."""
    found = snapshot(repo, commit_of(repo, revision or "main"))
    held = sorted(path for path in (repo / "snapshots").iterdir() if path.is_dir())
    if found is None and revision is None and len(held) == 1:
        return held[0]
    if found is None:
        commits = ", ".join(path.name for path in held) or "none"
        raise NotFoundError(
            f"{repo}: no snapshot of revision {revision or 'main'!r}; it holds {commits}"
        )
    return found
