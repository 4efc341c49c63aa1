"""Folders, single files and the Hub's cache on disk. Laws: reads are slices, walks end."""

import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sources.memory import BytesSource
from tests.sparse import write_repo, write_safetensors
from weighbridge.base.errors import BadFileError, NotFoundError, UsageError
from weighbridge.models.formats import ByteRange
from weighbridge.models.sources import base, local
from weighbridge.models.sources.base import SourceFile, read_plan, read_plans, span
from weighbridge.models.sources.local import LocalSource

COMMIT = "a" * 40


def paths(source):
    return [entry.path for entry in source.list()]


@pytest.fixture
def cached(tmp_path):
    """A repository as the client's cache holds it: snapshots of links into blobs."""
    repo = tmp_path / "models--org--name"
    for folder in ("blobs", "refs", f"snapshots/{COMMIT}/sub"):
        (repo / folder).mkdir(parents=True)
    (repo / "blobs/1").write_bytes(b"{}")
    (repo / "refs/main").write_text(COMMIT)
    (repo / f"snapshots/{COMMIT}/config.json").symlink_to("../../blobs/1")
    (repo / f"snapshots/{COMMIT}/sub/config.json").symlink_to("../../../blobs/1")
    return repo


def test_a_folder(tmp_path):
    write_repo(tmp_path, {}, {"a": ("F32", (2, 2)), "b": ("F32", (2, 2))}, shards=2)
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet/config.json").write_bytes(b"0123456789")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git/config").write_bytes(b"")
    source = LocalSource(tmp_path)
    assert paths(source) == [
        "config.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
        "unet/config.json",
    ]
    assert SourceFile("unet/config.json", 10) in source.list()
    assert source.read("unet/config.json", 2, 5) == b"234"
    assert source.read("unet/config.json", -3, 0) == b"789"
    assert source.read("unet/config.json", 8, 10**12) == b"89"
    assert source.read("unet/config.json", 50, 60) == b""
    assert source.revision is None


def test_a_sparse_terabyte_costs_its_header(tmp_path):
    size = write_safetensors(tmp_path / "model.safetensors", {"w": ("BF16", (1 << 20, 1 << 19))})
    source = LocalSource(tmp_path / "model.safetensors")
    assert source.list() == (SourceFile("model.safetensors", size),)
    assert size > 1 << 40
    assert source.read("model.safetensors", -4, 0) == bytes(4)
    assert (tmp_path / "model.safetensors").stat().st_blocks * 512 < 1 << 20


def test_home_is_understood(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_bytes(b"{}")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert paths(LocalSource("~")) == ["config.json"]
    assert LocalSource("~/config.json").read("config.json", 0, 9) == b"{}"


def test_any_part_of_a_split_file_means_all(tmp_path):
    for i in (1, 2, 3):
        (tmp_path / f"m-0000{i}-of-00003.gguf").write_bytes(bytes(i))
    (tmp_path / "other.gguf").write_bytes(b"")
    found = LocalSource(tmp_path / "m-00002-of-00003.gguf").list()
    assert [entry.size for entry in found] == [1, 2, 3]
    (tmp_path / "m-00001-of-00003.gguf").unlink()
    with pytest.raises(NotFoundError, match=r"m-00001-of-00003\.gguf: no such file"):
        LocalSource(tmp_path / "m-00002-of-00003.gguf").list()
    with pytest.raises(BadFileError, match="part 9 of 3 cannot be"):
        LocalSource(tmp_path / "m-00009-of-00003.gguf").list()


def test_a_repository_in_the_cache(cached):
    source = LocalSource(cached)
    assert source.revision == COMMIT
    assert paths(source) == ["config.json", "sub/config.json"]
    assert source.read("sub/config.json", 0, 9) == b"{}"
    assert LocalSource(cached, revision=COMMIT).revision == COMMIT
    with pytest.raises(NotFoundError, match=f"no snapshot of revision 'v2'; it holds {COMMIT}"):
        LocalSource(cached, revision="v2")
    (cached / "refs/main").unlink()
    assert LocalSource(cached).revision == COMMIT, "the only one there is"
    (cached / "snapshots" / ("b" * 40)).mkdir()
    with pytest.raises(NotFoundError, match="'main'"):
        LocalSource(cached)


def test_a_snapshot_folder_follows_its_links(cached):
    assert LocalSource(cached / "snapshots" / COMMIT).read("config.json", 0, 2) == b"{}"
    (cached / "blobs/1").unlink()
    source = LocalSource(cached)
    assert SourceFile("config.json", None) in source.list()
    with pytest.raises(NotFoundError, match="a link to a file that is not there"):
        source.read("config.json", 0, 2)


def test_loops_end(tmp_path):
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/x.json").write_bytes(b"")
    (tmp_path / "a/b/up").symlink_to(tmp_path)
    (tmp_path / "self").symlink_to("self")
    assert paths(LocalSource(tmp_path)) == ["a/x.json", "self"]


def test_bounds(tmp_path, monkeypatch):
    deep = tmp_path.joinpath(*"abcdefghij")
    deep.mkdir(parents=True)
    (deep / "x.json").write_bytes(b"")
    assert paths(LocalSource(tmp_path)) == []
    monkeypatch.setattr(local, "MAX_ENTRIES", 5)
    for i in range(6):
        (tmp_path / f"{i}.json").write_bytes(b"")
    with pytest.raises(UsageError, match="more than 5 files"):
        LocalSource(tmp_path).list()


def test_errors(tmp_path):
    os.mkfifo(tmp_path / "pipe.gguf")
    (tmp_path / "lfs.safetensors").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\n"
    )
    (tmp_path / "folder").mkdir()
    source = LocalSource(tmp_path)
    assert paths(source) == ["lfs.safetensors"], "a pipe is no file of a model"
    for path, word in (("pipe.gguf", "not a regular file"), ("folder", "not a regular file")):
        with pytest.raises(BadFileError, match=word):
            source.read(path, 0, 1)
    with pytest.raises(BadFileError, match="git lfs pull"):
        source.read("lfs.safetensors", 0, 100)
    with pytest.raises(NotFoundError, match="no such file"):
        source.read("nothing.json", 0, 1)
    with pytest.raises(NotFoundError, match="no such file"):
        LocalSource(tmp_path / "nothing.gguf").list()
    with pytest.raises(UsageError, match="has no revision 'v1'"):
        LocalSource(tmp_path, revision="v1")


@pytest.mark.parametrize(
    "path",
    [
        *("../x", "/etc/passwd", "a/../../x", "", ".", "a//b", "a\\b", "a\0b"),
        *("D:/config.json", "D:config.json", "//host/share/config.json"),
    ],
)
def test_no_path_leaves_the_root(tmp_path, path):
    with pytest.raises(BadFileError, match="leaves the folder"):
        LocalSource(tmp_path).read(path, 0, 1)


@pytest.mark.slow
@given(st.binary(max_size=20), st.integers(-30, 30), st.integers(0, 30))
def test_a_read_is_a_slice(data, start, length):
    stop = 0 if start < 0 else start + length
    expected = data[start:] if start < 0 else data[start:stop]
    assert BytesSource({"f": data}).read("f", start, stop) == expected
    first, last = span(start, stop, len(data))
    assert 0 <= first <= last <= len(data)


def test_bytes_in_memory():
    source = BytesSource({"b": b"12", "a": b""}, name="x", revision="r")
    assert source.list() == (SourceFile("a", 0), SourceFile("b", 2))
    assert (source.name, source.revision, source.notes) == ("x", "r", ())
    with pytest.raises(NotFoundError, match="x has no file 'c'"):
        source.read("c", 0, 1)


def first_byte():
    data = yield ByteRange(0, 1)
    if not data:
        raise BadFileError("is empty")
    return data


class Waiting(BytesSource):
    """Read as a Hub is: several files at a time."""

    waits = True


@pytest.mark.parametrize("kind", [BytesSource, Waiting])
def test_plans_keep_their_order_and_name_their_file(kind):
    files = {f"{i:03}": bytes([i]) for i in range(100)}
    source, seen = kind(files), []
    found = read_plans(
        lambda _: first_byte(), source, source.list(), progress=lambda *at: seen.append(at)
    )
    assert found == tuple(files.values())
    assert seen == [(i, 100) for i in range(1, 101)]
    assert read_plans(lambda _: first_byte(), source, ()) == ()
    with pytest.raises(BadFileError, match=r"^e: is empty$"):
        read_plan(first_byte(), kind({"e": b""}), "e")
    broken = kind(files | {"050": b""})
    with pytest.raises(BadFileError, match=r"^050: is empty$"):
        read_plans(lambda _: first_byte(), broken, broken.list())


def test_an_error_stops_the_rest(monkeypatch):
    monkeypatch.setattr(base, "WORKERS", 1)
    asked = []

    class Broken(Waiting):
        def read(self, path, start, stop):
            asked.append(path)
            time.sleep(0.002)  # the one who waits must get a turn
            return super().read(path, start, stop)

    source = Broken({f"{i:04}": b"" for i in range(2000)})
    with pytest.raises(BadFileError):
        read_plans(lambda _: first_byte(), source, source.list())
    assert len(asked) < 2000
