"""The models of a registry, one by one, each with its config.

A SOURCE is a folder of this machine (every config.json and GGUF file below it); a folder of an
object store, as a URI; a text file with a reference per line; JSON Lines or Parquet with a model
per row (`id` and `config`, and `sha` and `downloads` if they are known); or a Hub's listing. A
Parquet file that lists a Hub, with `siblings`, has no sizes in its configs: those are fetched.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from weighbridge.base.errors import BadFileError, NotFoundError, UsageError, WeighbridgeError
from weighbridge.base.sentences import sentence
from weighbridge.base.wording import one_line
from weighbridge.faces.scan.registered import (
    CONFIG,
    GGUF,
    WEIGHTS,
    RegisteredModel,
    parsed,
    with_config,
    with_headers,
)
from weighbridge.models.formats.strict_json import MAX_CONFIG, strict_json
from weighbridge.models.sources.reference import FILES
from weighbridge.models.sources.select import parts

SCHEME = "hub:"
URI = re.compile(r"[a-z][a-z0-9+]*://")
OWN = ("id", "sha", "downloads", "config")  # columns of a row that the model takes
SIBLINGS = "siblings"  # column of a Hub's listing: the files of a repository
BATCH = 1024  # rows of Parquet that are read together
LONG = 1 << 16  # most characters of a reference


def models(
    source: str | Path, *, offline: bool = False, store: Path | None = None
) -> Iterator[RegisteredModel]:
    """Yield the models of a SOURCE; `store` is the file that keeps configs fetched from a Hub.
    Raises WeighbridgeError for an invalid SOURCE; a model that cannot be read has the reason in
    `unread`."""
    text = str(source)
    if text.startswith(SCHEME):
        from weighbridge.faces.scan import hub

        if offline or store is None:
            raise UsageError(sentence("scan.offline"), where=text)
        return hub.models(text, store)
    if URI.match(text):
        return _stored_models(text)
    return _local_models(Path(source), None if offline else store, offline=offline)


def named(source: str) -> str:
    """Return a SOURCE as people read it: a file or a folder by its name, an address without its
    login."""
    if source.startswith(SCHEME):
        return source
    if not URI.match(source):
        path = Path(source)
        return f"{path.resolve().name}/" if path.is_dir() else path.resolve().name
    address = urlsplit(source)
    return f"{address.scheme}://{address.netloc.rpartition('@')[2]}{address.path}"


def _local_models(source: Path, store: Path | None, *, offline: bool) -> Iterator[RegisteredModel]:
    if source.is_dir():
        return _folder_models(source)
    if not source.exists():
        raise NotFoundError(sentence("scan.no_source"), where=str(source))
    reading: dict[str, Callable[[Path], Iterator[RegisteredModel]]] = {
        ".parquet": lambda path: _parquet_models(path, store),
        ".jsonl": _json_lines,
        ".txt": lambda path: _referenced_models(path, offline),
    }
    if source.suffix not in reading:
        raise UsageError(sentence("scan.sources", known=", ".join(reading)), where=str(source))
    return reading[source.suffix](source)


def _stored_models(uri: str) -> Iterator[RegisteredModel]:
    """Yield the models below a folder of an object store (s3://, gs://, abfss://, hdfs://, ...),
    opened by pyarrow with the logins of its environment."""
    from pyarrow import ArrowException, fs

    where = named(uri)
    try:
        store, root = fs.FileSystem.from_uri(uri)
        infos = store.get_file_info(fs.FileSelector(root, recursive=True))
    except (ArrowException, OSError, ValueError) as error:
        raise NotFoundError(
            sentence("scan.unlisted", why=one_line(str(error))), where=where
        ) from None
    for path in sorted(one.path for one in infos if one.base_name == CONFIG and one.is_file):
        folder = path.removesuffix(CONFIG).removeprefix(root).strip("/")
        yield _stored_model(store, path, folder or root.rstrip("/").rpartition("/")[2])


def _stored_model(store: Any, path: str, name: str) -> RegisteredModel:
    try:
        with store.open_input_file(path) as file:
            return _from_bytes(name, file.read(MAX_CONFIG + 1))
    except OSError as error:
        return RegisteredModel(name, None, None, None, one_line(str(error)))


def _folder_models(root: Path) -> Iterator[RegisteredModel]:
    shut: list[OSError] = []
    for path in sorted(_model_files(root, shut)):
        if path.suffix == GGUF:
            yield from _gguf_model(path, path.relative_to(root).as_posix())
            continue
        name = path.parent.relative_to(root).as_posix()
        model = _read_config(root.name if name == "." else name, path)
        weighed = model.config is not None and any(path.parent.glob(f"*{WEIGHTS}"))
        yield with_headers(model, path.parent) if weighed else model
    for error in sorted(shut, key=lambda error: str(error.filename)):
        name = Path(error.filename).relative_to(root).as_posix()
        yield RegisteredModel(name, None, None, None, f"the folder: {error.strerror}")


def _model_files(root: Path, shut: list[OSError]) -> Iterator[Path]:
    """Yield each config and GGUF file below a folder, broken links included, and add to `shut` the
    errors of folders that cannot be read. Links to folders are not followed: they may form
    loops."""
    for folder, _, names in os.walk(root, onerror=shut.append):
        yield from (Path(folder, n) for n in names if n == CONFIG or n.endswith(GGUF))


def _gguf_model(path: Path, name: str) -> Iterator[RegisteredModel]:
    """Yield the model of a GGUF file; of a split model only the first part yields it."""
    try:
        first, *_ = parts(path.name)
    except BadFileError as error:
        yield RegisteredModel(name, None, None, None, str(error))
        return
    if first == path.name:
        yield with_headers(RegisteredModel(name, None, None, None), path)


def _read_config(name: str, path: Path) -> RegisteredModel:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_CONFIG + 1)
    except OSError as error:
        return RegisteredModel(name, None, None, None, str(error.strerror))
    return _from_bytes(name, raw)


def _from_bytes(name: str, raw: bytes) -> RegisteredModel:
    return parsed(RegisteredModel(name, hashlib.sha256(raw).hexdigest(), None, None), raw)


def _json_lines(path: Path) -> Iterator[RegisteredModel]:
    with path.open("rb") as file:
        number = 0
        while line := file.readline(2 * MAX_CONFIG):
            number += 1
            if not line.strip():
                continue
            where = f"{path}:{number}"
            try:
                row = strict_json(line, 2 * MAX_CONFIG, constants=True)
            except BadFileError as error:
                raise BadFileError(f"{where}: {error}") from None
            yield _row_model(row, where)


def _parquet_models(path: Path, store: Path | None) -> Iterator[RegisteredModel]:
    from pyarrow import ArrowInvalid
    from pyarrow import parquet as files

    try:
        file = files.ParquetFile(path)
    except (ArrowInvalid, OSError) as error:
        raise BadFileError(sentence("scan.no_parquet", why=str(error)), where=str(path)) from None
    names = file.schema_arrow.names
    if SIBLINGS not in names:
        for number, row in enumerate(_batched_rows(file, OWN), 1):
            yield _row_model(row, f"{path}, row {number}")
        return
    if store is None:
        raise UsageError(sentence("scan.lists_hub"), where=str(path))
    from weighbridge.faces.scan import hub

    listed: list[Any] = []
    for number, row in enumerate(_batched_rows(file, (*OWN, SIBLINGS, "gated")), 1):
        model = _row_model(row, f"{path}, row {number}")
        if _has_sizes(model.config):
            yield model
        else:
            listed.append(row)
    yield from hub.of_listing(listed, store)


def _batched_rows(file: Any, wanted: tuple[str, ...]) -> Iterator[Any]:
    here = [name for name in wanted if name in file.schema_arrow.names]
    for batch in file.iter_batches(BATCH, columns=here):
        yield from batch.to_pylist()


def _has_sizes(config: Any) -> bool:
    """Return whether a config has sizes, itself or nested; a Hub's listing has only names."""
    if isinstance(config, Mapping):
        return any(_has_sizes(value) for value in config.values())
    return type(config) is int


def _row_model(row: Any, where: str) -> RegisteredModel:
    """Return the model of a row. Its config may be an object, or text with one."""
    if not isinstance(row, dict) or not isinstance(row.get("id"), str):
        raise BadFileError(sentence("scan.no_id"), where=where)
    sha, downloads, config = row.get("sha"), row.get("downloads"), row.get("config")
    model = RegisteredModel(
        row["id"],
        sha if isinstance(sha, str) else None,
        downloads if type(downloads) is int and abs(downloads) < 1 << 63 else None,
        None,
    )
    if config is None:
        return model._replace(unread="has no config")
    if isinstance(config, str):
        return parsed(model, config.encode(errors="surrogatepass"))
    return with_config(model, config)


def _referenced_models(path: Path, offline: bool) -> Iterator[RegisteredModel]:
    with path.open(encoding="utf-8", errors="replace") as file:
        while line := file.readline(LONG):
            name = line.partition("#")[0].strip()
            if name:
                yield _referenced_model(name, offline)


def _referenced_model(name: str, offline: bool) -> RegisteredModel:
    """Return the model that a reference leads to, from its config only."""
    from weighbridge.faces.api import prepare

    model = RegisteredModel(name, None, None, None)
    if name.endswith(tuple(end for end in FILES if end != ".json")):
        return model._replace(unread="is a file of weights; a scan asks configs")
    try:
        inventory: Any = prepare(name, offline=offline).source
    except WeighbridgeError as error:
        return model._replace(unread=one_line(str(error)))
    part, *others = inventory.parts
    model = model._replace(sha=inventory.revision)
    if others or part.library != "transformers" or part.config is None:
        return model._replace(unread="is more or other than one config; ask `weighbridge load`")
    return with_config(model, json.loads(json.dumps(dict(part.config), default=str)))
