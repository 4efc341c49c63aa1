"""Pyodide, the CPython of browsers: its npm package, fetched once by npm, checked and kept.

package() -> Path            the package's archive in the user's cache folder
unpacked(archive, folder)    the files of it that a page needs
"""

from pathlib import Path

from weighbridge.base.units import MIB
from weighbridge.faces.web import npm
from weighbridge.faces.web.npm import NpmPackage

# The newest line with Python 3.13; its successors, of 3.14, have not been tried in browsers.
NAME, VERSION = "pyodide", "0.29.5"
# `npm view pyodide@0.29.5 dist.integrity`
SHA512 = "TkYrUv9m8QmfImADKRmpwZulL48E0uUaBSO+dvRQKyAJc0qh9gu7jn8btyHPh3NZm1r2IH2YrJhIr7Q2B9urAw=="
FILE = f"{NAME}-{VERSION}.tgz"
FILES = ("pyodide.mjs", "pyodide.asm.js", "pyodide.asm.wasm", "python_stdlib.zip")
LOCK = "pyodide-lock.json"  # its "info" says which Python its packages are built for; we load none
LICENCE = (
    "Pyodide is published under the Mozilla Public License 2.0, its source is at"
    " https://github.com/pyodide/pyodide; CPython, which is inside, under the PSF License 2,"
    " https://docs.python.org/3/license.html"
)
MOST = 64 * MIB  # most bytes of one file


def package() -> Path:
    """Return the path of Pyodide's checked archive, cached or from npm. Raises UsageError,
    HubError, BadFileError."""
    return npm.fetched(NpmPackage(NAME, VERSION, SHA512))


def unpacked(archive: Path, folder: Path) -> None:
    """Write Pyodide's files that a page needs from `archive` into `folder`."""
    names = (*FILES, LOCK)
    for name, content in zip(names, npm.members(archive, names, MOST), strict=True):
        (folder / name).write_bytes(content)
