"""One file at a plain web server."""

import pytest

from tests.hub import Fault
from tests.sparse import beginning, write_safetensors
from weighbridge.base.errors import HubError, NotFoundError, UsageError
from weighbridge.models.sources import open_source
from weighbridge.models.sources.base import SourceFile, SourceOptions
from weighbridge.models.sources.hub import HubSource
from weighbridge.models.sources.local import LocalSource
from weighbridge.models.sources.reference import HubRef, LocalRef, SizeRef, TimmRef, UrlRef
from weighbridge.models.sources.url import UrlSource


def source(hub, filename, **options):
    url = f"{hub.endpoint}/plain/{filename}?key=1"
    return UrlSource(UrlRef(url=url, filename=filename), SourceOptions(**options))


def test_a_header_costs_one_request(hub):
    size = write_safetensors(hub.root / "m.safetensors", {"w": ("BF16", (1 << 15, 1 << 15))})
    data = beginning(hub.root / "m.safetensors", 300_000)
    opened = source(hub, "m.safetensors", token="secret")
    assert opened.list() == (SourceFile("m.safetensors", size),)
    assert opened.read("m.safetensors", 0, 100) == data[:100]
    assert opened.read("m.safetensors", 8, 1000) == data[8:1000]
    assert len(hub.requests) == 1
    assert opened.read("m.safetensors", 90_000, 300_000) == data[90_000:]
    assert opened.read("m.safetensors", -7, 0) == bytes(7)
    assert [r.sent for r in hub.requests] == [100_000, 210_000, 7]
    assert {r.token for r in hub.requests} == {None}, "no token leaves for another host"


def test_a_file_smaller_than_the_first_read(hub):
    (hub.root / "config.json").write_bytes(b"{}")
    opened = source(hub, "config.json")
    assert opened.read("config.json", 0, 1 << 24) == b"{}"
    assert len(hub.requests) == 1


def test_parts_of_a_split_file(hub):
    for i in (1, 2):
        (hub.root / f"m-0000{i}-of-00002.gguf").write_bytes(b"GGUF" * i)
    opened = source(hub, "m-00002-of-00002.gguf")
    assert opened.list() == (
        SourceFile("m-00001-of-00002.gguf", 4),
        SourceFile("m-00002-of-00002.gguf", 8),
    )
    assert hub.requests[0].path == "/plain/m-00001-of-00002.gguf?key=1"


def test_no_ranges_and_no_size(hub):
    write_safetensors(hub.root / "m.safetensors", {"w": ("BF16", (1 << 15, 1 << 15))})
    data = beginning(hub.root / "m.safetensors", 200_000)
    hub.faults = [Fault("/plain/", ranges=False)]
    opened = source(hub, "m.safetensors")
    assert opened.read("m.safetensors", 100, 200_000) == data[100:]
    assert hub.sent < 32 << 20


def test_errors(hub):
    with pytest.raises(NotFoundError, match=r"m\.gguf.*: no such file \(404\)"):
        source(hub, "m.gguf").list()
    hub.faults = [Fault("/plain/", status=403)]
    with pytest.raises(HubError, match="the answer was 403"):
        source(hub, "m.gguf").list()
    with pytest.raises(HubError, match="cannot be read offline"):
        source(hub, "m.gguf", offline=True)
    with pytest.raises(NotFoundError, match=r"is one file, and not 'n\.gguf'"):
        source(hub, "m.gguf").read("n.gguf", 0, 1)


def test_each_record_has_its_source(hub, tmp_path):
    (tmp_path / "config.json").write_bytes(b"{}")
    url = UrlRef(url=f"{hub.endpoint}/plain/x.gguf", filename="x.gguf")
    for ref, kind in (
        (LocalRef(path=str(tmp_path)), LocalSource),
        (HubRef(repo_id="org/name"), HubSource),
        (TimmRef(name="resnet50.a1_in1k"), HubSource),
        (url, UrlSource),
    ):
        assert type(open_source(ref)) is kind
    assert open_source(TimmRef(name="resnet50.a1_in1k")).name == "timm/resnet50.a1_in1k"
    with pytest.raises(UsageError, match="names no files"):
        open_source(SizeRef(parameters=7))
    assert not hub.requests, "opening asks nothing"
