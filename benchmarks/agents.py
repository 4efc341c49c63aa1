"""`weighbridge mcp` as a client meets it: how long until it is there and until it answers, and how
many characters there are to read.

The client is a dozen lines that speak the protocol, so that the SDK's own client is not timed.
"""

import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from benchmarks.bench import Bench
from benchmarks.measure import Turn, cpu, side_by_side, verdict

NAME = "weighbridge mcp"
CLIENT = """
import json, subprocess, sys, time
begin = time.perf_counter()
server = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
found = {}
def ask(what, method, params):
    line = {"jsonrpc": "2.0", "id": what, "method": method, "params": params}
    asked = time.perf_counter()
    server.stdin.write(json.dumps(line) + "\\n")
    server.stdin.flush()
    text = server.stdout.readline()
    assert "result" in json.loads(text), text
    found[what] = [time.perf_counter() - asked, len(text)]
client = {"name": "benchmark", "version": "1"}
version = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client}
ask("handshake", "initialize", version)
found["handshake"][0] = time.perf_counter() - begin
server.stdin.write(json.dumps({"jsonrpc": "2.0", "method": "notifications/initialized"}) + "\\n")
ask("tools", "tools/list", {})
serving = {"model": "llama-3.1-8b", "engine": "vllm", "gpu": "4090"}
for what, context in (("first answer", 8192), ("second answer", 16384)):
    given = {"name": "infer", "arguments": {**serving, "context": context}}
    ask(what, "tools/call", given)
server.stdin.close()
assert server.wait() == 0
print(json.dumps(found))
"""
STEPS = ("handshake", "tools", "first answer", "second answer")
TOKEN = 3.6  # characters: JSON and figures have fewer to a token than prose (assumed)


def run(bench: Bench) -> Iterator[str]:
    if find_spec("mcp") is None:
        yield "not installed: mcp"
        return
    script = Path(bench.weighbridge(NAME).argv[0])
    asked = [bench.python(NAME, CLIENT, str(script), "mcp", "--offline")]
    turns = side_by_side(asked, bench.rounds)[NAME]
    yield "| step | ms | characters |"
    yield "| --- | ---: | ---: |"
    for step in STEPS:
        yield f"| {step} | {1000 * _median(turns, step, 0):.0f} | {_median(turns, step, 1):,.0f} |"
    yield ""
    yield verdict("handshake, s", _median(turns, "handshake", 0), 2)
    yield verdict("a session of two answers, CPU s", cpu(turns), 2)
    yield verdict("second answer, ms", 1000 * _median(turns, "second answer", 0), 50)
    yield verdict("schemas, tokens", _median(turns, "tools", 1) / TOKEN, 12_000)


def _median(turns: list[Turn], step: str, place: int) -> float:
    return median(json.loads(turn.output)[step][place] for turn in turns)
