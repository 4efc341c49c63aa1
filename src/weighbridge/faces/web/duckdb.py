"""DuckDB for browsers: what the SQL box of the Registry tab is answered by, where a site has it.

files() -> Mapping    the worker and the packed program, by their paths in the site
told(files)           what the page reads of them
"""

import gzip
import hashlib
from collections.abc import Iterable, Mapping

from weighbridge.faces.web import npm
from weighbridge.faces.web.npm import NpmPackage

# `npm view @duckdb/duckdb-wasm@1.32.0 dist.integrity`; it is DuckDB 1.4.3
PACKAGE = NpmPackage(
    "@duckdb/duckdb-wasm",
    "1.32.0",
    "IewXTNYEjsZCPE9weUWgtjGxUlMRo7qhX0GF6tq/KjK8bnY+RAl4cyUdYUfcdzbyb4b9ZxPC+FOsCcxgaKFWMg==",
)
WORKER, PROGRAM = "dist/duckdb-browser-eh.worker.js", "dist/duckdb-eh.wasm"
FOLDER = "sql"
META = '<meta name="weighbridge-sql" content="{}">'
LICENCE = (
    "DuckDB-Wasm and DuckDB, which is inside, are published under the MIT License, their sources"
    " are at https://github.com/duckdb/duckdb-wasm and https://github.com/duckdb/duckdb"
)


def files() -> Mapping[str, bytes]:
    """Return the worker and the program, packed with gzip. Raises UsageError, HubError,
    BadFileError."""
    worker, program = npm.members(npm.fetched(PACKAGE), (WORKER, PROGRAM))
    packed = gzip.compress(program, 9, mtime=0)
    return {_named("worker", "js", worker): worker, _named("duckdb", "bin", packed): packed}


def _named(name: str, ending: str, content: bytes) -> str:
    return f"{FOLDER}/{name}.{hashlib.sha256(content).hexdigest()[:12]}.{ending}"


def told(paths: Iterable[str]) -> str:
    """Return the line of the page that names them."""
    return META.format(" ".join(paths))
