"""Pyodide, the CPython of browsers: its npm package, fetched once by npm, checked and kept.

    package() -> Path            the package's archive in the user's cache folder
    unpacked(archive, folder)    the files of it that a page needs

npm's own client fetches it, so that a company's registry and proxy are used as they are set up.
"""

import base64
import hashlib
import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

from weighbridge.errors import BadFileError, HubError, UsageError
from weighbridge.units import MIB
from weighbridge.wording import clipped

# The newest line with Python 3.13; its successors, of 3.14, have not been tried in browsers.
NAME, VERSION = "pyodide", "0.29.5"
# `npm view pyodide@0.29.5 dist.integrity`
SHA512 = "TkYrUv9m8QmfImADKRmpwZulL48E0uUaBSO+dvRQKyAJc0qh9gu7jn8btyHPh3NZm1r2IH2YrJhIr7Q2B9urAw=="
FILE = f"{NAME}-{VERSION}.tgz"
FILES = ("pyodide.mjs", "pyodide.asm.js", "pyodide.asm.wasm", "python_stdlib.zip")
LOCK = "pyodide-lock.json"  # its "info" says for which Python packages are made; we load none
LICENCE = (
    "Pyodide is published under the Mozilla Public License 2.0, its source is at"
    " https://github.com/pyodide/pyodide; CPython, which is inside, under the PSF License 2,"
    " https://docs.python.org/3/license.html"
)
MOST = 64 * MIB  # of one file
SECONDS = 300


def cache_folder() -> Path:
    """XDG base directories: $XDG_CACHE_HOME where it is an absolute path, else ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    root = Path(base) if os.path.isabs(base) else Path.home() / ".cache"
    return root / "weighbridge"


def package() -> Path:
    """The checked archive, from the cache or npm. Raises UsageError, HubError, BadFileError."""
    kept = cache_folder() / FILE
    if kept.is_file():
        _checked(kept, f"delete {kept} and try again")
        return kept
    with TemporaryDirectory() as folder:
        packed = _packed(Path(folder), kept)
        _checked(packed, "npm's registry or a proxy has another package under that name")
        kept.parent.mkdir(parents=True, exist_ok=True)
        begun = kept.with_suffix(f".{os.getpid()}")
        shutil.copyfile(packed, begun)
        begun.replace(kept)
    return kept


def _packed(folder: Path, kept: Path) -> Path:
    """`npm pack`: what npm says goes into the error, and nothing is run of the package."""
    npm = program("npm")
    command = [npm, "pack", f"{NAME}@{VERSION}", "--ignore-scripts", "--silent"]
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HubError(f"npm pack {NAME}@{VERSION}: {error}") from None
    if done.returncode or not (folder / FILE).is_file():
        lines = [line for line in done.stderr.splitlines() if "npm error" in line.lower()]
        said = clipped((lines or ["it gave no reason"])[0], 120)
        raise HubError(
            f"npm cannot fetch {NAME}@{VERSION} ({said}); without a network, put {FILE} of another"
            f" machine at {kept}"
        )
    return folder / FILE


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise UsageError(
            f"{name} is not on the PATH, and a static site needs it to fetch and start Pyodide:"
            " install Node.js 20 or newer (https://nodejs.org), which has it"
        )
    return found


def _checked(path: Path, otherwise: str) -> None:
    """Raises BadFileError where a file is not the one that was published."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha512").digest()
    if base64.b64encode(found).decode() != SHA512:
        raise BadFileError(f"{path.name} is not {NAME} {VERSION}, its sha512 differs: {otherwise}")


def unpacked(archive: Path, folder: Path) -> None:
    """Put the files that a page needs into `folder`."""
    with tarfile.open(archive) as held:
        for name in (*FILES, LOCK):
            member = held.getmember(f"package/{name}")
            file = held.extractfile(member)
            if file is None or member.size > MOST:
                raise BadFileError(f"{archive.name}: {name} is no file of at most {MOST:,} bytes")
            (folder / name).write_bytes(file.read())
