"""A stand-in for the Hub that talks HTTP: what the real client asks for, and what goes wrong.

    python -m tests.hub --root DIR [--latency 0.05] [--port 0] [--gated ID] [--moved OLD=NEW]

DIR holds repositories as DIR/org/name/files (or DIR/name). It prints its endpoint, for HF_ENDPOINT.
Weights are "LFS files": their addresses redirect to /cdn on another host name, as the Hub's do.
"""

import argparse
import hashlib
import json
import math
import re
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit

LFS = (".safetensors", ".gguf", ".bin", ".pt", ".pth", ".ckpt")
CHUNK = 1 << 16
WHEN = "2026-11-21T10:00:00.000Z"
EXPOSED = (  # to pages, by huggingface.co
    "X-Repo-Commit,X-Request-Id,X-Error-Code,X-Error-Message,X-Total-Count,ETag,Link,Accept-Ranges,"
    "Content-Range,X-Linked-Size,X-Linked-ETag,X-Xet-Hash"
)


@dataclass
class Request:
    method: str
    path: str
    host: str
    range: str | None
    token: str | None
    status: int = 0
    sent: int = 0  # bytes of body


@dataclass
class Fault:
    """What happens to the next `times` requests whose path matches."""

    match: str
    times: int = 1 << 30
    status: int = 0  # answer with this
    headers: dict = field(default_factory=dict)
    cut: int | None = None  # close the connection after so many bytes of the body
    ranges: bool = True  # False: answer 200 with the whole file
    extra: int = 0  # add to Content-Length
    delay: float = 0.0
    body: bytes | None = None  # send this
    cors: bool = True  # False: no page may read this


@dataclass
class Hub:
    """A running stand-in; `requests` is what it was asked."""

    root: Path
    latency: float = 0.0
    port: int = 0
    cdn: bool = True
    exposing: bool = True  # whether the CDN lets pages read Content-Range
    static: bool = False  # the files do not change: commits are computed once
    commits: dict = field(default_factory=dict)
    missing_status: int = 404  # the real Hub says 401 to those who are not logged in
    moved: dict = field(default_factory=dict)  # old id -> new id
    gated: dict = field(default_factory=dict)  # id -> tokens that were given access
    private: dict = field(default_factory=dict)
    users: dict = field(default_factory=dict)  # token -> {"name", "may_write"}
    silent: set = field(default_factory=set)  # ids whose owner switched discussions off
    discussions: dict = field(default_factory=dict)  # id -> what stands there
    tags: dict = field(default_factory=dict)  # id -> tags of the listing
    page: int = 10  # discussions, or models, of one answer
    quota: tuple = ()  # (requests, seconds of a window), told in headers; more are refused
    windows: dict = field(default_factory=dict)  # kind of request -> [when it ends, requests in it]
    faults: list = field(default_factory=list)
    requests: list = field(default_factory=list)
    open: int = 0  # requests that are being answered
    most_open: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self):
        handler = type("Handler", (_Handler,), {"hub": self})
        self.server = _Server(("127.0.0.1", self.port), handler)
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *failure):
        self.server.shutdown()
        self.server.server_close()

    @property
    def endpoint(self):
        return f"http://localhost:{self.port}"

    @property
    def sent(self):
        return sum(request.sent for request in self.requests)

    def asked(self, match):
        return [r for r in self.requests if re.search(match, r.path)]

    def fault_for(self, path):
        with self.lock:
            for fault in self.faults:
                if fault.times > 0 and re.search(fault.match, path):
                    fault.times -= 1
                    return fault
        return Fault(match="")

    def counted(self, path):
        """(left, seconds) of the window that a request falls into; None without a quota."""
        if not self.quota:
            return None
        most, seconds = self.quota
        kind = "api" if path.startswith("/api/") else "resolvers"
        with self.lock:
            window = self.windows.setdefault(kind, [0.0, 0])
            now = time.monotonic()
            if now >= window[0]:
                window[:] = [now + seconds, 0]
            window[1] += 1
            return most - window[1], math.ceil(window[0] - now)

    # What a repository is.

    def folder(self, repo_id):
        folder = self.root / repo_id
        return folder if folder.is_dir() and any(p.is_file() for p in folder.iterdir()) else None

    def files(self, repo_id):
        folder = self.folder(repo_id)
        return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())

    def size(self, repo_id, path):
        return (self.folder(repo_id) / path).stat().st_size

    def commit(self, repo_id):
        if not self.static or repo_id not in self.commits:
            self.commits[repo_id] = self.new_commit(repo_id)
        return self.commits[repo_id]

    def new_commit(self, repo_id):
        folder = self.folder(repo_id)
        stats = [(p, (folder / p).stat()) for p in self.files(repo_id)]
        state = [(path, status.st_size, status.st_mtime_ns) for path, status in stats]
        return hashlib.sha1(repr((repo_id, state)).encode()).hexdigest()

    def resolve(self, repo_id, revision):
        """The commit of a revision; None where there is none. "v1" and PR 1 are main."""
        commit = self.commit(repo_id)
        return commit if revision in ("main", "v1", "refs/pr/1", commit) else None

    def library(self, repo_id):
        """What the Hub reads out of a config.json: accelerate asks for it."""
        place = self.folder(repo_id) / "config.json"
        config = json.loads(place.read_text()) if place.is_file() else {}
        if "model_type" not in config:
            return {}
        kept = {key: config[key] for key in ("architectures", "model_type") if key in config}
        return {"library_name": "transformers", "config": kept}

    def record(self, repo_id, path, *, name):
        """A file as the API lists it: `name` is the key of its path."""
        size = self.size(repo_id, path)
        oid = _blob_id(self.folder(repo_id) / path, size)
        found = {name: path, "size": size, "oid" if name == "path" else "blobId": oid}
        if path.endswith(LFS):
            key = "oid" if name == "path" else "sha256"
            sha = hashlib.sha256(f"{repo_id}/{path}/{size}".encode()).hexdigest()
            found["lfs"] = {key: sha, "size": size, "pointerSize": 134}
        return found


MOST_HASHED = 32 << 20  # bytes: larger files are mostly holes


def _blob_id(path, size):
    """Git's hash of a file; of a large one any."""
    raw = path.read_bytes() if size <= MOST_HASHED else str(path).encode()
    return hashlib.sha1(b"blob %d\0" % size + raw).hexdigest()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        """A client that has read enough closes the connection."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    hub: Hub

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()

    def do_POST(self):
        self.posted = json.loads(self.rfile.read(int(self.headers["Content-Length"] or 0)))
        self.answer()

    def do_OPTIONS(self):
        """What a browser asks before it sends a header such as Authorization for a page."""
        self.request_record = Request(self.command, self.path, self.headers["Host"], None, None)
        self.fault = Fault(match="")
        asked = self.headers["Access-Control-Request-Headers"] or ""
        self.send(204, b"", {"Access-Control-Allow-Headers": asked, "Access-Control-Max-Age": 60})

    def answer(self):
        hub, token = self.hub, (self.headers["Authorization"] or "").removeprefix("Bearer ") or None
        self.request_record = Request(
            self.command, self.path, self.headers["Host"], self.headers["Range"], token
        )
        with hub.lock:
            hub.requests.append(self.request_record)
            hub.open += 1
            hub.most_open = max(hub.most_open, hub.open)
        self.fault = hub.fault_for(self.path)
        time.sleep(hub.latency + self.fault.delay)
        with hub.lock:
            hub.open -= 1
        self.counted = hub.counted(self.path)
        if self.counted is not None and self.counted[0] < 0:
            return self.refuse(429, "", "Too many requests")
        if self.fault.status:
            return self.send(self.fault.status, self.fault.body or b"", self.fault.headers)
        parts = urlsplit(self.path)
        path, query = parts.path, parse_qs(parts.query)
        for pattern, route in ROUTES:
            if found := re.fullmatch(pattern, path):
                groups = {k: unquote(v) for k, v in found.groupdict().items() if v is not None}
                return route(self, query, **groups)
        return self.refuse(404, "", "no such page")

    # Answers.

    def send(self, status, body=b"", headers=None):
        self.begin(status, len(body), headers or {})
        self.body([body])

    def json(self, value, headers=None):
        body = self.fault.body if self.fault.body is not None else json.dumps(value).encode()
        self.send(200, body, {"Content-Type": "application/json", **(headers or {})})

    def refuse(self, status, code, message):
        headers = {"X-Error-Code": code} if code else {}
        body = json.dumps({"error": message}).encode()
        self.send(status, body, {**headers, "X-Error-Message": message})

    def begin(self, status, length, headers):
        self.request_record.status = status
        self.send_response(status)
        if getattr(self, "counted", None) is not None:
            left, seconds = self.counted
            headers = headers | {"RateLimit": f'"resolvers";r={max(0, left)};t={seconds}'}
        for key, value in (headers | self.for_pages()).items():
            self.send_header(key, str(value))
        self.send_header("Content-Length", str(length + self.fault.extra))
        self.end_headers()

    def for_pages(self):
        """What the Hub says to pages of other sites, and its CDN, which knows no origin."""
        origin = self.headers["Origin"]
        if origin is None or not self.fault.cors:
            return {}
        if self.path.startswith("/cdn/"):
            exposed = {"Access-Control-Expose-Headers": "Content-Range"}
            return {"Access-Control-Allow-Origin": "*"} | (exposed if self.hub.exposing else {})
        return {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Expose-Headers": EXPOSED,
            "Vary": "Origin",
        }

    def body(self, chunks):
        left = self.fault.cut
        for chunk in () if self.command == "HEAD" else chunks:
            chunk = chunk if left is None else chunk[:left]
            self.wfile.write(chunk)
            self.request_record.sent += len(chunk)
            if left is not None and (left := left - len(chunk)) <= 0:
                break
        self.wfile.flush()
        if self.fault.cut is not None or self.fault.extra:
            self.close_connection = True

    def redirect(self, location, headers=None, status=307):
        self.send(status, b"", {"Location": location, **(headers or {})})

    # Access.

    def admitted(self, repo_id, *, files=False):
        """Whether the request may go on; where not, it has been answered."""
        hub, token = self.hub, self.request_record.token
        if repo_id in hub.moved:
            self.redirect(self.path.replace(repo_id, hub.moved[repo_id], 1))
            return False
        hidden = repo_id in hub.private and token not in hub.private[repo_id]
        if hidden or hub.folder(repo_id) is None:
            self.refuse(hub.missing_status, "RepoNotFound", "Repository not found")
            return False
        if files and repo_id in hub.gated and token not in hub.gated[repo_id]:
            message = f"Access to model {repo_id} is restricted."
            self.refuse(401 if token is None else 403, "GatedRepo", message)
            return False
        return True

    def at(self, repo_id, revision):
        commit = self.hub.resolve(repo_id, revision)
        if commit is None:
            self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit

    # Routes.

    def model(self, query, repo, rev="main"):
        hub = self.hub
        if not self.admitted(repo) or (commit := self.at(repo, rev)) is None:
            return
        if "blobs" in query:
            siblings = [hub.record(repo, path, name="rfilename") for path in hub.files(repo)]
        else:
            siblings = [{"rfilename": path} for path in hub.files(repo)]
        self.json(
            {
                "id": repo,
                "modelId": repo,
                "sha": commit,
                "private": repo in hub.private,
                "gated": "manual" if repo in hub.gated else False,
                "disabled": False,
                "tags": [],
                "downloads": 0,
                "likes": 0,
                "siblings": siblings,
                **hub.library(repo),
            }
        )

    def models(self, query):
        """The listing: the most downloaded first, and where it goes on."""
        hub, token = self.hub, self.request_record.token
        author, search = (query.get(n, [""])[0] for n in ("author", "search"))
        folders = sorted(p.relative_to(hub.root).as_posix() for p in hub.root.glob("*/*"))
        ids = [
            repo
            for repo in folders
            if hub.folder(repo)
            and (repo not in hub.private or token in hub.private[repo])
            and (not author or repo.split("/")[0] == author)
            and search.lower() in repo.lower()
        ]
        first, most = (int(query.get(n, [d])[0]) for n, d in (("cursor", "0"), ("limit", "1000")))
        stop = first + min(most, hub.page)
        told = [
            {
                "id": repo,
                "sha": hub.commit(repo),
                "downloads": len(ids) - number,
                "gated": "manual" if repo in hub.gated else False,
                "siblings": [{"rfilename": path} for path in hub.files(repo)],
                "tags": hub.tags.get(repo, []),
            }
            for number, repo in enumerate(ids)
        ]
        kept = "&".join(f"{n}={v[0]}" for n, v in query.items() if n != "cursor")
        after = f'<{hub.endpoint}/api/models?{kept}&cursor={stop}>; rel="next"'
        self.json(told[first:stop], {"Link": after} if stop < len(ids) else {})

    def refs(self, query, repo):
        if self.admitted(repo):
            commit = self.hub.commit(repo)
            refs = {"branches": ["main"], "tags": ["v1"]}
            named = {
                kind: [
                    {"name": n, "ref": f"refs/{kind}/{n}", "targetCommit": commit} for n in names
                ]
                for kind, names in refs.items()
            }
            self.json({**named, "converts": []})

    def whoami(self, query):
        user = self.hub.users.get(self.request_record.token)
        if user is None:
            return self.refuse(401, "", "Invalid credentials in Authorization header")
        return self.json({"type": "user", "name": user["name"], "auth": {"type": "access_token"}})

    def talk(self, query, repo):
        """What is said on a page, page by page; and what is said anew."""
        if not self.admitted(repo):
            return None
        if self.command == "POST":
            return self.said(repo)
        first = self.hub.page * int(query.get("p", ["0"])[0])
        told = self.hub.discussions.get(repo, [])
        shown = [_listed(repo, one) for one in told[first : first + self.hub.page]]
        return self.json({"discussions": shown, "count": len(told), "start": first})

    def said(self, repo):
        user = self.hub.users.get(self.request_record.token)
        if user is None:
            return self.refuse(401, "", "Invalid credentials in Authorization header")
        if not user.get("may_write", True):
            return self.refuse(403, "", "Forbidden: you don't have the rights to do this")
        if repo in self.hub.silent:
            return self.refuse(403, "", "Discussions are disabled for this repo")
        with self.hub.lock:
            told = self.hub.discussions.setdefault(repo, [])
            one = {"num": len(told) + 1, "author": user["name"], "status": "open", **self.posted}
            told.append(one)
        return self.json({"num": one["num"], "pullRequest": False})

    def discussion(self, query, repo, num):
        told = self.hub.discussions.get(repo, [])
        if not self.admitted(repo):
            return None
        if int(num) > len(told):
            return self.refuse(404, "", "Not found")
        one = told[int(num) - 1]
        latest = {"raw": one["description"], "html": "", "updatedAt": WHEN}
        comment = {
            "id": "1",
            "type": "comment",
            "createdAt": WHEN,
            "author": {"name": one["author"]},
            "data": {"edited": False, "hidden": False, "latest": latest, "history": [latest]},
        }
        return self.json({**_listed(repo, one), "events": [comment]})

    def tree(self, query, repo, rev, sub=""):
        hub = self.hub
        if not self.admitted(repo) or self.at(repo, rev) is None:
            return
        below = f"{sub.strip('/')}/" if sub.strip("/") else ""
        inside = [path for path in hub.files(repo) if path.startswith(below)]
        deep = query.get("recursive", ["false"])[0].lower() in ("true", "1")
        shown = [p for p in inside if deep or "/" not in p.removeprefix(below)]
        folders = {p.removeprefix(below).partition("/")[0] for p in inside if p not in shown}
        self.json(
            [{"type": "file", **hub.record(repo, path, name="path")} for path in shown]
            + [
                {"type": "directory", "path": below + f, "oid": "0" * 40, "size": 0}
                for f in folders
            ]
        )

    def resolve(self, query, repo, rev, path):
        hub = self.hub
        if not self.admitted(repo, files=True) or (commit := self.at(repo, rev)) is None:
            return None
        headers = {"X-Repo-Commit": commit}
        if ".." in path or not (hub.folder(repo) / path).is_file():
            body = b'{"error": "Entry not found"}'
            return self.send(404, body, {**headers, "X-Error-Code": "EntryNotFound"})
        record = hub.record(repo, path, name="rfilename")
        if "lfs" in record and hub.cdn:
            linked = {
                "X-Linked-Size": record["size"],
                "X-Linked-ETag": f'"{record["lfs"]["sha256"]}"',
            }
            place = f"http://127.0.0.1:{hub.port}/cdn/{quote(repo)}/{quote(path)}?signature=1"
            return self.redirect(place, headers | linked, status=302)
        return self.file(hub.folder(repo) / path, headers | {"ETag": f'"{record["blobId"]}"'})

    def cdn(self, query, path):
        """Signed addresses: a token does not belong here, and S3 refuses one."""
        if self.request_record.token is not None:
            return self.refuse(400, "", "Only one auth mechanism allowed")
        return self.file(self.hub.root / path, {"ETag": '"cdn"'})

    def plain(self, query, path):
        """A web server that knows nothing of models."""
        place = self.hub.root / path
        return self.file(place, {}) if place.is_file() else self.send(404, b"no such file")

    def file(self, place, headers):
        size, said = place.stat().st_size, self.headers["Range"]
        found = re.fullmatch(r"bytes=(\d*)-(\d*)", said or "") if self.fault.ranges else None
        start, stop = _bounds(found, size)
        headers |= {"Accept-Ranges": "bytes"} if self.fault.ranges else {}
        if found and start >= stop:
            return self.send(416, b"", {"Content-Range": f"bytes */{size}"})
        if found:
            headers |= {"Content-Range": f"bytes {start}-{stop - 1}/{size}"}
        self.begin(206 if found else 200, stop - start, headers)
        return self.body(_chunks(place, start, stop))


def _listed(repo, one):
    return {
        **{key: one[key] for key in ("num", "title", "status")},
        "author": {"name": one["author"]},
        "createdAt": WHEN,
        "repo": {"name": repo, "type": "model"},
        "isPullRequest": False,
    }


def _bounds(found, size):
    if not found or found[0] == "bytes=-":
        return 0, size
    if not found[1]:
        return max(0, size - int(found[2])), size
    return int(found[1]), min(size, int(found[2]) + 1 if found[2] else size)


def _chunks(place, start, stop):
    with place.open("rb") as file:
        file.seek(start)
        while start < stop and (chunk := file.read(min(CHUNK, stop - start))):
            start += len(chunk)
            yield chunk


REPO = r"(?P<repo>[\w.-]+(?:/[\w.-]+)?)"
ROUTES = (
    (r"/api/whoami-v2", _Handler.whoami),
    (r"/api/models", _Handler.models),
    (rf"/api/models/{REPO}/discussions/(?P<num>\d+)", _Handler.discussion),
    (rf"/api/models/{REPO}/discussions", _Handler.talk),
    (rf"/api/models/{REPO}/revision/(?P<rev>.+)", _Handler.model),
    (rf"/api/models/{REPO}/tree/(?P<rev>[^/]+)(?P<sub>/.*)?", _Handler.tree),
    (rf"/api/models/{REPO}/refs", _Handler.refs),
    (rf"/api/models/{REPO}", _Handler.model),
    (r"/cdn/(?P<path>.+)", _Handler.cdn),
    (r"/plain/(?P<path>.+)", _Handler.plain),
    (rf"/(?:api/models/)?{REPO}/resolve/(?P<rev>refs/pr/\d+|[^/]+)/(?P<path>.+)", _Handler.resolve),
)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--latency", type=float, default=0.0)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--gated", action="append", default=[], metavar="ID")
    parser.add_argument("--moved", action="append", default=[], metavar="OLD=NEW")
    parser.add_argument("--missing-status", type=int, default=404)
    parser.add_argument("--no-cdn", action="store_true", help="serve weights without a redirect")
    typed = parser.parse_args()
    hub = Hub(
        root=typed.root,
        latency=typed.latency,
        port=typed.port,
        cdn=not typed.no_cdn,
        static=True,
        missing_status=typed.missing_status,
        gated=dict.fromkeys(typed.gated, ()),
        moved=dict(pair.split("=", 1) for pair in typed.moved),
    )
    with hub:
        print(hub.endpoint, flush=True)
        hub.thread.join()


if __name__ == "__main__":
    main()
