"""The Hub's cache on disk, read and filled without huggingface_hub's client.

    HF_HUB_CACHE/models--ORG--NAME/refs/REVISION            the revision's commit, as text
                                  /snapshots/COMMIT/FILE    links into ../../blobs
                                  /blobs/ETAG               the files

The layout is documented as stable (huggingface_hub docs, guides/manage-cache); the client's module
for it takes longer to import than this needs. A file is complete or missing, however many processes
write it.
"""

import hashlib
import os
import re
from contextlib import suppress
from pathlib import Path

from weighbridge.base.errors import NotFoundError
from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import sentence
from weighbridge.models.sources import surroundings

COMMIT = re.compile(r"[0-9a-f]{40}")
ETAG = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")  # SHA-1 of git's files, SHA-256 of LFS's
SMALL = ".json"  # ending of the files that are cached


class Revision(NamedTuple):
    """A revision as the user names it, and its commit."""

    name: str
    commit: str


def default_dir() -> Path:
    return Path(surroundings.constants().HF_HUB_CACHE)


def repository(cache_dir: Path, repo_id: str) -> Path:
    return cache_dir / "--".join(["models", *repo_id.split("/")])


def is_repository(path: Path) -> bool:
    return path.name.startswith("models--") and (path / "snapshots").is_dir()


def commit_of(repo: Path, revision: str) -> str | None:
    """Return the commit of `revision` when it was last fetched; None if it never was."""
    if COMMIT.fullmatch(revision):
        return revision
    try:
        with (repo / "refs" / revision).open() as file:
            commit = file.read(64).strip()
    except (OSError, UnicodeDecodeError):
        return None
    return commit if COMMIT.fullmatch(commit) else None


def snapshot(repo: Path, commit: str | None) -> Path | None:
    path = None if commit is None else repo / "snapshots" / commit
    return path if path is not None and path.is_dir() else None


def chosen_snapshot(repo: Path, revision: str | None) -> Path:
    """Return the snapshot folder of `revision` in a repository's cache folder; by default main's,
    or the only one. Raises NotFoundError without one."""
    chosen = snapshot(repo, commit_of(repo, revision or "main"))
    snapshots = sorted(path for path in (repo / "snapshots").iterdir() if path.is_dir())
    if chosen is None and revision is None and len(snapshots) == 1:
        return snapshots[0]
    if chosen is None:
        commits = ", ".join(path.name for path in snapshots) or "none"
        raise NotFoundError(
            sentence("cache.no_snapshot", revision=revision or "main", names=commits),
            where=str(repo),
        )
    return chosen


def is_damaged(place: Path, data: bytes) -> bool:
    """Return whether a snapshot's file differs from the hash in its link's target; False without
    links."""
    named = os.path.basename(os.path.realpath(place))
    return ETAG.fullmatch(named) is not None and not is_of(named, data)


def is_of(etag: str, data: bytes) -> bool:
    """Return whether an ETag is the hash of the data: git's, or SHA-256 (LFS)."""
    if len(etag) == 64:
        return hashlib.sha256(data).hexdigest() == etag
    head = b"blob %d\0" % len(data)
    return hashlib.sha1(head + data, usedforsecurity=False).hexdigest() == etag


def forget(place: Path) -> None:
    """Delete a damaged file of a snapshot, so that it is fetched again."""
    with suppress(OSError):
        Path(os.path.realpath(place)).unlink()
        place.unlink(missing_ok=True)


def keep(repo: Path, revision: Revision, path: str, etag: str, data: bytes) -> None:
    """Write a file into the cache where huggingface_hub would (file_download.py@2.4). A cache that
    cannot be written is left alone: nothing depends on it. A browser page has none."""
    if surroundings.IN_BROWSER:
        return
    with suppress(OSError):
        blob, pointer = repo / "blobs" / etag, repo / "snapshots" / revision.commit / path
        if not blob.is_file():
            _write(blob, data)
        if not pointer.is_file():
            _link_to_blob(pointer, blob, data)
        _write_reference(repo, revision)


def _write(place: Path, data: bytes) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    begun = place.with_name(f"{place.name}.{os.urandom(4).hex()}.incomplete")
    try:
        begun.write_bytes(data)
        os.replace(begun, place)
    finally:
        begun.unlink(missing_ok=True)


def _link_to_blob(pointer: Path, blob: Path, data: bytes) -> None:
    """Create a link to `blob` if the system has links, else a copy."""
    constants = surroundings.constants()
    pointer.parent.mkdir(parents=True, exist_ok=True)
    if not getattr(constants, "HF_HUB_DISABLE_SYMLINKS", False):
        try:
            if pointer.is_symlink() and not pointer.exists():  # its blob was deleted by hand
                pointer.unlink()
            return os.symlink(os.path.relpath(blob, pointer.parent), pointer)
        except FileExistsError:  # another process was first
            return None
        except (OSError, NotImplementedError):
            pass
    return _write(pointer, data)


def _write_reference(repo: Path, revision: Revision) -> None:
    """Write the commit of a branch or tag, unless the older snapshot has more than small files:
    without a network, these are worth more than a newer config."""
    before = commit_of(repo, revision.name)
    older = snapshot(repo, before)
    if before == revision.commit or (older is not None and _has_large_files(older)):
        return
    if not {"", ".", ".."} & set(revision.name.split("/")):
        _write(repo / "refs" / revision.name, revision.commit.encode())


def _has_large_files(folder: Path) -> bool:
    return any(not name.endswith(SMALL) for _, _, names in os.walk(folder) for name in names)
