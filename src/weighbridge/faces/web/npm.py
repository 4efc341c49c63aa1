"""npm packages that a static site is built with: fetched once by npm, checked and kept.

    fetched(package) -> Path        a package's archive in the user's cache folder
    members(archive, names)         some of its files

npm itself fetches them, so a company's registry and proxy are used as they are set up.
"""

import base64
import hashlib
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from weighbridge.base.errors import BadFileError, HubError, UsageError
from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import sentence
from weighbridge.base.units import MIB
from weighbridge.base.wording import clipped

SECONDS = 300


class NpmPackage(NamedTuple):
    """One release of an npm package, and the SHA-512 that npm lists for its archive, in base64."""

    name: str
    version: str
    sha512: str

    @property
    def file(self) -> str:
        """Return the file name that `npm pack` gives the archive."""
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"


def cache_folder() -> Path:
    """Return weighbridge's cache folder: in $XDG_CACHE_HOME if that is an absolute path, else in
    ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    root = Path(base) if os.path.isabs(base) else Path.home() / ".cache"
    return root / "weighbridge"


def fetched(package: NpmPackage) -> Path:
    """Return the path of a package's checked archive, from the cache or npm. Raises UsageError,
    HubError, BadFileError."""
    path = cache_folder() / package.file
    if path.is_file():
        _check_hash(path, package, f"delete {path} and try again")
        return path
    with TemporaryDirectory() as folder:
        packed = _pack(Path(folder), package, path)
        _check_hash(
            packed, package, "npm's registry or a proxy has another package under that name"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        begun = path.with_suffix(f".{os.getpid()}")
        shutil.copyfile(packed, begun)
        begun.replace(path)
    return path


def _pack(folder: Path, package: NpmPackage, path: Path) -> Path:
    """Return the archive that `npm pack` fetches without running the package's scripts. Raises
    HubError with npm's reason."""
    npm, named, file = program("npm"), f"{package.name}@{package.version}", package.file
    command = [npm, "pack", named, "--ignore-scripts", "--silent"]
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HubError(f"npm pack {named}: {error}") from None
    if done.returncode or not (folder / file).is_file():
        lines = [line for line in done.stderr.splitlines() if "npm error" in line.lower()]
        reason = clipped((lines or ["it gave no reason"])[0], 120)
        raise HubError(sentence("npm.fetch", package=named, why=reason, file=file, folder=path))
    return folder / file


def program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise UsageError(sentence("npm.program", name=name))
    return path


def _check_hash(path: Path, package: NpmPackage, otherwise: str) -> None:
    """Check that the archive's SHA-512 is the published one; raise BadFileError with the advice
    `otherwise` if not."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha512").digest()
    if base64.b64encode(digest).decode() != package.sha512:
        raise BadFileError(
            sentence(
                "npm.other_hash",
                file=path.name,
                package=package.name,
                version=package.version,
                then=otherwise,
            )
        )


def members(archive: Path, names: Iterable[str], most: int = 64 * MIB) -> Iterator[bytes]:
    """Yield files of a package's archive in the order of `names`. Raises BadFileError for one that
    is missing, or has more than `most` bytes."""
    with tarfile.open(archive) as opened:
        for name in names:
            member = opened.getmember(f"package/{name}")
            file = opened.extractfile(member)
            if file is None or member.size > most:
                raise BadFileError(
                    sentence("npm.no_member", name=name, most=most), where=archive.name
                )
            yield file.read()
