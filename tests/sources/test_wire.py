"""http.client in the place of huggingface_hub's: when, and what comes of a server's bytes."""

import gzip
import os
import random
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from types import SimpleNamespace

import pytest

from weighbridge.base.errors import HubError
from weighbridge.models.formats import ByteRange
from weighbridge.models.sources import http, wire
from weighbridge.models.sources import wire as set_up
from weighbridge.models.sources.answers import CHUNK


def forget():
    """Clear what the module keeps of this process."""
    for kept in vars(set_up).values():
        if hasattr(kept, "cache_clear"):
            kept.cache_clear()


@pytest.fixture
def bare(monkeypatch):
    """A process in which nothing is set up."""
    import huggingface_hub

    if not huggingface_hub.__version__.startswith("2."):
        pytest.skip("the client of other versions trusts other certificates")
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith(("HF_", "SSL_")):
            monkeypatch.delenv(name)
    monkeypatch.delitem(sys.modules, "huggingface_hub.utils._http", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    forget()
    yield
    forget()


@pytest.fixture
def authority(tmp_path, monkeypatch):
    """Where OpenSSL looks for certificates."""
    paths = SimpleNamespace(
        openssl_cafile=str(tmp_path / "cert.pem"), openssl_capath=str(tmp_path / "certs")
    )
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: paths)
    (tmp_path / "certs").mkdir()
    return tmp_path


def test_it_steps_back_for_what_is_set_up(bare, authority, monkeypatch):
    (authority / "cert.pem").touch()
    url = "http://host/x"
    assert set_up.suits(url)
    assert not set_up.suits("http://user:word@host/x")
    assert not set_up.suits("ftp://host/x")
    for name in ("HTTP_PROXY", "https_proxy", "ALL_PROXY", "HF_DEBUG"):
        monkeypatch.setenv(name, "socks5://proxy:1")
        assert not set_up.suits(url), name
        monkeypatch.setenv(name, "")
        assert set_up.suits(url)
    monkeypatch.setenv("HF_HUB_VERBOSITY", "DEBUG")
    assert not set_up.suits(url), "it has each request printed"
    monkeypatch.setenv("HF_HUB_VERBOSITY", "error")
    monkeypatch.setenv("NO_PROXY", "localhost")
    assert set_up.suits(url)
    monkeypatch.setitem(sys.modules, "huggingface_hub.utils._http", sys)
    assert not set_up.suits(url), "somebody may have given it a client of their own"


@pytest.mark.parametrize("version", ["0.36.2", "1.3.0", "2.4.0", "3.0.0"])
def test_it_steps_back_for_a_client_that_trusts_other_certificates(
    bare, authority, monkeypatch, version
):
    (authority / "cert.pem").touch()
    monkeypatch.setattr("huggingface_hub.__version__", version)
    assert set_up.suits("https://host/x") == version.startswith("2.")


def test_certificates_are_those_that_the_client_finds(bare, authority, monkeypatch):
    """httpcore2 2.16, _ssl.py: OpenSSL's own file, and its folder where names are hashes."""
    file, folder = str(authority / "cert.pem"), str(authority / "certs")
    trusted = []
    monkeypatch.setattr(ssl, "create_default_context", lambda **files: trusted.append(files))

    def found():
        forget()
        set_up.context()
        assert set_up.suits("https://host/x")
        return trusted.pop()

    assert not set_up.suits("https://host/x"), "it looks in other places then"
    (authority / "certs/README").touch()
    forget()
    assert not set_up.suits("https://host/x")
    (authority / "cert.pem").touch()
    assert found() == {"cafile": file, "capath": folder}, "whatever is in the folder"
    (authority / "cert.pem").unlink()
    (authority / "certs/0a1b2c3d.0").touch()
    assert found() == {"cafile": None, "capath": folder}
    (authority / "cert.pem").touch()
    assert found() == {"cafile": file, "capath": folder}
    for empty in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.setenv(empty, "")
    assert found() == {"cafile": file, "capath": folder}
    monkeypatch.setenv("SSL_CERT_DIR", "/own")
    assert found() == {"cafile": None, "capath": "/own"}
    monkeypatch.setenv("SSL_CERT_FILE", "/own.pem")
    assert found() == {"cafile": "/own.pem", "capath": None}


def test_certificates_that_are_named_and_not_there(bare, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", "/no/such/file")
    with pytest.raises(http.UsageError, match="SSL_CERT_FILE, SSL_CERT_DIR: no certificates"):
        set_up.context()


@contextmanager
def serving(*scripts, host="127.0.0.1", tls=None):
    """A server that sends one script for each request; None closes the connection first. Yields its
    address and the requests of each connection."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    server, seen, left = socket.create_server((host, 0), family=family), [], list(scripts)
    server.settimeout(0.02)
    over = threading.Event()

    def talk(connection):
        while left and (request := connection.recv(1 << 16)):
            seen[-1].append(request)
            script = left.pop(0)
            if script is None:
                return
            with suppress(OSError):  # a client that has read enough
                connection.sendall(script)

    def serve():
        while not over.is_set():
            with suppress(OSError):
                connection, _ = server.accept()
                seen.append([])
                with (
                    connection
                    if tls is None
                    else tls.wrap_socket(connection, server_side=True) as connection
                ):
                    talk(connection)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        name, kind = (f"[{host}]" if ":" in host else host), ("http" if tls is None else "https")
        yield f"{kind}://{name}:{server.getsockname()[1]}/x", seen
    finally:
        over.set()
        wire.IDLE.close()
        thread.join(60)
        server.close()


@pytest.fixture
def client(client_home, monkeypatch):
    monkeypatch.setattr(set_up, "suits", lambda url: True)
    return http.Client(token=False)


def plain(body, *headers):
    head = [b"HTTP/1.1 200 OK", f"Content-Length: {len(body)}".encode(), *headers]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        plain(b"found"),
        plain(gzip.compress(b"found", mtime=0), b"content-encoding: gzip"),
        CHUNKED + b"2\r\nfo\r\n3;x=1\r\nund\r\n0\r\nTrailer: y\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + plain(b"found"),
        b"HTTP/1.1 103 Early Hints\r\nLink: </y>\r\n\r\n" * 2 + plain(b"found"),
        b"HTTP/1.1 200\nContent-Length: 5\n\nfound",
        plain(b"found", *[b"X: y"] * 90),
    ],
)
def test_a_body_in_each_form_leaves_the_connection_open(client, answer):
    with serving(answer, plain(b"again")) as (url, seen):
        assert client.get(url, limit=100).data == b"found"
        assert client.get(url, limit=100).data == b"again"
        assert [len(requests) for requests in seen] == [2]
        assert seen[0][0].startswith(b"GET /x HTTP/1.1\r\nHost: 127.0.0.1:")


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.0 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n",
    ],
)
def test_a_body_that_ends_with_its_connection(client, head):
    with serving(head + b"found") as (url, _):
        assert client.get(url, limit=5).data == b"found"
        assert not wire.IDLE._held


def test_a_redirect_with_a_few_words_keeps_its_connection(client):
    moved = b"HTTP/1.1 302 Found\r\nLocation: /y\r\nContent-Length: 9\r\n\r\nIs there."
    with serving(moved, plain(b"found")) as (url, seen):
        assert client.get(url, limit=9).data == b"found"
        assert [len(requests) for requests in seen] == [2]
        assert seen[0][1].startswith(b"GET /y HTTP/1.1\r\n")


@pytest.fixture
def certificate(tmp_path):
    """Where a certificate of 127.0.0.1, and its key, are."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl that makes a certificate")
    place, named = (
        tmp_path / "own.pem",
        ("-subj", "/CN=x", "-addext", "subjectAltName=IP:127.0.0.1"),
    )
    kind = ("-newkey", "rsa:2048", "-nodes", "-days", "2")
    argv = ["openssl", "req", "-x509", *kind, *named, "-keyout", place, "-out", tmp_path / "c.pem"]
    subprocess.run(argv, check=True, capture_output=True)
    with place.open("a") as file:
        file.write((tmp_path / "c.pem").read_text())
    return place


@pytest.mark.slow
def test_over_tls_and_only_with_a_certificate_that_is_trusted(
    bare, client, certificate, monkeypatch
):
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with serving(plain(b"found"), CHUNKED + b"5\r\nagain\r\n0\r\n\r\n", tls=server) as (url, seen):
        assert client.get(url, limit=9).data == b"found"
        assert client.get(url, limit=9).data == b"again"
        assert [len(requests) for requests in seen] == [2]
    monkeypatch.delenv("SSL_CERT_FILE")
    set_up.context.cache_clear()
    monkeypatch.setattr(http, "TRIES", 1)
    with serving(plain(b"found"), tls=server) as (url, seen):
        with pytest.raises(HubError, match="CERTIFICATE_VERIFY_FAILED"):
            client.get(url, limit=9)
        assert not any(seen)


def test_over_the_newer_protocol(client):
    try:
        with serving(plain(b"found"), host="::1") as (url, seen):
            assert client.get(url, limit=9).data == b"found"
            assert b"\r\nHost: [::1]:" in seen[0][0]
    except OSError:
        pytest.skip("this machine has no IPv6")


def test_many_models_share_a_connection(client):
    with serving(plain(b"one"), plain(b"two")) as (url, seen):
        assert client.get(url, limit=9).data == b"one"
        assert http.Client(token=False).get(url, limit=9).data == b"two"
        assert [len(requests) for requests in seen] == [2]


def test_a_connection_that_was_closed_while_idle_is_made_anew(client):
    with serving(plain(b"one"), None, plain(b"two")) as (url, seen):
        assert client.get(url, limit=9).data == b"one"
        assert client.get(url, limit=9).data == b"two", "and this is no second try"
        assert [len(requests) for requests in seen] == [2, 1]


def test_a_connection_with_a_body_left_on_it_is_not_used_again(client):
    answer = plain(b"x" * 50_000), plain(b"rest")
    with serving(*answer) as (url, seen):
        assert client.get(url, limit=100, wanted=ByteRange(0, 3)).data == b"xxx"
        assert client.get(url, limit=9).data == b"rest"
        assert len(seen) == 2


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"SSH-2.0-\x1b[2J\r\n\r\n", r"no HTTP: BadStatusLine, 'SSH-2.0-\\x1b"),
        (b"HTTP/1.1 2x0 OK\r\n\r\n", "no HTTP: BadStatusLine"),
        (b"HTTP/3 200 OK\r\n\r\n", "no HTTP: UnknownProtocol, 'HTTP/3'"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000, "no HTTP: LineTooLong"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n", "got more than 100 headers"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x; b*" + b"9" * 5000 + b"*=x\r\n\r\n",
            "no HTTP that can be read: Exceeds the limit",
        ),
        (b"", "Remote end closed connection without response"),
        (CHUNKED + b"zz\r\n", "no HTTP: IncompleteRead"),
        (CHUNKED + b"-2\r\n", "no HTTP: IncompleteRead"),
        (CHUNKED + b"2\r\nfound\r\n", "no HTTP: IncompleteRead"),
        (CHUNKED + b"5\r\nfou", "no HTTP: IncompleteRead"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfound", "closed .* 4 bytes too early"),
        (plain(b"fo", b"Content-Encoding: br"), "encoding br"),
        (plain(b"fo", b"Content-Encoding: gzip"), "no HTTP that can be read"),
        (
            plain(gzip.compress(b"found", mtime=0)[:-9], b"Content-Encoding: gzip"),
            "packed body is cut",
        ),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: odd\r\n\r\n", "no HTTP .* encoding odd"),
        (b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: file:///x\r\n\r\n", "no address"),
        (b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: /x\r\n\r\n", "20 redirects"),
    ],
)
def test_a_server_that_speaks_otherwise(client, answer, words, monkeypatch):
    monkeypatch.setattr(http, "TRIES", 1)
    again = 21 if b"Location" in answer else 1  # then it closes the connection
    with serving(*[answer] * again) as (url, _), pytest.raises(HubError, match=words) as caught:
        client.get(url, limit=100)
    assert str(caught.value).isprintable()


class Standing:
    """A connection that stands open: it answers once, with a redirect to a place or with nothing,
    and keeps the headers of the request."""

    timeout, sock = 1, SimpleNamespace(settimeout=lambda seconds: None)
    length, will_close, status = None, True, 302

    def __init__(self, place):
        self.headers = {"Location": place}

    def request(self, method, target, headers):
        self.asked = headers

    def getresponse(self):
        return self

    def isclosed(self):
        return True

    def close(self):
        pass


HUB = wire.UrlOrigin("http", "hub", 80)
SECURE = wire.UrlOrigin("https", "hub", 443)


@pytest.mark.parametrize(
    ("before", "after", "follows"),
    [
        (HUB, SECURE, True),
        (HUB, HUB, True),
        (SECURE, HUB, False),
        (HUB, wire.UrlOrigin("http", "cdn", 80), False),
        (HUB, wire.UrlOrigin("http", "hub", 81), False),
        (HUB, wire.UrlOrigin("https", "cdn", 443), False),
        (HUB, wire.UrlOrigin("https", "hub", 444), False),
    ],
)
def test_a_token_follows_to_https_and_no_further(before, after, follows):
    first = Standing("{}://{}:{}/y".format(*after))
    second = Standing("")
    wire.IDLE.give(after, second)
    wire.IDLE.give(before, first)  # which is taken first, where both are of one place
    found = wire.get("{}://{}:{}/x".format(*before), {"Authorization": "word"}, 1, 9)
    assert found.url.endswith("/y")
    assert first.asked["Authorization"] == "word"
    assert second.asked.get("Authorization") == ("word" if follows else None)


@pytest.mark.slow
def test_any_bytes_end_in_an_answer_or_one_line(client, monkeypatch):
    monkeypatch.setattr(http, "TRIES", 1)
    turn = random.Random(12)
    answers = [
        plain(gzip.compress(b"found", mtime=0), b"Content-Encoding: gzip"),
        CHUNKED + b"2\r\nfo\r\n3;x=1\r\nund\r\n0\r\nTrailer: y\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nContent-Length: 2\r\nLocation: /\xe9?a=b#c\r\n\r\nno",
    ]
    for _ in range(30):
        answer = bytearray(turn.choice(answers))
        for _ in range(turn.randint(1, 3)):
            answer[turn.randrange(len(answer))] = turn.choice(b"\r\n :;0-9/\0\xffx")
        with serving(bytes(answer)) as (url, _):
            try:
                told = repr(client.get(url, limit=100).data)
            except HubError as error:
                told = str(error)
            assert "\n" not in told


@contextmanager
def trickling(*parts):
    """A server that sends one byte of the last part each hundredth of a second."""
    *first, slow = parts
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            connection, _ = server.accept()
            with connection, suppress(OSError):
                connection.recv(1 << 16)
                connection.sendall(b"".join(first))
                for byte in slow * 1000:
                    connection.sendall(bytes([byte]))
                    if over.wait(0.01):
                        break

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/x"
        over.set()
        thread.join(60)


@pytest.mark.slow
@pytest.mark.parametrize(
    "parts",
    [
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
        (b"HTTP/1.1 200 OK\r\nX: ", b"y"),
        (CHUNKED, b"0"),
        (CHUNKED, b"0\r\n", b"X: y\r\n"),
        (plain(b"x" * CHUNK)[:-CHUNK], b"x"),
    ],
)
def test_a_server_that_sends_a_byte_now_and_then(client, monkeypatch, parts):
    monkeypatch.setattr(client, "_timeout", 0.1)
    for name in ("PATIENCE", "SLOW_AFTER"):
        monkeypatch.setattr(http, name, 0.2)
    threads = threading.active_count()
    with trickling(*parts) as url, pytest.raises(HubError, match=r"timed out|too slow"):
        client.get(url, limit=CHUNK)
    assert threading.active_count() == threads, "and nobody waits for the rest"


FORKED = """
import os, socket
from weighbridge.models.sources import wire
server = socket.create_server(("127.0.0.1", 0))
origin = wire.UrlOrigin("http", *server.getsockname())
connection = wire._connected(origin, 1)
wire.IDLE.give(origin, connection)
child = os.fork()
if not child:
    os._exit(wire.IDLE.take(origin) is not None)
print(os.waitpid(child, 0)[1], wire.IDLE.take(origin) is connection)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_child_process_does_not_speak_on_its_parents_connections():
    done = subprocess.run(
        [sys.executable, "-c", FORKED], capture_output=True, text=True, check=True
    )
    assert done.stdout == "0 True\n"


def test_idle_connections_are_few_and_not_old(monkeypatch):
    idle, closed = wire.Idle(), []

    class Held:
        def close(self):
            closed.append(self)

    monkeypatch.setattr(wire, "MOST_IDLE", 2)
    hub, cdn = wire.UrlOrigin("http", "hub", 80), wire.UrlOrigin("http", "cdn", 80)
    held = [Held() for _ in range(3)]
    for connection in held:
        idle.give(hub, connection)
    assert closed == held[:1]
    assert idle.take(cdn) is None
    assert idle.take(hub) is held[2], "the last one"
    monkeypatch.setattr(wire, "IDLE_SECONDS", -1)
    assert idle.take(hub) is None
    assert closed == held[:2]
