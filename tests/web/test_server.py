"""The served page: who may ask, what is there, and that answers keep their order."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing

import pytest

from weighbridge.base.errors import UsageError
from weighbridge.faces.web import server as served
from weighbridge.faces.web.awaited import Awaited
from weighbridge.faces.web.protocol import MOST, AskDesk
from weighbridge.faces.web.registry import DEMONSTRATION
from weighbridge.faces.web.server import POLICY, PageServer, files

ASK = json.dumps({"task": "load", "model": "gpt2"})


class Here:
    """Answers in this process."""

    def __init__(self):
        self._desk = AskDesk(offline=True)

    def answer(self, line, gone, tell):
        def part(known):
            tell(json.dumps(known).encode())

        return json.dumps(self._desk.answer(line, part)).encode()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    (folder / "index.html").write_text("<!doctype html>")
    (folder / "vendor").mkdir()
    (folder / "vendor" / "view.js").write_text("export {}")
    (folder / "notes.txt").write_text("not of the page")
    return folder


@pytest.fixture(scope="module")
def server(page):
    with PageServer(0, Here(), page) as found:
        thread = threading.Thread(target=found.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield found
        found.shutdown()


def own(server, **other):
    origin = {"Origin": f"http://127.0.0.1:{server.gate.port}", "Content-Type": "application/json"}
    return {name: value for name, value in {**origin, **other}.items() if value is not None}


def send(server, method, path, body=None, headers=()):
    connection = http.client.HTTPConnection("127.0.0.1", server.gate.port, timeout=60)
    with closing(connection):
        connection.request(method, path, body, dict(headers))
        answer = connection.getresponse()
        return answer, answer.read()


def below(server, path=""):
    return f"/{server.gate.secret}/{path}"


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ("bytes=0-3", (0, 4)),
        ("bytes=5-8", (5, 9)),
        ("bytes=8-99999999", (8, None)),
        (None, None),
        ("bytes=99999999-999999999", None),  # behind its end
        ("bytes=3-1", None),
        ("bytes=-4", None),
        ("bytes=0-1,3-4", None),
        ("lines=0-3", None),
    ],
)
def test_one_range_of_a_file_is_sent_and_whatever_else_is_asked_all_of_it(server, asked, given):
    content = (DEMONSTRATION / "models.parquet").read_bytes()
    headers = {"Range": asked} if asked else {}
    answer, body = send(server, "GET", below(server, "registry/models.parquet"), headers=headers)
    if given is None:
        assert (answer.status, body) == (200, content)
        return
    start, stop = given[0], given[1] or len(content)
    assert (answer.status, body) == (206, content[start:stop])
    assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{len(content)}"
    assert answer.headers["Content-Security-Policy"] == POLICY


def test_the_page_is_there_and_nothing_beside_it(server):
    for path, kind in (
        ("", "text/html"),
        ("index.html", "text/html"),
        ("vendor/view.js", "text/javascript"),
    ):
        answer, body = send(server, "GET", below(server, path))
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith(kind)
        assert body
    for path in (
        "notes.txt",
        "../server.py",
        "..%2fserver.py",
        "vendor",
        "vendor/",
        "/etc/passwd",
        "ask",
    ):
        assert send(server, "GET", below(server, path))[0].status == 404
    answer, body = send(server, "HEAD", below(server))
    assert (answer.status, body) == (200, b"")


def test_the_page_of_the_package_is_whole():
    found = files(served.PAGE)
    if found:
        assert served.INDEX in found


@pytest.mark.parametrize(
    "path", ["/", "/wrong/", "/{secret}", "/{secret}x/", "/x/{secret}/", "/é/", "*"]
)
def test_without_the_secret_there_is_nothing(server, path):
    told = path.replace("{secret}", server.gate.secret).encode("latin-1").decode("latin-1")
    raw = f"GET {told} HTTP/1.1\r\nHost: 127.0.0.1:{server.gate.port}\r\nConnection: close\r\n\r\n"
    assert b" 404 " in talk(server, raw.encode("latin-1")).split(b"\r\n")[0]


def talk(server, raw):
    with socket.create_connection(("127.0.0.1", server.gate.port), timeout=60) as line:
        line.sendall(raw)
        return b"".join(iter(lambda: line.recv(1 << 16), b""))


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost.evil:{port}", ""]
)
def test_another_host_is_another_page(server, host):
    """A name of a stranger's that was pointed at this machine."""
    headers = {"Host": host.replace("{port}", str(server.gate.port))}
    assert send(server, "GET", below(server), headers=headers)[0].status == 421


def test_localhost_is_this_machine_too(server):
    host = f"localhost:{server.gate.port}"
    headers = own(server, Host=host, Origin=f"http://{host}")
    assert send(server, "POST", below(server, "ask"), ASK, headers)[0].status == 200


@pytest.mark.parametrize(
    ("header", "value", "status"),
    [
        ("Origin", None, 403),
        ("Origin", "null", 403),
        ("Origin", "http://evil.example", 403),
        ("Origin", "https://127.0.0.1:{port}", 403),
        ("Origin", "http://127.0.0.1:1", 403),
        ("Sec-Fetch-Site", "cross-site", 403),
        ("Sec-Fetch-Site", "same-site", 403),
        ("Content-Type", "text/plain", 415),
        ("Content-Type", None, 415),
        ("Content-Length", str(MOST + 1), 413),
        ("Content-Length", "9" * 400, 413),
        ("Content-Length", "-1", 411),
        ("Content-Length", "²", 411),
        ("Transfer-Encoding", "chunked", 411),
    ],
)
def test_only_the_page_itself_may_ask(server, header, value, status):
    told = value if value is None else value.replace("{port}", str(server.gate.port))
    headers = own(server, **{header: told})
    raw = [f"POST {below(server, 'ask')} HTTP/1.1", "Connection: close"]
    headers.setdefault("Host", f"127.0.0.1:{server.gate.port}")
    headers.setdefault("Content-Length", str(len(ASK)))
    raw += [f"{name}: {text}" for name, text in headers.items()]
    found = talk(server, "\r\n".join([*raw, "", ASK]).encode("latin-1"))
    assert f" {status} ".encode() in found.split(b"\r\n")[0]
    assert b"gpt2" not in found
    assert b"Access-Control" not in found


def test_a_header_that_stands_there_twice_decides_nothing(server):
    host = f"Host: 127.0.0.1:{server.gate.port}\r\n"
    raw = f"GET {below(server)} HTTP/1.1\r\n{host}Host: evil\r\nConnection: close\r\n\r\n"
    assert b" 400 " in talk(server, raw.encode()).split(b"\r\n")[0]


@pytest.mark.parametrize("method", ["OPTIONS", "PUT", "DELETE", "TRACE", "CONNECT"])
def test_other_methods_are_not_there(server, method):
    answer, body = send(server, method, below(server, "ask"), headers=own(server))
    assert answer.status == 501
    assert answer.headers["Content-Security-Policy"] == POLICY
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert server.gate.secret.encode() not in body


def test_an_ask_is_answered_as_the_desk_answers_it(server):
    answer, body = send(server, "POST", below(server, "ask"), ASK, own(server))
    assert answer.status == 200
    assert json.loads(body) == json.loads(json.dumps(AskDesk(offline=True).answer(ASK)))
    _, body = send(server, "POST", below(server, "ask"), b"\xff{", own(server))
    assert json.loads(body)["error"]["code"] == 2


def test_parts_are_lines_before_the_answer(server):
    ask = {"task": "load", "model": "llama-3.1-70b", "workload": {"gpu": "4090"}}
    answer, body = send(server, "POST", below(server, "ask"), json.dumps(ask), own(server))
    assert answer.headers["Content-Type"] == "application/json"
    asked = json.dumps({**ask, "view": {"parts": True}})
    answer, lines = send(server, "POST", below(server, "ask"), asked, own(server))
    assert answer.headers["Content-Type"] == "application/jsonl"
    assert answer.headers["Content-Security-Policy"] == POLICY
    *parts, last = map(json.loads, lines.splitlines())
    assert last == json.loads(body)
    assert parts and all(part.keys() == {"part"} for part in parts)


def test_headers_keep_others_out(server):
    for method, path in (("GET", ""), ("GET", "none"), ("POST", "ask")):
        answer, _ = send(server, method, below(server, path), ASK, own(server))
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "same-origin"
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert answer.headers["Cache-Control"] == "no-store"
        assert "Python" not in answer.headers["Server"]


class Slow:
    """Answers when it is let, and tells whether who asked is still there."""

    def __init__(self):
        self.let, self.began, self.left = threading.Event(), threading.Event(), threading.Event()

    def answer(self, line, gone, tell):
        self.began.set()
        until = time.monotonic() + 60
        while not self.let.is_set():
            assert time.monotonic() < until
            if gone():
                self.left.set()
                return None
            time.sleep(0.002)
        return line


@pytest.fixture
def slow(page):
    desks = Slow()
    with PageServer(0, desks, page) as found:
        threading.Thread(target=found.serve_forever, args=(0.02,), daemon=True).start()
        yield found, desks
        desks.let.set()
        found.shutdown()


def begun(server, told):
    """A connection with an ask on its way."""
    line = http.client.HTTPConnection("127.0.0.1", server.gate.port, timeout=60)
    line.request("POST", below(server, "ask"), json.dumps(told), own(server))
    return line


def test_the_page_and_other_asks_do_not_wait_for_an_answer(slow):
    server, desks = slow
    asks = [begun(server, number) for number in range(3)]
    assert desks.began.wait(60)
    assert send(server, "GET", below(server))[0].status == 200
    desks.let.set()
    for number, line in enumerate(asks):
        with closing(line):
            assert json.loads(line.getresponse().read()) == number


def test_an_ask_that_was_given_up_is_told(slow):
    server, desks = slow
    line = begun(server, 0)
    assert desks.began.wait(60)
    assert not desks.left.wait(0.02)
    line.close()
    assert desks.left.wait(60)


@pytest.fixture
def crowded(page, monkeypatch):
    monkeypatch.setattr(served, "CROWD", 2)
    monkeypatch.setattr(served, "ROOM", 20)
    with PageServer(0, Here(), page) as found:
        threading.Thread(target=found.serve_forever, args=(0.02,), daemon=True).start()
        kept = [socket.create_connection(("127.0.0.1", found.gate.port), 20) for _ in range(2)]
        yield found, kept
        for one in kept:
            one.close()
        found.shutdown()


def test_strangers_who_are_slow_keep_nobody_away(crowded):
    """They send a byte now and then, and never the secret: each new connection takes a place."""
    found, kept = crowded
    for one in kept:
        one.sendall(b"GET / HTTP/1.1\r\n")
    for _ in range(3):
        assert send(found, "GET", below(found))[0].status == 200
        assert found.crowd.acquire(timeout=60)  # until the one that was answered has left
        found.crowd.release()
    assert kept[0].recv(1) == b""


def test_where_all_have_the_secret_one_more_is_told_to_come_again(crowded):
    found, kept = crowded
    for one in kept:
        one.sendall(
            f"GET {below(found)} HTTP/1.1\r\nHost: 127.0.0.1:{found.gate.port}\r\n\r\n".encode()
        )
        assert one.recv(12) == b"HTTP/1.1 200"
    answer, _ = send(found, "GET", below(found))
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")


def test_pieces_have_a_sum_of_time():
    now, pairs = [0.0], [socket.socketpair() for _ in range(3)]
    awaited = Awaited(lambda: now[0])
    stranger, late, known = (ours for ours, _ in pairs)
    for one in (late, stranger, known):
        awaited.within(one, 10)
    awaited.known(known)
    now[0] = 5.0
    awaited.within(stranger, 10)
    awaited.next_of(stranger)  # which leaves it as it is: it has not shown the secret
    now[0] = 9.9
    awaited.end_late()
    now[0] = 10.0
    awaited.end_late()
    theirs = dict(pairs)
    theirs[late].settimeout(60)
    assert theirs[late].recv(1) == b""
    for one in (stranger, known):
        one.sendall(b"x")
    awaited.gone(late)
    awaited.next_of(known)
    assert awaited.end_oldest_stranger()
    assert theirs[stranger].recv(2) == b"x" and theirs[stranger].recv(1) == b""
    awaited.gone(stranger)
    assert not awaited.end_oldest_stranger()
    for ours, other in pairs:
        ours.close()
        other.close()


def test_a_port_that_is_taken_is_one_line(server):
    with pytest.raises(UsageError, match=rf"port {server.gate.port} .* cannot be had"):
        PageServer(server.gate.port, Here())


def test_each_start_has_a_secret_of_its_own(server, page):
    with PageServer(0, Here(), page) as other:
        assert other.gate.secret != server.gate.secret
        assert len(other.gate.secret) >= 32


def command(*words, **options):
    code = "from weighbridge.faces.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, "web", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.mark.slow
def test_the_command_prints_the_address_and_ends_quietly():
    with command("--port", "0", "--no-open") as running:
        address = running.stdout.readline().strip()
        port, secret = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/([\w-]{32,})/", address).groups()
        line = http.client.HTTPConnection("127.0.0.1", int(port), timeout=60)
        line.request(
            "POST",
            f"/{secret}/ask",
            ASK,
            {"Origin": f"http://127.0.0.1:{port}", "Content-Type": "application/json"},
        )
        assert "report" in json.loads(line.getresponse().read())
        line.close()
        running.send_signal(signal.SIGINT if os.name != "nt" else signal.CTRL_C_EVENT)
        try:
            out, err = running.communicate(timeout=60)
        finally:
            running.kill()
        assert (running.returncode, out) == (0, "")
        assert "Traceback" not in err
        assert secret not in err


@pytest.mark.slow
def test_the_command_says_that_a_port_is_taken(server):
    with command("--port", str(server.gate.port), "--no-open") as running:
        out, err = running.communicate(timeout=60)
    assert (running.returncode, out) == (2, "")
    assert err.startswith(f"error: port {server.gate.port} ")
    assert err.count("\n") == 1
