"""The edition for Spaces as its users meet it: how long until it is there, until a program has an
answer over HTTP, and until a browser shows the first page; and how many bytes a browser fetches.

The browser is Chromium by Playwright, where both are here; the server is this machine's too.
"""

import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from benchmarks.bench import Bench
from benchmarks.measure import Turn, side_by_side, verdict

NAME = "weighbridge web --gradio"
CHROMIUM = "/usr/bin/chromium"
CLIENT = """
import json, os, re, subprocess, sys, time, urllib.request
begin = time.perf_counter()
server = subprocess.Popen(sys.argv[2:], stdout=subprocess.PIPE, text=True)
line = ""
while "weighbridge at" not in line:
    line = server.stdout.readline()
url = re.search(r"at (\\S+)", line)[1]
found = {"start": [time.perf_counter() - begin, 0]}
def ask(what, task, model, workload):
    body = json.dumps({"data": [{"model": model, "workload": workload}]}).encode()
    kind = {"Content-Type": "application/json"}
    asked = time.perf_counter()
    request = urllib.request.Request(f"{url}gradio_api/run/{task}", body, kind)
    text = urllib.request.urlopen(request, timeout=120).read()
    assert "error" not in json.loads(text)["data"][0], text[:300]
    found[what] = [time.perf_counter() - asked, len(text)]
serving = {"engine": "vllm", "gpu": "4090"}
ask("first answer", "infer", "llama-3.1-8b", serving)
ask("load", "load", "llama-3.1-70b", {"gpu": "h100"})
ask("infer", "infer", "llama-3.1-8b", {**serving, "context": 16384})
ask("train", "train", "llama-3.1-8b", {"method": "lora", "checkpointing": "full"})
def page(what, browser):
    tab = browser.new_page()
    size = []
    tab.on("requestfinished", lambda r: size.append(r.sizes()["responseBodySize"]))
    asked = time.perf_counter()
    tab.goto(f"{url}#task=infer&model=qwen3-8b&gpu=4090")
    tab.wait_for_selector(".headline", timeout=120000)
    found[what] = [time.perf_counter() - asked, sum(size)]
if os.path.exists(sys.argv[1]):
    from playwright.sync_api import sync_playwright
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=sys.argv[1], args=["--no-sandbox"])
        page("first page", browser)
        browser.close()
server.terminate()
server.wait()
print(json.dumps(found))
"""


def run(bench: Bench) -> Iterator[str]:
    absent = [name for name in ("gradio", "mcp") if find_spec(name) is None]
    if absent:
        yield f"not installed: {', '.join(absent)}"
        return
    script = Path(bench.weighbridge(NAME).argv[0])
    chromium = CHROMIUM if find_spec("playwright") else ""
    words = (chromium, str(script), "web", "--gradio", "--no-open", "--port", "0")
    turns = side_by_side([bench.python(NAME, CLIENT, *words)], min(bench.rounds, 5))[NAME]
    yield "| step | ms | bytes |"
    yield "| --- | ---: | ---: |"
    for step in json.loads(turns[0].output):
        yield f"| {step} | {1000 * _median(turns, step, 0):,.0f} | {_median(turns, step, 1):,.0f} |"
    yield ""
    yield verdict("warm infer, ms", 1000 * _median(turns, "infer", 0), 500)


def _median(turns: list[Turn], step: str, place: int) -> float:
    return median(json.loads(turn.output)[step][place] for turn in turns)
