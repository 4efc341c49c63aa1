"""Our package as an archive of the files that a page's answers need, with equal bytes at every
build."""

import ast
import gzip
import io
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
PACKAGE = Path(__file__).parent.parent.parent
OUT = (
    *("faces/cli", "measure.py", "answers/questions/jobs.py", "__main__.py", "py.typed"),
    *("faces/scan", "faces/agents", "faces/render/bounded.py"),
    *("faces/view/scan.py", "faces/view/scan_diff.py", "faces/charts/scanned.py"),
    *("memory/report/scanned.py", "memory/report/scan_diff.py"),
    *("faces/web/page", "faces/web/server.py", "faces/web/desks.py", "faces/web/build.py"),
    *("faces/web/archive.py", "faces/web/npm.py", "faces/web/pyodide.py"),
    *("faces/web/space", "faces/web/snapshot.mjs", "faces/web/registry.py"),
    "faces/web/demonstration",
    *("models/sources/session.py", "models/sources/wire.py"),  # HTTP clients that a page cannot use
)
LATER = (  # tables of recorded networks, which few visits read
    *("models/arch/families/timm_names.txt", "models/arch/families/timm_trees.txt"),
    "pictures/nets",
)


def members(package: Path = PACKAGE) -> Iterator[tuple[str, bytes]]:
    """Yield (name, contents) in order of the names, with the files that a page fetches later."""
    for path in sorted(package.rglob("*")):
        name = path.relative_to(package).as_posix()
        if path.is_file() and "__pycache__" not in path.parts and wanted(name):
            data = path.read_bytes()
            yield f"{package.name}/{name}", undocumented(data) if path.suffix == ".py" else data
    import yaml  # run files are YAML

    for path in sorted(Path(yaml.__file__).parent.glob("*.py")):
        yield f"yaml/{path.name}", undocumented(path.read_bytes())


def undocumented(source: bytes) -> bytes:
    """Return a module's source without docstrings, comments and blank lines, which saves a quarter
    of a page's download. Nothing that a page imports reads them."""
    lines: list[str | None] = [*source.decode().split("\n")]
    tree = ast.parse(source)
    texts = [node for node in ast.walk(tree) if isinstance(node, ast.Constant | ast.JoinedStr)]
    lines_of_texts = {
        i
        for constant in texts
        for i in range(constant.lineno, constant.end_lineno or constant.lineno)
    }
    for i, line in enumerate(source.decode().split("\n")):
        blank = not line.strip() and i + 1 < len(
            lines
        )  # the last empty line ends the line before it
        if i not in lines_of_texts and (blank or line.lstrip().startswith("#")):
            lines[i] = None
    for node in ast.walk(tree):
        if not isinstance(node, DOCUMENTED) or ast.get_docstring(node, clean=False) is None:
            continue
        text = node.body[0]
        assert text.end_lineno is not None
        begin = (lines[text.lineno - 1] or "")[: text.col_offset]
        lines[text.lineno - 1 : text.end_lineno] = [
            f'{begin}""',
            *[None] * (text.end_lineno - text.lineno),
        ]
    return "\n".join(line for line in lines if line is not None).encode()


def wanted(name: str) -> bool:
    """Return whether a page needs a file; `name` is the file's path in the package."""
    return not _is_among(name, OUT)


def later(name: str) -> bool:
    """Return whether a page fetches the file `name` only when it first reads it, so that the
    archive does not hold it."""
    return name.endswith(".txt") and _is_among(name.removeprefix(f"{PACKAGE.name}/"), LATER)


def _is_among(name: str, places: Sequence[str]) -> bool:
    return any(name == place or name.startswith(f"{place}/") for place in places)


def tar(files: dict[str, bytes]) -> bytes:
    """Return the files as a gzipped tar archive without times and owners, which the page
    unpacks."""
    archived = io.BytesIO()
    with tarfile.open(fileobj=archived, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return gzipped(archived.getvalue())


def zipped(files: dict[str, bytes]) -> bytes:
    """Return the files as an uncompressed zip archive, from which Python in the browser imports."""
    archived = io.BytesIO()
    with zipfile.ZipFile(archived, "w") as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return archived.getvalue()


def gzipped(data: bytes) -> bytes:
    return gzip.compress(data, 9, mtime=0)
