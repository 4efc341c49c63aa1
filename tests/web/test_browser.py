"""The transport of a page, with a stand-in for the browser's XMLHttpRequest that keeps its rules."""

import sys
import threading
from http.client import HTTPConnection
from types import ModuleType, SimpleNamespace
from urllib.parse import urljoin, urlsplit

import pytest

from tests.hub import Fault, Hub
from tests.sparse import write_repo
from tests.tiny import config
from weighbridge.base.errors import GatedError, HubError, NotFoundError
from weighbridge.models.arch.builder import blueprint
from weighbridge.models.arch.config import Config
from weighbridge.models.checkpoint.gather import GatherOptions, gather
from weighbridge.models.formats import ByteRange
from weighbridge.models.sources import answers, base, browser, http, surroundings, wire

TINY = config("first", vocab_size=256)
SAFE = {"cache-control", "content-language", "content-length", "content-type", "expires"}
ORIGIN = "http://page.example"
FORBIDDEN = {"user-agent", "accept-encoding", "host", "origin", "cookie"}


class DOMError(Exception):
    def __init__(self, name):
        super().__init__(f"{name}: it did not work")
        self.name = name


class Buffer:
    def __init__(self, data):
        self.data, self.byteLength = data, len(data)

    def slice(self, start, stop):
        return Buffer(self.data[start:stop])

    def to_bytes(self):
        return self.data


class Request:
    """Fetch's rules: one origin's token stays there, and only exposed headers are seen."""

    @classmethod
    def new(cls):
        return cls()

    def open(self, method, url, asynchronous):
        assert (method, asynchronous) == ("GET", False)
        self.url, self.headers, self.status, self.response = url, {}, 0, None

    def setRequestHeader(self, name, value):  # noqa: N802
        assert name.lower() not in FORBIDDEN
        self.headers[name] = value

    def send(self):
        assert self.responseType == "arraybuffer" and self.timeout > 0
        url, headers = self.url, dict(self.headers)
        for _ in range(5):
            found, self.response = asked(url, headers)
            seen = found.headers["Access-Control-Allow-Origin"]
            if seen not in (ORIGIN, "*"):
                raise DOMError("NetworkError")
            if found.status not in (301, 302, 307):
                break
            there = urljoin(url, found.headers["Location"])
            if urlsplit(there).netloc != urlsplit(url).netloc:
                headers.pop("Authorization", None)
            url = there
        self.status, self.responseURL = found.status, url
        exposed = {
            h.strip().lower()
            for h in (found.headers["Access-Control-Expose-Headers"] or "").split(",")
        }
        self.shown = "".join(
            f"{name.lower()}: {value}\r\n"
            for name, value in found.headers.items()
            if name.lower() in SAFE | exposed
        )

    def getAllResponseHeaders(self):  # noqa: N802
        return self.shown


def asked(url, headers):
    parts = urlsplit(url)
    connection = HTTPConnection(parts.netloc, timeout=60)
    try:
        place = parts._replace(scheme="", netloc="").geturl()
        connection.request("GET", place, headers=headers | {"Origin": ORIGIN})
        found = connection.getresponse()
        return found, Buffer(found.read())
    except OSError:
        raise DOMError("NetworkError") from None
    finally:
        connection.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    root = tmp_path_factory.mktemp("hub")
    for name in ("tiny", "gated"):
        write_repo(root / "org" / name, TINY, blueprint(Config(TINY)), shards=3)
    with Hub(root, gated={"org/gated": ["hf_good"]}) as found:
        yield found


@pytest.fixture
def hub(running, monkeypatch):
    """The Hub as a page reaches it: no huggingface_hub, no threads, no sockets of Python's."""
    running.faults.clear()
    running.requests.clear()
    running.exposing = True
    js = ModuleType("js")
    js.XMLHttpRequest, js.navigator = Request, SimpleNamespace(onLine=True)
    monkeypatch.setitem(sys.modules, "js", js)
    monkeypatch.setattr(surroundings, "IN_BROWSER", True)
    alone = SimpleNamespace(Lock=threading.Lock)  # and no threads
    for module in (answers, base):
        monkeypatch.setattr(module, "threading", alone)
    monkeypatch.setattr(wire, "get", lambda *a: pytest.fail("a socket"))
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.setenv("HF_ENDPOINT", running.endpoint)
    monkeypatch.setattr(http, "BACKOFF", 0.01)
    return running


@pytest.mark.parametrize("exposing", [True, False])
def test_a_repository_is_read_as_elsewhere(hub, exposing):
    hub.exposing = exposing
    found = gather("org/tiny", GatherOptions())
    assert found.parts[0].config["hidden_size"] == 64
    assert "safetensors headers" in found.read_from
    reads = hub.asked("^/cdn/")
    assert len(reads) == 3 and all(r.range for r in reads)
    assert all(r.token is None for r in reads)


def test_the_token_goes_to_the_hub_alone(hub):
    found = gather("org/gated", GatherOptions(token="hf_good"))
    assert found.parts
    assert {r.token for r in hub.asked("^/(api|org)/")} == {"hf_good"}
    assert {r.token for r in hub.asked("^/cdn/")} == {None}


def test_who_may_not_read_is_told_what_to_do_in_a_page(hub):
    with pytest.raises(GatedError, match=r"accept its licence .* give a token of yours"):
        gather("org/gated", GatherOptions())
    with pytest.raises(NotFoundError, match="there is no model 'org/none'"):
        gather("org/none", GatherOptions())


def test_a_hub_in_trouble_is_asked_again(hub):
    hub.faults.append(Fault(match="^/api/", times=2, status=503))
    assert gather("org/tiny", GatherOptions()).parts
    assert len(hub.asked("^/api/")) == 3


def test_too_many_requests_say_so(hub):
    hub.faults.append(Fault(match="^/api/", status=429))
    with pytest.raises(HubError, match="too many requests; wait, or a token of yours has"):
        gather("org/tiny", GatherOptions())


def test_what_no_page_may_read_cannot_be_reached(hub):
    hub.faults.append(Fault(match="^/api/", cors=False))
    with pytest.raises(HubError, match="no answer for this page"):
        gather("org/tiny", GatherOptions())
    sys.modules["js"].navigator.onLine = False
    with pytest.raises(HubError, match="there is no network"):
        gather("org/tiny", GatherOptions())


def test_an_answer_that_is_too_large_stays_the_browsers(hub):
    hub.faults.append(Fault(match="config.json", body=b"x" * 4096))
    with pytest.raises(HubError, match="larger than"):
        http.Client(token=False).get(f"{hub.endpoint}/org/tiny/resolve/main/config.json", limit=64)


def test_ranges_that_a_server_ignores_are_cut_out(hub):
    hub.faults.append(Fault(match="^/cdn/", ranges=False))
    place = f"{hub.endpoint}/org/tiny/resolve/main/model-00001-of-00003.safetensors"
    found = http.Client(token=False).get(place, limit=64, wanted=ByteRange(2, 6))
    whole = (hub.root / "org/tiny/model-00001-of-00003.safetensors").read_bytes()
    assert found.data == whole[2:6] and found.size == len(whole)


def test_other_hosts_are_not_asked(hub):
    with pytest.raises(HubError, match=r"example\.com: this page reads .* and no other host"):
        browser.get("https://example.com/x.gguf", {}, 1, 1)
    assert browser.allowed("https://cas-bridge.xethub.hf.co/x")
    assert browser.allowed("https://huggingface.co/x")
    for url in ("http://huggingface.co/x", "https://nothuggingface.co/", "https://hf.co.evil.org/"):
        assert not browser.allowed(url)


def test_time_is_bounded(hub, monkeypatch):
    def late(self):
        raise DOMError("TimeoutError")

    monkeypatch.setattr(Request, "send", late)
    with pytest.raises(HubError, match="no whole answer within 60 s"):
        gather("org/tiny", GatherOptions())


def test_nothing_is_kept_on_a_disk(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    gather("org/tiny", GatherOptions(cache_dir=str(tmp_path)))
    assert list(tmp_path.iterdir()) == []
