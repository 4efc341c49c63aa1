"""Real files beside a script that saves, whole traces: they are as before, and nothing hollow stays."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.torch.test_trace_cli import trace  # noqa: F401  a fixture
from tests.trace.keeping import folder_of, has_filter, seen

torch = pytest.importorskip("torch")

KERNEL = has_filter()
TIMEOUT = 120
NET = """
import json, multiprocessing, os, pickle, shutil, socket, subprocess, sys, threading, time
import torch
net = torch.nn.Linear(64, 64).cuda()
net(torch.randn(8, 64, device="cuda")).sum().backward()
state = net.state_dict()
"""
SAVES = """
torch.save(state, "best.tmp")
os.replace("best.tmp", "best.pt")
assert torch.load("best.pt")["weight"].shape == (64, 64)
torch.save(state, "ckpt-2000.pt")
os.remove("ckpt-1000.pt")
assert not os.path.exists("ckpt-1000.pt")
os.makedirs("checkpoint-600")
torch.save(state, "checkpoint-600/model.bin")
json.dump({}, open("checkpoint-600/trainer_state.json", "w"))
shutil.rmtree("checkpoint-500")
assert sorted(n for n in os.listdir() if n.startswith("ch")) == ["checkpoint-600"]
with open("twin", "wb") as file:
    torch.save(state, file)
shutil.copyfile("ckpt-2000.pt", "a.txt")
os.makedirs("out/kept")
shutil.copy("ckpt-2000.pt", "out/kept/copied.pt")
open("out/metrics.json", "w").write("{}")
subprocess.run("rm latest; echo x > db.sqlite", shell=True)
"""


def traced(work, text, *options, **more):
    (work / "script.py").write_text(NET + text)
    return subprocess.Popen(
        [sys.executable, "-m", "weighbridge", "trace", "--gpu", "t4", *options, "script.py"],
        cwd=work,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "XDG_CACHE_HOME": str(work.parent / "cache")},
        **more,
    )


def ended(running):
    with running:
        return *running.communicate(timeout=TIMEOUT), running.returncode


@pytest.fixture
def work(tmp_path):
    return folder_of(tmp_path)


def as_before(before, work, new=()):
    after = {name: what for name, what in seen(work).items() if name != "script.py"}
    assert {name: after.get(name) for name in before} == before
    assert set(after) - set(before) == set(new)


@pytest.mark.skipif(not KERNEL, reason="no other program is started without the filter")
def test_a_script_that_saves_and_rotates(work):
    before = seen(work)
    out, err, code = ended(traced(work, SAVES, "--json"))
    assert code == 0, err
    as_before(before, work, {"out", "out/kept", "out/metrics.json"})
    told = " ".join(json.loads(out)["warnings"])
    assert "the script wrote out/metrics.json" in told
    assert "as before, though the script changed, removed or renamed it" in told


@pytest.mark.parametrize("who", ["started", "script"])
@pytest.mark.skipif(not KERNEL, reason="nobody is there to put back what a killed process moved")
def test_a_trace_that_is_killed(work, who):
    before = seen(work)
    text = SAVES + "print(os.getpid(), flush=True)\ntime.sleep(60)\n"
    running = traced(work, text)
    process = int(running.stdout.readline())
    os.kill(running.pid if who == "started" else process, signal.SIGKILL)
    ended(running)
    while os.path.exists(f"/proc/{process}"):
        time.sleep(0.01)
    as_before(before, work, {"out", "out/kept", "out/metrics.json"})
    assert not list((work.parent / "cache/weighbridge").glob("*kept*"))


@pytest.mark.slow
@pytest.mark.skipif(not KERNEL, reason="no other program is started without the filter")
def test_nobody_outlives_a_limit_of_time(work):
    before = seen(work)
    text = "for _ in range(30): subprocess.Popen('sleep 400; rm best.pt', shell=True, start_new_session=True)\n"
    out, _, code = ended(
        traced(work, SAVES + text + "time.sleep(60)", "--time-limit", "8", "--json")
    )
    assert (json.loads(out)["program"]["ending"], code) == ("time is up", 124)
    as_before(before, work, {"out", "out/kept", "out/metrics.json"})
    assert subprocess.run(["pgrep", "-f", "sleep 400; rm best.p[t]"], check=False).returncode


ENDS = [
    ("os.execv('/bin/true', ['true'])", 1, "goes on as /bin/true"),
    ("import posix; posix._exit(0)", 0, "exit"),
    ("threading.Thread(target=os._exit, args=[0]).start(); time.sleep(30)", 0, "exit"),
    (
        "if not os.fork(): sys.exit(4)\nassert os.waitstatus_to_exitcode(os.wait()[1]) == 4",
        0,
        "finished",
    ),
    ("if not os.fork(): 1 / 0\nos.wait()", 0, "finished"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("text", "status", "how"), ENDS)
def test_there_is_one_report(work, text, status, how):
    out, err, code = ended(traced(work, text, "--json"))
    program = json.loads(out)["program"]
    assert (code, how in f"{program['ending']} {program['error']}") == (status, True), (
        err,
        program,
    )


@pytest.mark.filterwarnings("ignore:tensors are not written")
def test_a_gpu_in_a_notebook_harms_nothing_either(work, monkeypatch):
    """From Python, in this process."""
    from weighbridge import FakeGPU

    before = seen(work)
    monkeypatch.chdir(work)
    with FakeGPU("t4"):
        torch.save({"a": torch.ones(3, device="cuda")}, "best.tmp")
        os.replace("best.tmp", "best.pt")
        os.remove("ckpt-1000.pt")
        assert torch.load("best.pt")["a"].shape == (3,)
    as_before(before, work)


ASKS = """
import _socket, socket
from weighbridge_lab.trace.patches.outside import NoNetworkError
far, udp, tcp = ("127.0.0.2", 9), socket.socket(type=socket.SOCK_DGRAM), _socket.socket()
for ask in (
    lambda: tcp.connect(far),
    lambda: tcp.connect_ex(far),
    lambda: socket.create_connection(far),
    lambda: udp.sendto(b"x", far),
    lambda: udp.sendmsg([b"x"], [], 0, far),
    lambda: socket.gethostbyname("example.com"),
    lambda: socket.getaddrinfo("example.com", 80),
):
    try:
        ask()
    except NoNetworkError:
        continue
    print("asked")
with socket.create_server(("127.0.0.1", 0)) as server:
    socket.create_connection(server.getsockname()).close()
print("here")
udp.close()
tcp.close()
"""


def test_no_socket_of_python_s_asks_another_machine(trace):  # noqa: F811
    out = trace(ASKS).stdout
    assert "here" in out and "asked" not in out


def test_shared_memory_counts_to_what_a_script_may_have(trace):  # noqa: F811
    done = trace("import mmap\nmmap.mmap(-1, 1 << 40)\n", options=["--host-memory", "900GiB"])
    assert "give it more (--host-memory)" in " ".join(done.stdout.split())
