"""Our own package as an archive for a page: the files that its answers need, always the same bytes.

What only a terminal, a server, torch or a GPU needs stays out. `tests/web/test_build.py` holds that
nothing which is in imports something that is out, but for what is never asked in a page.
"""

import gzip
import io
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parent.parent
OUT = (
    *("cli", "lab/golden", "lab/measure", "lab/exact", "measure.py", "questions/jobs.py"),
    *("__main__.py", "py.typed"),
    "render/timeline.html",
    *("web/page", "web/server.py", "web/build.py", "web/pyodide.py", "web/packed.py", "web/space"),
    *("web/snapshot.mjs", "agents"),
    *("sources/session.py", "sources/wire.py", "sources/bare.py"),  # other ways to ask over HTTP
)
ONLY = {  # of these folders nothing but this
    "lab/trace": ("__init__.py", "levels.py"),
    "lab/evidence": ("__init__.py", "pinned.py", "rows.json"),
}


def members(package: Path = PACKAGE) -> Iterator[tuple[str, bytes]]:
    """(name, contents) in order of their names."""
    for path in sorted(package.rglob("*")):
        name = path.relative_to(package).as_posix()
        if path.is_file() and "__pycache__" not in path.parts and wanted(name):
            yield f"{package.name}/{name}", path.read_bytes()


def wanted(name: str) -> bool:
    """Whether a page needs the file; `name` is its path in the package."""
    for folder, names in ONLY.items():
        if name.startswith(f"{folder}/"):
            return name.removeprefix(f"{folder}/") in names
    return not any(name == out or name.startswith(f"{out}/") for out in OUT)


def tar(held: dict[str, bytes]) -> bytes:
    """An archive that the page unpacks, packed with gzip; nothing of it tells when or by whom."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in held.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return gzipped(made.getvalue())


def zipped(held: dict[str, bytes]) -> bytes:
    """The same for Python, without packing."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, data in held.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return made.getvalue()


def gzipped(data: bytes) -> bytes:
    return gzip.compress(data, 9, mtime=0)
