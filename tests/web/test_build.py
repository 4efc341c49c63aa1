"""The static site without npm, node and a browser: a stand-in stands where Pyodide would."""

import ast
import base64
import gzip
import hashlib
import io
import json
import re
import tarfile
import zipfile

import pytest

from weighbridge.base.errors import BadFileError, HubError, UsageError
from weighbridge.faces.web import archive, build, pyodide, registry
from weighbridge.faces.web.form import form

ENGINE = build.PageEngine(
    tuple(build.EngineFile(name, "bin", name.encode()) for name in ("loader", "script", "wasm"))
    + tuple(
        build.EngineFile(name, "bin", name.encode()) for name in ("library", "package", "snapshot")
    ),
    {"python": "3.13.2"},
)


@pytest.fixture
def built(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "engine", lambda: ENGINE)
    return build.build(tmp_path / "site")


def listing(built):
    return json.loads((built.folder / "site.json").read_text())


def test_every_file_is_listed_with_its_hash(built):
    listed = listing(built)["files"]
    unlisted = {".nojekyll", "_headers", "site.json", "offline.js"}
    there = {p.relative_to(built.folder).as_posix() for p in built.folder.rglob("*") if p.is_file()}
    assert there == listed.keys() | unlisted
    for name, told in listed.items():
        data = (built.folder / name).read_bytes()
        assert told == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def test_the_same_site_is_the_same_bytes(built, tmp_path):
    again = build.build(tmp_path / "again")
    assert again.files == built.files and again.version == built.version


def test_the_page_is_static_and_guarded_before_anything_loads(built):
    page = (built.folder / "index.html").read_text()
    assert '<meta name="weighbridge-engine" content="static">' in page
    policy = page.index("Content-Security-Policy")
    assert policy < min(page.index("<script"), page.index("<link"))
    assert "frame-ancestors" not in page  # which a <meta> cannot say
    assert "&#x27;wasm-unsafe-eval&#x27;" in page and "https://*.hf.co" in page
    headers = (built.folder / "_headers").read_text()
    assert "Cross-Origin-Opener-Policy: same-origin" in headers  # for memory that is shared
    assert "Cross-Origin-Embedder-Policy: require-corp" in headers
    assert "frame-ancestors 'self'" in headers and "/engine/*\n  Cache-Control" in headers


def test_addresses_are_relative(built):
    for name in ("index.html", "app.js", "engine.js", "worker.js", "offline.js", "site.js"):
        text = (built.folder / name).read_text()
        assert not any(f"{mark}/" in text for mark in ('src="', 'href="', 'from "', "import("))


def test_the_service_worker_has_the_list(built):
    text = (built.folder / "offline.js").read_text()
    line = next(line for line in text.splitlines() if line.startswith("const SITE = "))
    told = json.loads(line.removeprefix("const SITE = ").partition("; //")[0])
    assert told["version"] == built.version
    assert told["files"].keys() == listing(built)["files"].keys() | {"site.json"}


def kept_offline(folder):
    text = (folder / "offline.js").read_text()
    return json.loads(re.search(r"^const SITE = (.*?);", text, re.M)[1])["files"].keys()


def test_words_are_there_before_python_has_started(built):
    first = json.loads((built.folder / "first.json").read_text())
    for lang, one in first.items():
        whole = form(lang)
        assert one["words"] == whole["words"] and one["version"] == whole["version"]
        assert [t["label"] for t in one["tabs"]] == [t["label"] for t in whole["tabs"]]
        assert one["models"] == one["gpus"] == []
    assert first.keys() == {"en", "zh"}
    assert (built.folder / "first.json").stat().st_size < 100_000


def test_a_dataset_is_kept_for_visits_without_a_network_unless_it_is_large(
    built, tmp_path, monkeypatch
):
    names = set(registry.files_of(registry.DEMONSTRATION))
    assert names <= kept_offline(built.folder) and names <= listing(built)["files"].keys()
    monkeypatch.setattr(build, "KEPT_OFFLINE", 100)
    large = build.build(tmp_path / "large")
    assert names <= listing(large)["files"].keys()
    assert not names & kept_offline(large.folder)


def test_another_hub_is_allowed_and_told(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "engine", lambda: ENGINE)
    made = build.build(tmp_path, hub="https://hub.example:8443/", beside=["http://cdn.example"])
    assert b'"hub": "https://hub.example:8443"' in made.files["site.js"]
    assert b"https://hub.example:8443 http://cdn.example" in made.files["_headers"]
    for odd in (
        "hub.example",
        "file:///etc",
        "https://a b",
        "https://x;script-src *",
        "http://h:p",
    ):
        with pytest.raises(UsageError, match="no address of a Hub"):
            build.build(tmp_path / "odd", hub=odd)


def test_a_folder_of_others_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "engine", lambda: pytest.fail("refused too late"))
    (tmp_path / "thesis.tex").write_text("years")
    with pytest.raises(UsageError, match="holds files that weighbridge web build did not write"):
        build.build(tmp_path)
    with pytest.raises(UsageError, match="is a file"):
        build.build(tmp_path / "thesis.tex")
    (tmp_path / "site.json").write_text(
        '{"made_by": "weighbridge web build", "files": {"../x": 1}}'
    )
    with pytest.raises(UsageError, match="did not write"):
        build.build(tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "years"


def test_a_second_build_removes_what_the_first_wrote_and_no_more(built, monkeypatch):
    (built.folder / "CNAME").write_text("weigh.example")
    newer = build.PageEngine(
        [*ENGINE.parts[:-1], build.EngineFile("snapshot", "bin", b"new")], ENGINE.info
    )
    monkeypatch.setattr(build, "engine", lambda: newer)
    again = build.build(built.folder)
    assert again.version != built.version
    assert not (built.folder / ENGINE.parts[-1].path).exists()
    assert (built.folder / newer.parts[-1].path).exists()
    assert (built.folder / "CNAME").read_text() == "weigh.example"


def test_the_folder_of_a_new_branch_is_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "engine", lambda: ENGINE)
    (tmp_path / ".git").mkdir()
    assert build.build(tmp_path).version


# Our package.


@pytest.mark.slow
def test_the_archive_is_the_same_bytes_and_holds_what_a_page_asks():
    held = {name: data for name, data in archive.members() if not archive.later(name)}
    packed_once = archive.tar(held)
    assert packed_once == archive.tar({n: data for n, data in archive.members() if n in held})
    with tarfile.open(fileobj=io.BytesIO(packed_once)) as packed:
        names = set(packed.getnames())
        assert {(m.mtime, m.uid, m.uname) for m in packed.getmembers()} == {(0, 0, "")}
    assert {
        "weighbridge/faces/web/protocol.py",
        "weighbridge/models/catalogue/models.jsonl",
    } <= names
    assert not any("faces/cli/" in name or "/page/" in name or "pyc" in name for name in names)
    # A page asks for all of it before its first answer: a rule may add some, no table of data may
    assert len(packed_once) < 1_950_000


@pytest.mark.slow
def test_the_archive_and_what_a_page_fetches_later_are_the_whole_package(monkeypatch):
    monkeypatch.setattr(pyodide, "package", lambda: None)
    monkeypatch.setattr(pyodide, "unpacked", lambda _, folder: write_stand_ins(folder))
    begun = {}
    monkeypatch.setattr(build, "_snapshot", lambda _, held: begun.update(unzipped(held)) or b"")
    site = build.site(build.engine(), "https://hub.example", [])
    about = json.loads(site["site.js"].decode().removeprefix("export const SITE = ")[:-2])
    with tarfile.open(fileobj=io.BytesIO(site[about["engine"]["package"]["path"]])) as packed:
        held = {name: packed.extractfile(name).read() for name in packed.getnames()}
    later = {name: site[one["path"]] for name, one in about["later"].items()}
    assert begun == held | later == dict(archive.members())
    assert not held.keys() & later.keys()
    assert "weighbridge/models/arch/families/timm_trees.txt" in later
    assert all(one["bytes"] == len(later[name]) for name, one in about["later"].items())
    listing = json.loads(re.search(r"^const SITE = (.*?);", site["offline.js"].decode(), re.M)[1])
    marked = {path for path, one in listing["files"].items() if one.get("later")}
    assert marked == {one["path"] for one in about["later"].values()}


def write_stand_ins(folder):
    for name in (*pyodide.FILES, pyodide.LOCK):
        (folder / name).write_text('{"info": {}}')


def unzipped(data):
    with zipfile.ZipFile(io.BytesIO(data)) as held:
        return {name: held.read(name) for name in held.namelist()}


def test_modules_of_a_page_are_the_same_without_docstrings_and_comments():
    for source, bare in (
        ('"""One.\n\nTwo."""\nA = """three\n# four"""\n', '""\nA = """three\n# four"""\n'),
        ('def f():\n    """One."""\n    return 1', 'def f():\n    ""\n    return 1'),
        ('class A:\n    """One.\n    Two."""\n', 'class A:\n    ""\n'),
        ("A = 1  # 一\n\n\nB = 2\n", "A = 1  # 一\nB = 2\n"),
        ('# one\nA = """\n# two\n  # three"""\n    # four\n#', 'A = """\n# two\n  # three"""'),
    ):
        assert archive.undocumented(source.encode()).decode() == bare
    for name in ("base/records.py", "faces/web/protocol.py", "models/arch/model_types.py"):
        source = (archive.PACKAGE / name).read_bytes()
        bare = ast.parse(archive.undocumented(source))
        assert not any(map(ast.get_docstring, filter(documented, ast.walk(bare))))
        assert undocumented(ast.parse(source)) == undocumented(bare)


def documented(node):
    return isinstance(node, archive.DOCUMENTED)


def undocumented(tree):
    """A tree without its docstrings, as text."""
    for node in filter(documented, ast.walk(tree)):
        if isinstance(node.body[0], ast.Expr) and isinstance(node.body[0].value, ast.Constant):
            node.body[0].value.value = ""
    return ast.dump(tree)


NEVER = {  # imports of what stays out that no page reaches: torch, a terminal, or the doors
    ("__init__.py", "lab.trace.gpu"),
    ("answers/estimate/exact.py", "lab.exact"),
    ("answers/estimate/exact.py", "lab.exact.inference"),
    ("answers/estimate/exact.py", "lab.exact.training"),
    ("models/sources/http.py", "models.sources.wire"),
    ("models/sources/http.py", "models.sources.session"),
}


@pytest.mark.slow
def test_nothing_that_is_in_imports_what_is_out():
    held = {name.removeprefix("weighbridge/"): data for name, data in archive.members()}
    found = {
        (name, left_out(module, held))
        for name, data in held.items()
        if name.endswith(".py")
        for module in modules(ast.parse(data))
    }
    missing = {(name, module) for name, module in found if module}
    assert missing <= NEVER, sorted(missing - NEVER)
    assert missing  # or nothing was looked at


def modules(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("weighbridge"):
            base = node.module.removeprefix("weighbridge").removeprefix(".")
            yield from [f"{base}.{alias.name}".strip(".") for alias in node.names]
        elif isinstance(node, ast.Import):
            yield from [a.name[12:] for a in node.names if a.name.startswith("weighbridge.")]


def left_out(module, held):
    """The module of a name that is imported, where its file is not in: "a.b" may be b of a."""
    path = module.replace(".", "/")
    place = archive.PACKAGE / path
    if place.with_suffix(".py").is_file():
        return "" if f"{path}.py" in held else module
    if place.is_dir():
        return "" if f"{path}/__init__.py" in held else module
    return left_out(module.rpartition(".")[0], held) if "." in module else ""


# Pyodide's package.


def tgz(*names):
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        for name in names:
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = 2
            archive.addfile(entry, io.BytesIO(b"{}"))
    return made.getvalue()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    data = tgz(*pyodide.FILES, pyodide.LOCK)
    sum_ = base64.b64encode(hashlib.sha512(data).digest()).decode()
    monkeypatch.setattr(pyodide, "SHA512", sum_)
    return tmp_path / "weighbridge" / pyodide.FILE, data


def npm(tmp_path, monkeypatch, script):
    path = tmp_path / "bin" / "npm"
    path.parent.mkdir()
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}:/usr/bin:/bin")


def test_npm_fetches_once_and_the_cache_answers_then(cache, tmp_path, monkeypatch):
    kept, data = cache
    (tmp_path / "given").write_bytes(data)
    npm(tmp_path, monkeypatch, f'cp {tmp_path}/given {pyodide.FILE}; echo "$@" >> {tmp_path}/log')
    assert pyodide.package() == kept == pyodide.package()
    asked = (tmp_path / "log").read_text().splitlines()
    assert asked == [f"pack pyodide@{pyodide.VERSION} --ignore-scripts --silent"]
    pyodide.unpacked(kept, tmp_path)
    assert (tmp_path / "pyodide.asm.wasm").read_bytes() == b"{}"


def test_another_package_is_not_taken(cache, tmp_path, monkeypatch):
    kept, data = cache
    npm(tmp_path, monkeypatch, f"echo no > {pyodide.FILE}")
    with pytest.raises(BadFileError, match="its sha512 differs: npm's registry or a proxy"):
        pyodide.package()
    assert not kept.exists()
    kept.parent.mkdir()
    kept.write_bytes(data[:-1])
    with pytest.raises(BadFileError, match="its sha512 differs: delete"):
        pyodide.package()


def test_npm_without_a_network(cache, tmp_path, monkeypatch):
    npm(tmp_path, monkeypatch, 'echo "npm error code ENOTFOUND" >&2; exit 1')
    with pytest.raises(HubError, match=r"npm cannot fetch .*ENOTFOUND.*without a network, put"):
        pyodide.package()


def test_without_npm_or_node(cache, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match=r"npm is not on the PATH.*install Node\.js"):
        pyodide.package()


def test_a_node_that_does_not_start_it(cache, tmp_path, monkeypatch):
    npm(tmp_path, monkeypatch, "")
    node = tmp_path / "bin" / "node"
    node.write_text("#!/bin/sh\necho SyntaxError: top-level await >&2; exit 1\n")
    node.chmod(0o755)
    with pytest.raises(UsageError, match=r"node does not start Pyodide \(SyntaxError.*version 20"):
        build._snapshot(tmp_path, b"archive")
    node.write_text('#!/bin/sh\nprintf memory > "$4"\n')
    assert gzip.decompress(build._snapshot(tmp_path, b"archive")) == b"memory"
    node.unlink()
    assert gzip.decompress(build._snapshot(tmp_path, b"archive")) == b"memory"  # kept


def test_the_command_says_how_to_look_at_what_it_wrote(tmp_path, monkeypatch):
    from click.testing import CliRunner

    from weighbridge.faces.cli.web import web

    made = build.BuiltSite(tmp_path / "a site", "1", {"index.html": b"x"})
    monkeypatch.setattr(build, "build", lambda folder, dataset: made)
    done = CliRunner().invoke(web, ["build", str(made.folder)])
    assert done.exit_code == 0
    assert done.stdout.splitlines()[0] == str(made.folder)
    assert f"python -m http.server -d '{made.folder}'" in done.output
