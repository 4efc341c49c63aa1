"""`weighbridge mcp` as clients use it: a process, the official client, one session."""

import asyncio
import json
import os
import signal
import subprocess
import sys

import pytest

from tests.hub import Hub
from tests.sparse import write_repo
from weighbridge.faces.agents.answering import Answers
from weighbridge.faces.agents.tools import tools
from weighbridge.models.arch.builder import blueprint
from weighbridge.models.arch.config import Config

mcp = pytest.importorskip("mcp", reason="the SDK of the protocol is an extra: test-agents")
jsonschema = pytest.importorskip("jsonschema", reason="it is in the extra test-agents")

SERVER = [sys.executable, "-m", "weighbridge", "mcp", "--offline"]
NAMES = [tool.name for tool in tools()]
HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}
READY = {"jsonrpc": "2.0", "method": "notifications/initialized"}
BAD_MODEL = "\x1b[2J<script>" + "x" * 5_000


def session(ask, *options, errors=None, env=None):
    """What `ask` finds in one session with the server. With `env` it is not offline."""
    command = SERVER if env is None else SERVER[:-1]

    async def run():
        parameters = mcp.StdioServerParameters(
            command=command[0], args=[*command[1:], *options], env=env
        )
        with open(errors or os.devnull, "w") as log:
            async with (
                mcp.stdio_client(parameters, errlog=log) as (read, write),
                mcp.ClientSession(read, write) as client,
            ):
                await client.initialize()
                return await ask(client)

    return asyncio.run(asyncio.wait_for(run(), 60))


def wire(result):
    """A result as the protocol sends it: the SDK's generations name fields differently."""
    return result.model_dump(by_alias=True, mode="json", exclude_none=True)


def called(*asks, **where):
    async def ask(client):
        return [wire(await client.call_tool(name, given)) for name, given in asks]

    return session(ask, **where)


@pytest.fixture(scope="module")
def listed():
    async def ask(client):
        return wire(await client.list_tools())["tools"]

    return session(ask)


def test_the_tools_are_those_and_their_schemas_are_valid(listed):
    assert [tool["name"] for tool in listed] == NAMES
    for tool, own in zip(listed, tools(), strict=True):
        jsonschema.Draft202012Validator.check_schema(tool["inputSchema"])
        assert tool["inputSchema"] == own.schema
        assert tool["description"] == own.description


def test_the_tools_say_that_they_change_nothing(listed):
    for tool in listed:
        hints = tool["annotations"]
        assert hints["readOnlyHint"] is True
        assert hints["idempotentHint"] is True
        assert hints["destructiveHint"] is False
    reading = {tool["name"] for tool in listed if tool["annotations"]["openWorldHint"]}
    assert reading == {"weigh", "fit", "infer", "train", "load"}


def test_twenty_asks_in_one_session_have_the_answers_of_the_report(tmp_path):
    asks = [
        ("infer", {"model": model, "engine": engine, "gpu": gpu, "context": 8192})
        for model in ("llama-3.1-8b", "qwen3-0.6b")
        for engine in ("transformers", "vllm", "sglang")
        for gpu in ("4090", "h100")
    ]
    asks += [("load", {"model": m}) for m in ("llama-3.1-8b", "deepseek-v3", "gpt2")]
    asks += [("train", {"model": "qwen3-0.6b", "method": "lora", "lora_r": r}) for r in (8, 64)]
    asks += [("gpus", {"pattern": "4090"}), ("models", {"pattern": "qwen3"})]
    asks += [("fit", {"model": "qwen3-0.6b", "gpu": "4090"})]
    assert len(asks) == 20
    log = tmp_path / "stderr"
    here = Answers(offline=True)
    for (name, given), found in zip(asks, called(*asks, errors=log), strict=True):
        own = here.call(name, given)
        assert not found["isError"], found
        assert found["structuredContent"] == own.numbers
        assert found["content"] == [{"type": "text", "text": own.text}]
        assert len(own.text) < 4_000
    assert log.read_text() == ""


def test_what_is_wrong_is_an_error_to_read_and_the_session_goes_on(tmp_path):
    wrong = [
        ("infer", {"model": "llama-3.1-8b", "contxt": 1}, "did you mean context or controlnet?"),
        ("infer", {}, "name a model"),
        ("load", {"model": BAD_MODEL}, "..."),
        ("magic", {}, "no tool 'magic'"),
        ("train", {"model": "llama-3.1-8b", "lora_r": -1}, "--lora-r is at least 1"),
        ("load", {"model": "org/gated"}, "offline"),
    ]
    log = tmp_path / "stderr"
    right = ("load", {"model": "gpt2"})
    *found, last = called(*[(name, given) for name, given, _ in wrong], right, errors=log)
    for (_, _, told), result in zip(wrong, found, strict=True):
        text = result["content"][0]["text"]
        assert result["isError"]
        assert "structuredContent" not in result
        assert text.startswith("error: ")
        assert told in text
        assert "\n" not in text
        assert "\x1b" not in text
        assert len(text) < 400
    assert not last["isError"]
    assert log.read_text() == ""


CONFIG = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "vocab_size": 1000,
    "_name_or_path": BAD_MODEL,
    "torch_dtype": "bfloat16",
}
TOKEN = "hf_" + "aB3" * 12


@pytest.mark.parametrize("given", [TOKEN, "hf_" + "zZ9" * 12])
def test_a_gated_repository_is_read_with_the_token_which_stands_nowhere(tmp_path, given):
    root, log = tmp_path / "repos", tmp_path / "stderr"
    root.mkdir()
    with Hub(root) as hub:
        write_repo(root / "org/name", CONFIG, blueprint(Config(CONFIG)))
        hub.gated = {"org/name": (TOKEN,)}
        env = {"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": given, "HF_HOME": str(tmp_path / "home")}
        asks = [("load", {"model": "org/name"}), ("load", {"model": "org/name", "detail": "full"})]
        found = called(*asks, env=env, errors=log)
        assert {r.token for r in hub.requests} <= {given, None}  # weights' host gets none
        listings = [r for r in hub.requests if "/api/models/" in r.path]
    told = json.dumps(found)
    assert given not in told + log.read_text()
    for result in found:
        assert result["isError"] is (given != TOKEN)
        assert "\x1b" not in result["content"][0]["text"]
    if given == TOKEN:
        assert found[0]["structuredContent"]["parameters"] > 0
        assert len(listings) == 1  # the second question does not ask the Hub again
    else:
        assert "gated" in found[0]["content"][0]["text"]


def test_tools_that_are_not_offered_are_not_there():
    async def ask(client):
        names = [tool["name"] for tool in wire(await client.list_tools())["tools"]]
        return names, wire(await client.call_tool("load", {"model": "gpt2"}))

    names, refused = session(ask, "--tools", "fit,gpus")
    assert names == ["fit", "gpus"]
    assert refused["isError"]
    assert "known: fit, gpus" in refused["content"][0]["text"]


def started():
    return subprocess.Popen(
        SERVER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def greeted(server):
    """After the handshake."""
    server.stdin.write(json.dumps(HELLO) + "\n" + json.dumps(READY) + "\n")
    server.stdin.flush()
    return json.loads(server.stdout.readline())


def test_stdout_has_the_protocol_and_a_closed_pipe_ends_it():
    server = started()
    hello = greeted(server)
    assert hello["result"]["serverInfo"]["name"] == "weighbridge"
    assert "fit" in hello["result"]["instructions"]
    server.stdin.write("this is no JSON\n")
    asks = {"name": "load", "arguments": {"model": "gpt2"}}
    line = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": asks}
    server.stdin.write(json.dumps(line) + "\n")
    server.stdin.flush()
    answers = [json.loads(server.stdout.readline())]
    while answers[-1].get("id") != 2:  # what is no JSON may have an error of its own
        answers.append(json.loads(server.stdout.readline()))
    assert answers[-1]["result"]["isError"] is False
    out, err = server.communicate(timeout=60)  # closes stdin
    assert (out, err, server.returncode) == ("", "", 0)


def test_a_client_that_goes_while_it_waits_leaves_nothing_behind():
    server = started()
    greeted(server)
    asks = {"name": "models", "arguments": {"gpu": "4090"}}  # some seconds
    line = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": asks}
    server.stdin.write(json.dumps(line) + "\n")
    server.stdin.flush()
    server.stdout.close()
    server.stdin.close()
    assert server.wait(timeout=60) == 0
    assert server.stderr.read() == ""
    server.stderr.close()


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_ctrl_c_ends_it_quietly():
    server = started()
    greeted(server)
    server.send_signal(signal.SIGINT)
    out, err = server.communicate(timeout=60)
    assert (out, err, server.returncode) == ("", "", -signal.SIGINT)


def test_a_ping_is_answered_while_a_question_is():
    async def ask(client):
        slow = asyncio.ensure_future(client.call_tool("models", {"gpu": "4090"}))
        await asyncio.sleep(0)
        await client.send_ping()
        done = slow.done()
        slow.cancel()
        return done

    assert session(ask) is False
