"""The page as a folder of static files: `weighbridge web build DIR`.

    build(folder)    page/ as it is, Pyodide, our package, and the memory of a Python that has
                     imported it; with a list of all files and their hashes

Names of files in engine/ contain a part of their hash. Files that a start reads are gzipped,
whatever the server does; tables that a page fetches later (archive.py) are plain text. All
addresses are relative. Only a folder that is empty or that an earlier build wrote is written to;
files of that build that this one does not write are deleted, and no others.
"""

import hashlib
import json
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from weighbridge.base._version import __version__
from weighbridge.base.errors import BadFileError, UsageError
from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import sentence
from weighbridge.base.wording import clipped, shown
from weighbridge.base.words import LANGUAGES
from weighbridge.faces.web import npm, pyodide, registry
from weighbridge.faces.web.archive import gzipped, later, members, tar, zipped
from weighbridge.faces.web.form import form
from weighbridge.faces.web.server import FRAMES, LOOK, PAGE, POLICY
from weighbridge.models.sources.browser import HOSTS
from weighbridge.models.sources.reference import ENDPOINT

MAKER = "weighbridge web build"
LIST, SITE, OFFLINE, INDEX = "site.json", "site.js", "offline.js", "index.html"
FIRST = "first.json"  # what the page shows before Python has started
KEPT_OFFLINE = 4_000_000  # bytes: a larger dataset is not kept for visits without a network
BEGIN = "from weighbridge.faces.web.worker import begun\nbegun()"
CSP = "Content-Security-Policy"
STATIC = LOOK.replace("served", "static")
UNLISTED = "const SITE = null;"
KEPT = frozenset({".git", "CNAME"})  # names allowed in an otherwise empty folder
SNAPSHOT_SECONDS = 900
MOST_SNAPSHOTS = 3


class EngineFile(NamedTuple):
    """A file of engine/: the name that the worker knows it by, its ending and its contents."""

    name: str
    ending: str
    data: bytes

    @property
    def path(self) -> str:
        return f"engine/{self.name}.{_digest(self.data)[:12]}.{self.ending}"


class BuiltSite(NamedTuple):
    """A site that was written: its folder, its version, and its files' contents by path."""

    folder: Path
    version: str
    files: Mapping[str, bytes]

    @property
    def nbytes(self) -> int:
        return sum(len(data) for data in self.files.values())


def build(
    folder: Path,
    *,
    hub: str = ENDPOINT,
    beside: Sequence[str] = (),
    dataset: Path = registry.DEMONSTRATION,
) -> BuiltSite:
    """Write the page as a static site into `folder`, and return it. Raises UsageError,
    BadFileError, HubError.

    `hub` is the address of the Hub, or a mirror, that the site reads; `beside` are further
    addresses to which that one may redirect; `dataset` is the folder shown in its Registry tab.
    """
    _earlier_files(folder)
    hosts = _hosts(hub, beside)
    registry.files_of(dataset)  # checked before the slow part
    files = site(engine(), hub.rstrip("/"), hosts, dataset)
    return _written(folder, files)


class PageEngine(NamedTuple):
    """Python for the page: Pyodide's files, our package, and their memory after the start. `info`
    comes from Pyodide's lock file; `later` are files of our package that a page fetches later."""

    parts: Sequence[EngineFile]
    info: Mapping[str, Any]
    later: Sequence[EngineFile] = ()


def engine() -> PageEngine:
    """Return Python for the page, with a memory snapshot. Raises UsageError, BadFileError,
    HubError."""
    files = dict(members())
    with TemporaryDirectory() as name:
        folder = Path(name)
        pyodide.unpacked(pyodide.package(), folder)
        loader, script, wasm, library = ((folder / f).read_bytes() for f in pyodide.FILES)
        info = json.loads((folder / pyodide.LOCK).read_bytes())["info"]
        memory = _snapshot(folder, zipped(files))
    parts = [
        EngineFile("loader", "js", loader),
        EngineFile("script", "js", script),
        EngineFile("wasm", "bin", gzipped(wasm)),
        EngineFile("library", "bin", gzipped(library)),
        EngineFile("package", "bin", tar({n: files[n] for n in files if not later(n)})),
        EngineFile("snapshot", "bin", memory),
    ]
    names = (name.rpartition(".") for name in files if later(name))
    tables = [EngineFile(name, ending, files[f"{name}.{ending}"]) for name, _, ending in names]
    return PageEngine(parts, info, tables)


def _snapshot(folder: Path, archive: bytes) -> bytes:
    """Return the gzipped memory of a started Python, from the cache if an earlier build made it."""
    script = Path(__file__).with_name("snapshot.mjs")
    key = _digest(archive + script.read_bytes() + pyodide.SHA512.encode())[:24]
    snapshot = npm.cache_folder() / f"snapshot-{key}.bin"
    if not snapshot.is_file():
        snapshot.parent.mkdir(parents=True, exist_ok=True)
        begun = snapshot.with_suffix(f".{os.getpid()}")
        begun.write_bytes(gzipped(_start_and_dump(folder, archive, script)))
        begun.replace(snapshot)
        _delete_old_snapshots(snapshot.parent)
    return snapshot.read_bytes()


def _start_and_dump(folder: Path, archive: bytes, script: Path) -> bytes:
    package, memory = folder / "package.zip", folder / "memory"
    package.write_bytes(archive)
    command = [npm.program("node"), *map(str, (script, folder, package, memory)), BEGIN]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=SNAPSHOT_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(sentence("pyodide.no_start", why=clipped(str(error), 120))) from None
    if done.returncode or not memory.is_file():
        reason = (done.stderr.strip().splitlines() or ["it gave no reason"])[-1]
        raise UsageError(sentence("pyodide.old_node", why=clipped(reason, 160)))
    return memory.read_bytes()


def _delete_old_snapshots(cache: Path) -> None:
    """Delete all but the newest snapshots of the engine from the cache."""
    snapshots = sorted(cache.glob("snapshot-*.bin"), key=lambda path: path.stat().st_mtime)
    for path in snapshots[:-MOST_SNAPSHOTS]:
        path.unlink(missing_ok=True)


# Files of the site


def site(
    python: PageEngine, hub: str, hosts: Sequence[str], dataset: Path = registry.DEMONSTRATION
) -> dict[str, bytes]:
    """Return every file of the site by path; the list and the service worker come last."""
    files = {part.path: part.data for part in (*python.parts, *python.later)}
    for path in sorted(PAGE.rglob("*")):
        name = path.relative_to(PAGE).as_posix()
        if path.is_file() and not name.endswith(".d.ts"):
            files[name] = path.read_bytes()
    tables = {name: path.read_bytes() for name, path in registry.files_of(dataset).items()}
    files |= tables
    files[FIRST] = json.dumps({lang: bare(lang) for lang in LANGUAGES}).encode()
    offline = files.pop(OFFLINE).decode()
    files[INDEX] = _index_page(files[INDEX].decode(), hosts).encode()
    files[SITE] = _site_script(python, hub).encode()
    files["licences.txt"] = f"{pyodide.LICENCE}\n".encode()
    listed = _file_list(files)
    large = sum(map(len, tables.values())) > KEPT_OFFLINE
    local = {n: one for n, one in listed["files"].items() if not (large and n in tables)}
    local |= {part.path: {**local[part.path], "later": True} for part in python.later}
    listing = json.dumps({"version": listed["version"], "files": local | {LIST: {}}})
    assert offline.count(UNLISTED) == 1
    return {
        **files,
        ".nojekyll": b"",
        "_headers": _headers(hosts).encode(),
        LIST: (json.dumps(listed, indent=1) + "\n").encode(),
        OFFLINE: offline.replace(UNLISTED, f"const SITE = {listing};").encode(),
    }


def bare(lang: str) -> dict[str, Any]:
    """Return the part of the form that the page shows before any estimate: texts, and names of
    tabs."""
    whole = form(lang)
    tabs = [{**tab, "sections": []} for tab in whole["tabs"]]
    none: dict[str, Any] = {"models": [], "gpus": [], "engines": [], "parts": {}, "bits": {}}
    launches: dict[str, list[str]] = {"words": [], "snippets": []}
    return {**whole, **none, "tabs": tabs, "launches": launches}


def _index_page(page: str, hosts: Sequence[str]) -> str:
    assert page.count(LOOK) == 1
    policy = {k: v for k, v in _policy(hosts).items() if k != "frame-ancestors"}  # not in a <meta>
    meta = f'<meta http-equiv="{CSP}" content="{escape(_policy_text(policy))}">'
    # the policy must precede everything that is loaded
    first, head, tail = page.partition('<meta charset="utf-8">\n')
    assert head
    return first + head + meta + "\n" + tail.replace(LOOK, STATIC)


def _site_script(python: PageEngine, hub: str) -> str:
    about = {
        "hub": hub,
        "info": python.info,
        "engine": {
            part.name: {"path": part.path, "bytes": len(part.data)} for part in python.parts
        },
        "later": {
            f"{part.name}.{part.ending}": {"path": part.path, "bytes": len(part.data)}
            for part in python.later
        },
    }
    return f"export const SITE = {json.dumps(about, indent=1)};\n"


def _file_list(files: Mapping[str, bytes]) -> dict[str, Any]:
    listed = {
        name: {"bytes": len(data), "sha256": _digest(data)} for name, data in sorted(files.items())
    }
    version = _digest(json.dumps(listed).encode())[:16]
    makers = {"made_by": MAKER, "weighbridge": __version__, pyodide.NAME: pyodide.VERSION}
    return {**makers, "version": version, "files": listed}


def _policy(hosts: Sequence[str]) -> dict[str, str]:
    """Return the content security policy by directive: the server's, extended for Python in the
    page and the Hub."""
    policy = dict(rule.split(" ", 1) for rule in POLICY.split("; "))
    policy["script-src"] += " 'wasm-unsafe-eval'"
    policy["connect-src"] = " ".join((policy["connect-src"], "blob:", *hosts))
    policy["frame-ancestors"] = FRAMES
    return policy


def _policy_text(policy: Mapping[str, str]) -> str:
    return "; ".join(f"{name} {sources}" for name, sources in policy.items())


# With both, a page may share memory with its worker, which it needs to stop an answer
ISOLATED = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
}


def _headers(hosts: Sequence[str]) -> str:
    """Return the text of the file _headers, for web hosts that read one (Cloudflare Pages,
    Netlify)."""
    always = {
        CSP: _policy_text(_policy(hosts)),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        **ISOLATED,
    }
    lines = ["/*", *(f"  {name}: {value}" for name, value in always.items())]
    lines += ["/engine/*", "  Cache-Control: public, max-age=31536000, immutable"]
    return "\n".join(lines) + "\n"


def _hosts(hub: str, beside: Sequence[str]) -> list[str]:
    """Return the hosts that the page may contact: the Hub with its CDNs, `hub` and `beside`."""
    usual = [f"https://{name}{host}" for host in HOSTS for name in ("", "*.")]
    named = [_origin(address) for address in (hub, *beside)]
    return list(dict.fromkeys([*usual, *(origin for origin in named if origin not in usual)]))


def _origin(address: str) -> str:
    parts = urlsplit(address)
    place = parts.hostname or ""
    if parts.scheme not in ("http", "https") or not re.fullmatch(r"[a-z0-9.-]+", place):
        raise UsageError(sentence("no_hub", address=shown(address), usual=ENDPOINT))
    try:
        port = parts.port
    except ValueError:
        raise UsageError(sentence("no_hub", address=shown(address), usual=ENDPOINT)) from None
    return f"{parts.scheme}://{place}" + (f":{port}" if port else "")


# Writing the folder


def _earlier_files(folder: Path) -> list[str]:
    """Return the names of the files that an earlier build wrote into `folder`. Raises UsageError
    for other folders."""
    if not folder.exists():
        return []
    if not folder.is_dir():
        raise UsageError(sentence("site.is_file", folder=folder))
    names = {path.name for path in folder.iterdir()}
    if not names - KEPT:
        return []
    listed = _read_list(folder / LIST)
    if listed is None:
        raise UsageError(sentence("site.others", folder=folder, name=MAKER))
    return listed


def _read_list(path: Path) -> list[str] | None:
    try:
        with path.open("rb") as file:
            listed = json.loads(file.read(1 << 20))
        ours = listed["made_by"] == MAKER
        names = [str(name) for name in listed["files"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    safe = all(name and not name.startswith("/") and ".." not in name.split("/") for name in names)
    return names if ours and safe else None


def _written(folder: Path, files: Mapping[str, bytes]) -> BuiltSite:
    """Write the files of the site, and return it. The list comes first, so that an interrupted
    build can be repeated; the service worker, which tells visitors of a new version, comes last."""
    before = _earlier_files(folder)
    try:
        for name in (LIST, *(name for name in files if name != LIST)):
            _write_file(folder / name, files[name])
        for name in before:
            if name not in files:
                (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise BadFileError(sentence("site.unwritable", folder=folder, why=error.strerror)) from None
    return BuiltSite(folder, json.loads(files[LIST])["version"], files)


def _write_file(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    begun = path.with_name(f".{path.name}.{os.getpid()}")
    begun.write_bytes(data)
    begun.replace(path)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
