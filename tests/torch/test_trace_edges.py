"""Ends and edges of a traced script: how it leaves, what stays behind, what cannot be meant."""

import json
import os
import signal
import subprocess
import sys

import pytest

from tests.torch.test_trace_cli import process, report, trace  # noqa: F401  fixtures

torch = pytest.importorskip("torch")

STEP = """
    import os, sys, time, torch
    net = torch.nn.Linear(4096, 4096).cuda()
    net(torch.randn(64, 4096, device="cuda")).sum().backward()
"""


def shown(done):
    return " ".join((done.stdout + done.stderr).split())


@pytest.mark.parametrize(("status", "fits"), [(0, "yes"), (3, "unknown")])
def test_a_script_that_leaves_without_a_word_is_reported(trace, status, fits):  # noqa: F811
    found = report(trace(STEP + f"    os._exit({status})", options=["--gpu", "t4", "--json"]))
    assert (found["program"]["exit_code"], found["verdict"]["fits"]) == (status, fits)


def test_a_process_that_it_starts_leaves_as_ever(trace):  # noqa: F811
    text = (
        STEP
        + """
    child = os.fork()
    if not child:
        os._exit(7)
    print("child", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    )
    assert "child 7" in trace(text).stdout


def test_a_peak_alone_says_where_its_course_is_no_whole_one(trace):  # noqa: F811
    done = trace(STEP + "    raise ValueError('no data')", options=["--gpu", "t4", "-q"])
    assert done.returncode == 1 and done.stdout.strip().isdecimal()
    assert "warning: it crashed at script.py:5 (ValueError: no data)" in done.stderr
    whole = trace(STEP, options=["--gpu", "t4", "-q"])
    assert whole.returncode == 0 and "crashed" not in whole.stderr
    unused = trace("print(1)", options=["--gpu", "t4", "-q"])
    assert "put nothing on the card" in unused.stderr


RANKS = """
    import os, torch, torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel
    dist.init_process_group("nccl")
    here = torch.device({device})
    net = DistributedDataParallel(torch.nn.Linear(8192, 8192).to(here))
    for _ in range(10):
        net(torch.randn(8, 8192, device=here)).sum().backward()
"""


@pytest.mark.parametrize(
    ("device", "processes"),
    [
        ("'cuda'", 8),
        ("'cuda', dist.get_rank()", 1),
        ("f'cuda:{os.environ[\"LOCAL_RANK\"]}'", 1),
    ],
)
def test_processes_on_one_card_are_judged_by_their_sum(process, device, processes):  # noqa: F811
    """The second process is asked which card it takes, where the script does not say."""
    options = ["--gpu", "4090", "--world-size", "8", "--json"]
    done = process(RANKS.replace("{device}", device), options=options)
    found = json.loads(done.stdout)
    (card,) = found["devices"]
    each = card["reserved"]["reserved"]
    assert card["processes"] == processes
    assert processes * each < card["driver"]["high"] < processes * (each + 2**30)
    assert found["verdict"]["fits"] == "yes"
    assert ("all 8 processes" in " ".join(found["warnings"])) is (processes > 1)


def test_eight_that_fit_one_by_one_do_not_together(process):  # noqa: F811
    options = ["--gpu", "4060:8", "--world-size", "8"]
    done = process(RANKS.replace("{device}", "'cuda'"), options=options)
    assert "✗ does not fit" in done.stdout
    assert "the sum of 8 processes that all use this card" in done.stdout


REFUSED = [
    (["--gpu", "4060:2"], "torchrun --nproc-per-node 8 script.py", "8 processes on a machine of 2"),
    (["--gpu", "2x4060"], "torchrun --nproc-per-node 8 script.py", "--gpu 4060:8 has a card"),
    (["--stub", "apex,torch"], "script.py", "--stub torch: it is what a trace itself is made of"),
    (["--stub", "json"], "script.py", "--stub json: it is what"),
    (["--host-memory", "1MiB"], "script.py", "--host-memory: the trace has"),
    ([], "gpt2", "gpt2: trace runs a Python file"),
    ([], "config.json", "weighbridge infer config.json"),
    ([], "nowhere.py", "no such script"),
]


@pytest.mark.parametrize(("options", "line", "words"), REFUSED)
def test_what_cannot_be_meant_is_one_line(trace, tmp_path, options, line, words):  # noqa: F811
    (tmp_path / "config.json").write_text("{}")
    target, *rest = line.split()
    done = trace(STEP, *rest, target=target, options=options)
    assert done.returncode == 2 and words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.filterwarnings("default")
def test_a_card_for_each_process_is_enough(trace):  # noqa: F811
    words = ["--nproc-per-node", "2", "script.py"]
    assert trace(STEP, *words, target="torchrun", options=["--gpu", "4060:2"]).returncode == 0


def test_the_host_s_memory_that_ran_out_is_told(trace):  # noqa: F811
    text = "import torch\nraise MemoryError\n"
    assert "give it more (--host-memory)" in shown(trace(text, options=["--gpu", "t4"]))


SAVES = (
    STEP
    + """
    torch.save(net.state_dict(), "model.pt")
    print("saved", flush=True)
    time.sleep(60)
"""
)


def _ended_by(number, folder, send=os.kill):
    (folder / "script.py").write_text("\n".join(line[4:] for line in SAVES.splitlines()))
    command = [sys.executable, "-m", "weighbridge", "trace", "--gpu", "t4", "script.py"]
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
    with subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    ) as running:
        assert running.stdout.readline() == "saved\n"
        send(running.pid, number)
        return running.stdout.read()


@pytest.mark.slow
@pytest.mark.parametrize("send", [os.kill, os.killpg])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_batch_system_s_end_is_reported(tmp_path, number, send):
    """Sent to the process that was started, or to all of its group."""
    assert "it was interrupted at script.py:8" in _ended_by(number, tmp_path, send)
    assert not (tmp_path / "model.pt").exists()


@pytest.mark.slow
def test_a_killed_trace_leaves_nothing(tmp_path):
    (tmp_path / "real.pt").write_bytes(b"real")
    _ended_by(signal.SIGKILL, tmp_path)
    assert not (tmp_path / "model.pt").exists() and (tmp_path / "real.pt").exists()
    assert not list((tmp_path / "cache" / "weighbridge").glob("marks-*"))


@pytest.mark.filterwarnings("default")
def test_a_notebook_s_files_are_there_for_its_later_cells(trace, tmp_path):  # noqa: F811
    first = ["%%writefile tiny_net.py\n", "import torch\n", "class Net(torch.nn.Linear): pass\n"]
    more = ["%%writefile -a tiny_net.py\n", "WIDTH = 4096"]
    last = ["from tiny_net import Net, WIDTH\n", "net = Net(WIDTH, WIDTH).cuda()"]
    cells = [{"cell_type": "code", "source": text} for text in (first, more, last)]
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "n.ipynb").write_text(json.dumps({"cells": cells, "nbformat": 4}, indent=1))
    found = report(trace("", target="sub/n.ipynb", options=["--json"]))
    assert found["program"]["ending"] == "finished", found["program"]
    assert (tmp_path / "tiny_net.py").read_text().splitlines()[2] == "WIDTH = 4096"
    assert found["devices"][0]["allocated"]["roles"]["weight"] == 4 * (4096 * 4096 + 4096)


def test_a_repository_as_json_and_as_lines(trace, tmp_path):  # noqa: F811
    (tmp_path / "README.md").write_text("    python script.py --x 1\n")
    done = trace("import nowhere_to_be_had", target=".", options=["--json"])
    found = json.loads(done.stdout)
    assert found["schema"] == "weighbridge.trace-repository/1" and done.returncode == 0
    (start,) = found["starts"]
    assert start["place"] == "README.md:1" and start["packages"] == ["nowhere_to_be_had"]
    quiet = trace("import nowhere_to_be_had", target=".", options=["-q"])
    assert quiet.stdout == f"{start['trace']}\n"


def test_a_chinese_report_has_no_english_sentence(trace):  # noqa: F811
    """Roles, phases, operations and names are values."""
    shown = trace(STEP, options=["--gpu", "t4", "--lang", "zh"]).stdout
    for line in ("已追踪 script.py", "次后运行到结束", "峰值", "阶段", "其中最大的张量"):
        assert line in shown
    for line in ("traced ", "it ran to its end", "peaks ", "its largest tensors", "peak in the"):
        assert line not in shown
    assert "峰值出现在反向传播阶段" in shown
    died = trace(STEP + "    raise ValueError('x')", options=["--gpu", "t4", "--lang", "zh"]).stdout
    assert "因 ValueError: x 终止" in died
