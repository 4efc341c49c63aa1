"""A stand-in of GitHub behind a proxy, with a certificate of its own: what `hf extensions install`
asks of it, and nothing else. Other hosts are reached without the proxy."""

import io
import re
import ssl
import subprocess
import threading
import zipfile
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HOSTS = ("github.com", "raw.githubusercontent.com")
SHA = "0123456789abcdef0123456789abcdef01234567"


def certificate(folder: Path) -> Path:
    """A certificate for HOSTS that signs itself, with its key."""
    path = folder / "github.pem"
    names = ",".join(f"DNS:{host}" for host in HOSTS)
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=github.com", "-addext", f"subjectAltName={names}"),
            *("-keyout", folder / "key.pem", "-out", folder / "cert.pem"),
        ],
        check=True,
        capture_output=True,
    )
    path.write_text((folder / "key.pem").read_text() + (folder / "cert.pem").read_text())
    return path


def archive(root: Path, name: str) -> bytes:
    """The zip file of a repository."""
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w") as file:
        for path in sorted(p for p in root.rglob("*") if p.is_file() and p.suffix != ".pyc"):
            file.write(path, f"{name}-{SHA}/{path.relative_to(root)}")
    return found.getvalue()


def _handler(root: Path, owner: str, context: ssl.SSLContext, seen: list[str]) -> type:
    name = root.name
    pages = {
        f"/{owner}/{name}": b"<html></html>",
        f"/{owner}/{name}/archive/HEAD.zip": archive(root, name),
        f"/{owner}/{name}.git/info/refs": f"001e# service\n0000 {SHA} HEAD\0".encode(),
        f"/{owner}/{name}/HEAD/pyproject.toml": (root / "pyproject.toml").read_bytes(),
    }

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_CONNECT(self) -> None:
            self.host = self.path.partition(":")[0]
            self.send_response(200 if self.host in HOSTS else 403)
            self.end_headers()
            self.wfile.flush()
            self.close_connection = self.host not in HOSTS
            if not self.close_connection:
                super().finish()
                self.connection = context.wrap_socket(self.connection, server_side=True)
                self.rfile = self.connection.makefile("rb")
                self.wfile = self.connection.makefile("wb")

        def finish(self) -> None:
            super().finish()
            self.connection.close()

        def do_GET(self) -> None:
            path = re.sub(r"\?.*", "", self.path)
            seen.append(f"{self.command} {self.host}{path}")
            body = pages.get(path)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body or b"")
            self.wfile.flush()

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    return Handler


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """A client may hang up at any time: what it wanted to know, it knows."""


@contextmanager
def github(root: Path, owner: str, folder: Path):
    """The proxy's address, a bundle that trusts it, and the paths that were asked for."""
    pem = certificate(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    bundle = folder / "bundle.pem"
    known = ssl.get_default_verify_paths()
    old = Path(known.cafile or known.openssl_cafile)
    bundle.write_text((old.read_text() if old.exists() else "") + (folder / "cert.pem").read_text())
    seen: list[str] = []
    server = _Server(("127.0.0.1", 0), _handler(root, owner, context, seen))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", bundle, seen
    finally:
        server.shutdown()
        server.server_close()
