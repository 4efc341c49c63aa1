"""The endpoints as programs and agents use them: gradio_client, plain HTTP, the official MCP client."""

import asyncio
import http.client
import json
import subprocess
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.space.conftest import READER, WRITER
from weighbridge.faces.web.protocol import AskDesk
from weighbridge.faces.web.server import PAGE

pytest.importorskip("gradio")
gradio_client = pytest.importorskip("gradio_client")
pytest.importorskip("mcp")

# gradio_client and its loops leave sockets to the collector
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
ENDPOINTS = {"/load", "/infer", "/train", "/fit", "/gpus", "/models"}
REQUESTS = [
    {"task": "load", "model": "llama-3.1-8b", "workload": {"quantization": "nf4"}},
    {"task": "infer", "model": "qwen3-8b", "workload": {"engine": "vllm", "gpu": "4090"}},
    {"task": "train", "model": "7B", "workload": {"method": "qlora"}},
    {"task": "train", "model": "llama-3.1-8b", "workload": {"method": "lora", "gpu": "3060"}},
    {"task": "fit", "model": "qwen3-0.6b", "workload": {"gpu": "3060"}, "remedies": True},
    {"task": "load", "model": "no-such-name"},
    {"task": "load", "model": "llama-3.1-8b", "workload": {"dtype": "nonsense"}},
    {"task": "infer", "model": {"config": {"model_type": "llama", "hidden_size": 64}}},
]


@pytest.fixture(scope="module")
def client(server):
    made = gradio_client.Client(server.url, verbose=False, analytics_enabled=False)
    yield made
    made.close()


def test_the_endpoints_have_names_that_say_what_they_do(client):
    told = client.view_api(return_format="dict", print_info=False)
    assert told["named_endpoints"].keys() == ENDPOINTS
    for name in ENDPOINTS:
        parameters = told["named_endpoints"][name]["parameters"]
        assert [one["parameter_name"] for one in parameters] == ["request"]


def test_the_same_json_as_run(client):
    lines = "\n".join(map(json.dumps, REQUESTS))
    done = subprocess.run(
        [sys.executable, "-m", "weighbridge", "run", "-", "--keep-going"],
        input=lines,
        capture_output=True,
        text=True,
        check=True,
    )
    for request, line in zip(REQUESTS, done.stdout.splitlines(), strict=True):
        own = {name: value for name, value in request.items() if name != "task"}
        assert client.predict(own, api_name=f"/{request['task']}") == json.loads(line)


def test_lists(client):
    found = client.predict({"workload": {"pattern": "4090"}}, api_name="/gpus")
    assert found["schema"] == "weighbridge.gpus/1"
    assert any(one["id"] == "nvidia-geforce-rtx-4090" for one in found["gpus"])
    assert client.predict({}, api_name="/models")["schema"] == "weighbridge.models/1"


@pytest.mark.parametrize(
    "model", ["/etc/passwd", "../x", "file:///etc/passwd", "http://169.254.169.254/x.json"]
)
@pytest.mark.parametrize("task", ["load", "infer", "train"])
def test_nothing_of_this_machine_is_read(client, model, task):
    found = client.predict({"model": model}, api_name=f"/{task}")
    assert found["error"]["code"] == 2
    assert "root:" not in json.dumps(found)


def test_other_tasks_are_not_asked_by_the_back_door(client):
    for request in ({"task": "post", "draft": {}}, {"model": "7B", "view": {}}, {"task": "fit"}):
        assert "error" in client.predict(request, api_name="/load")


def test_a_gated_model_and_a_token_that_is_nowhere_afterwards(client, server):
    assert client.predict({"model": "org/gated"}, api_name="/load")["error"]["code"] == 3
    found = client.predict({"model": "org/gated", "token": WRITER}, api_name="/load")
    assert found["model"]["name"] == "org/gated"
    assert client.predict({"model": "org/gated"}, api_name="/load")["error"]["code"] == 3
    assert WRITER not in json.dumps(found)
    assert WRITER not in server.log
    kept = [path for path in server.home.rglob("*") if path.is_file()]
    assert not [path for path in kept if WRITER.encode() in path.read_bytes()]


def test_the_owners_token_is_not_lent(server, client):
    client.predict({"model": "org/tiny"}, api_name="/load")
    told = {request.token for request in server.hub.requests}
    assert server.hub.asked("/org/tiny") and told <= {None, WRITER, READER}


# MCP


def mcp(url, *calls):
    """(tools, answers of the calls) by the official client over HTTP."""
    from mcp import ClientSession
    from mcp.client.streamable_http import streamablehttp_client

    async def talk():
        async with (
            streamablehttp_client(f"{url}gradio_api/mcp/") as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            tools = (await session.list_tools()).tools
            return tools, [await session.call_tool(name, given) for name, given in calls]

    with ThreadPoolExecutor(1) as aside:  # Playwright's loop runs in this thread
        return aside.submit(lambda: asyncio.run(asyncio.wait_for(talk(), 90))).result()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_official_mcp_client(server):
    request = {"model": "llama-3.1-8b", "workload": {"gpu": "4090"}}
    tools, answers = mcp(
        server.url,
        ("load", {"request": request}),
        ("infer", {"request": {"model": "/etc/passwd"}}),
        ("gpus", {"request": {"workload": {"pattern": "h100"}}}),
        ("fit", {"request": {"model": "llama-3.1-8b", "workload": {"gpu": "3060"}}}),
        ("models", {"request": {}}),
    )
    assert {tool.name for tool in tools} == {name[1:] for name in ENDPOINTS}
    for tool in tools:
        assert tool.inputSchema["required"] == ["request"]
        assert len(tool.description) > 20
    told = [json.loads(answer.content[0].text) for answer in answers]
    assert told[0]["verdict"]["fits"] == "yes"
    assert told[1]["error"]["code"] == 2
    assert told[2]["gpus"]
    assert told[3]["schema"] == "weighbridge.fit/1" and told[3]["left_out"]
    assert told[4]["left_out"]["models"] > 0
    assert max(len(answer.content[0].text) for answer in answers) < 45_000


# Plain HTTP


def status(url, data=None, headers=None):
    request = urllib.request.Request(url, data=data, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


@pytest.mark.parametrize(
    "path",
    [
        "theme.css",
        "assets/index.js",
        "gradio_api/file=/etc/passwd",
        "gradio_api/file=http://169.254.169.254/",
        "gradio_api/proxy=http://127.0.0.1/",
        "gradio_api/run-history/records",
        "gradio_api/runs",
        "gradio_api/deep_link",
        "monitoring",
    ],
)
def test_doors_of_gradio_that_are_shut(server, path):
    code, _, body = status(server.url + path)
    assert code == 404 and b"root:" not in body


def test_no_uploads(server):
    body = (
        b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\nhi\r\n--x--\r\n'
    )
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    assert status(f"{server.url}gradio_api/upload", body, kind)[0] == 404


def test_a_request_that_is_too_large(server):
    """Refused by its head: nothing of the body is waited for."""
    line = http.client.HTTPConnection(server.url.split("/")[2], timeout=60)
    line.putrequest("POST", "/gradio_api/run/load")
    line.putheader("Content-Length", str(3 << 20))
    line.endheaders()
    assert line.getresponse().status == 413
    line.close()


def test_the_page_is_served_with_its_policy(server):
    code, headers, body = status(server.url)
    assert code == 200
    assert b'content="space"' in body and b"gradio" not in body
    assert "script-src 'self';" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["Cache-Control"] == "no-store"
    code, _, body = status(f"{server.url}app.js")
    assert (code, body) == (200, (PAGE / "app.js").read_bytes())


# What the page asks


def asked(server, told, **headers):
    """The status and the answer of an ask, as a browser sends it."""
    sent = {"Content-Type": "application/json", "Sec-Fetch-Site": "same-origin", **headers}
    code, _, body = status(f"{server.url}ask", json.dumps(told).encode(), sent)
    return code, json.loads(body)


@pytest.mark.parametrize(
    "told",
    [
        {"task": "fit", "model": "qwen3-0.6b", "workload": {"gpu": "3060"}, "view": {"lang": "zh"}},
        {"task": "load", "model": "7B", "workload": {"gpu": "4090"}, "view": {"parts": True}},
        {"task": "load", "model": "no-such-name"},
    ],
)
def test_the_page_has_the_answer_of_every_other_page(server, told):
    assert asked(server, told) == (200, AskDesk(ours=False, offline=True).answer(json.dumps(told)))


def test_a_token_of_the_page_is_nowhere_afterwards(server):
    told = {"task": "load", "model": "org/gated"}
    assert asked(server, told)[1]["error"]["code"] == 3
    code, found = asked(server, {**told, "token": WRITER})
    assert (code, found["report"]["model"]["name"]) == (200, "org/gated")
    assert asked(server, told)[1]["error"]["code"] == 3
    assert WRITER not in json.dumps(found) and WRITER not in server.log
    kept = [path for path in server.home.rglob("*") if path.is_file()]
    assert not [path for path in kept if WRITER.encode() in path.read_bytes()]


def test_another_page_asks_nothing(server):
    told = {"task": "load", "model": "7B"}
    assert asked(server, told, **{"Sec-Fetch-Site": "cross-site"})[0] == 403
    assert asked(server, told, **{"Content-Type": "text/plain"})[0] == 415


def test_a_post_is_previewed_first_and_needs_a_token(server, hub):
    hub.discussions.pop("org/tiny", None)
    of = {"task": "load", "model": "org/tiny"}
    draft = asked(server, {"task": "draft", "of": of})[1]["draft"]
    assert draft["repo_id"] == "org/tiny"
    for told in ({"draft": draft}, {"token": WRITER}, {"draft": {"text": "x"}, "token": WRITER}):
        assert "error" in asked(server, {"task": "post", **told})[1]
    assert "org/tiny" not in hub.discussions
    sent = {"task": "post", "draft": draft, "token": WRITER}
    url = f"{hub.endpoint}/org/tiny/discussions/1"
    assert asked(server, sent)[1] == {"posted": {"url": url, "already": False}}
    assert asked(server, sent)[1] == {"posted": {"url": url, "already": True}}
    assert len(hub.discussions["org/tiny"]) == 1
    assert WRITER not in server.log


def test_rates(server):
    """A client of its own asks: /24 of loopback addresses are all this machine."""
    codes = []
    for _ in range(75):
        line = http.client.HTTPConnection(
            server.url.split("/")[2], timeout=60, source_address=("127.0.0.9", 0)
        )
        body = json.dumps({"data": [{"model": "x/../y"}]})
        line.request("POST", "/gradio_api/cancel-none", body)  # a door that is shut: not counted
        line.getresponse().read()
        line.request("POST", "/gradio_api/run/none", body, {"Content-Type": "application/json"})
        codes.append(line.getresponse().status)
        line.close()
    assert 429 not in codes[:60] and 429 in codes
