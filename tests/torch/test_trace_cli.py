"""`weighbridge trace`: scripts as people write them, run by the program itself.

Published: a measuring script whose authors saw 204.03 MB after loading, 425.51 after a step of SGD
and 221.48 at inference (833.58 with Adam, by the article's own ratio) on a T4 with torch 2.5.
"""

import json
import os
import pickle
import re
import subprocess
import sys
from textwrap import dedent
from typing import NamedTuple

import pytest

from tests.cases import NIGHTLY, each
from tests.charts.pictures import flaws, texts
from weighbridge.faces.cli.menu import run

torch = pytest.importorskip("torch")

TIMEOUT = 300

MEASURE = """
    import gc, sys
    import torch
    from torch import nn, optim

    device = "cuda" if torch.cuda.is_available() else "cpu"
    widths = [784, 8192, 4096, 2048, 1024, 512, 10]

    def say(moment):
        torch.cuda.empty_cache()
        print(f"{moment} {torch.cuda.memory_allocated(device) / 1e6:.2f} MB")

    layers = [nn.Flatten()]
    for i, o in zip(widths, widths[1:]):
        layers += [nn.Linear(i, o), nn.ReLU()]
    model = nn.Sequential(*layers[:-1]).to(device)
    say("load")
    rule = optim.Adam if "adam" in sys.argv else optim.SGD
    optimizer = rule(model.parameters(), lr=0.001)
    criterion = nn.CrossEntropyLoss()
    images = torch.randn(128, 1, 28, 28).to(device)
    labels = torch.randint(0, 10, (128,)).to(device)
    optimizer.zero_grad()
    output = model(images)
    loss = criterion(output, labels)
    loss.backward()
    optimizer.step()
    say("train")
    del optimizer, criterion
    for p in model.parameters():
        p.grad = None
    gc.collect()
    model.eval()
    with torch.no_grad():
        images = torch.randn(128, 1, 28, 28).to(device)
        output = model(images)
        say("infer")
"""

TRAIN = """
    import argparse, torch
    from pathlib import Path
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    parser = argparse.ArgumentParser()
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--out", type=Path, default="model.pt")
    asked = parser.parse_args()

    if __name__ == "__main__":
        loader = DataLoader(
            TensorDataset(torch.randn(32, 8), torch.randint(0, 3, (32,))),
            batch_size=asked.batch_size, shuffle=True, num_workers=2, pin_memory=True,
        )
        model = nn.Sequential(nn.Linear(8, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 3)).cuda()
        optimizer = torch.optim.AdamW(model.parameters())
        scaler = torch.amp.GradScaler("cuda")
        best = float("inf")
        for x, y in loader:
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cuda", dtype=torch.float16):
                loss = nn.functional.cross_entropy(model(x.cuda()), y.cuda())
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            if loss.item() < best:
                best = loss.item()
                torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, asked.out)
        kept = torch.load(asked.out, map_location="cuda")
        model.load_state_dict(kept["model"])
        print("steps", len(loader), f"loss {loss:.3f}", kept["model"]["0.weight"].device)
"""

HALVE = """
    import torch
    model = torch.nn.Linear(4096, 65536).cuda()
    batch = 65536
    while True:
        try:
            model(torch.randn(batch, 4096, device="cuda")).sum().backward()
            break
        except torch.cuda.OutOfMemoryError:
            batch //= 2
            model.zero_grad()
            torch.cuda.empty_cache()
    print("batch", batch)
"""

DIE = """
    import torch
    def step():
        print("so far")
        layer = torch.nn.Linear(65536, 65536, device="cuda")
        torch.nn.Sequential(layer)(torch.ones(8, 65536, device="cuda"))
        print("went on")
    if __name__ == "__main__":
        step()
"""

TRAINER = """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

    class Random(torch.utils.data.Dataset):
        def __len__(self):
            return 8
        def __getitem__(self, i):
            ids = torch.randint(0, 128, (16,))
            return {"input_ids": ids, "labels": ids, "attention_mask": torch.ones_like(ids)}

    LlamaConfig(vocab_size=128, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                num_attention_heads=4, dtype="float32").save_pretrained("tiny")
    model = LlamaForCausalLM.from_pretrained("tiny")
    arguments = TrainingArguments("out", per_device_train_batch_size=2, max_steps=2, save_steps=1,
                                  logging_steps=1, report_to=[], bf16=True)
    trainer = Trainer(model, arguments, train_dataset=Random(), eval_dataset=Random())
    trainer.train()
    trainer.evaluate()
    print(trainer.state.global_step, model.device, torch.cuda.max_memory_allocated() > 0)
"""

DIFFUSION = """
    import torch
    from diffusers import DDPMScheduler, UNet2DModel
    config = dict(sample_size=8, layers_per_block=1, block_out_channels=(32, 32),
                  down_block_types=("DownBlock2D", "AttnDownBlock2D"),
                  up_block_types=("AttnUpBlock2D", "UpBlock2D"))
    UNet2DModel(**config).save_config("unet")
    model = UNet2DModel.from_pretrained("unet").to("cuda").train()
    scheduler = DDPMScheduler(num_train_timesteps=10)
    optimizer = torch.optim.AdamW(model.parameters())
    for _ in range(2):
        clean = torch.randn(2, 3, 8, 8, device="cuda")
        noise = torch.randn_like(clean)
        steps = torch.randint(0, 10, (2,), device="cuda")
        found = model(scheduler.add_noise(clean, noise, steps), steps).sample
        torch.nn.functional.mse_loss(found, noise).backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained("saved")
    print("done")
"""

LOADS = """
    import torch
    from safetensors import safe_open
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    kept = torch.load("kept.pt", map_location="cuda")
    print(kept["a"].shape, kept["a"].device, torch.cuda.memory_allocated())
    print(load_file("kept.safetensors", device="cuda")["a"].dtype)
    with safe_open("kept.safetensors", "pt") as f:
        print(f.get_slice("a")[:1].shape)
    model = AutoModelForCausalLM.from_pretrained("meta-llama/Llama-3.1-8B", dtype="bfloat16", device_map="cuda")
    print(model.num_parameters(), torch.cuda.memory_allocated())
    AutoModelForCausalLM.from_pretrained("nobody/nothing")
"""


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def trace(tmp_path, monkeypatch, capfd):
    """Runs `weighbridge trace` on a script's text, in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def traced(text, *arguments, options=(), target="script.py"):
        (tmp_path / "script.py").write_text(dedent(text))
        code = run(["trace", *options, target, *arguments])
        sys.stdout.flush()
        return Done(code, *capfd.readouterr())

    return traced


@pytest.fixture
def process(tmp_path):
    """The same, by a process that nothing was imported into."""

    def traced(text, *arguments, options=()):
        (tmp_path / "script.py").write_text(dedent(text))
        return subprocess.run(
            [sys.executable, "-m", "weighbridge", "trace", *options, "script.py", *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")},
            timeout=TIMEOUT,
        )

    return traced


def report(done):
    assert done.stdout.startswith("{"), done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(("rule", "train"), each(2, [("adam", "833.58"), ("sgd", "425.51")]))
def test_a_published_measuring_script_prints_what_its_authors_saw(process, rule, train):
    done = process(MEASURE, rule, options=["--gpu", "t4", "--torch-version", "2.5"])
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"load 204.03 MB\ntrain {train} MB\ninfer 221.48 MB\n")
    assert "on a fake Tesla T4" in done.stdout
    assert "by the rules of 2.5" in done.stdout
    assert "\n✓ fits " in done.stdout


def test_three_bars_of_a_published_measuring_script(trace, tmp_path):
    options = ["--gpu", "t4", "--torch-version", "2.5", "--chart", "t.svg", "--chart-of", "tasks"]
    assert trace(MEASURE, "sgd", options=options).returncode == 0
    chart = (tmp_path / "t.svg").read_text()
    assert "tensors, load : train : infer: 1 : 2.1 : 1.12" in chart
    for size in ("195.0 MiB", "409.8 MiB", "219.2 MiB"):
        assert size in chart


def test_a_timeline_is_drawn_whole(trace, tmp_path):
    script = "import torch\nx = torch.ones(1 << 20, device='cuda')\ny = (x * 2).sum()\n"
    done = trace(script, options=["--gpu", "t4", "-q", "--chart", "t.svg"])
    assert done.returncode == 0, done.stderr
    picture = (tmp_path / "t.svg").read_text()
    assert list(flaws(picture)) == []
    assert any(text.startswith("Peak 8.0 MiB") for text in texts(picture))


def test_peaks_add_up_and_the_files_agree(trace, tmp_path):
    files = ["--timeline", "memory.html", "--snapshot", "memory.pickle"]
    done = trace(MEASURE, "sgd", options=["--gpu", "t4", "--json", *files])
    found = report(done)
    assert "load 204.03 MB" in done.stderr, "the script's stdout gives way to the report"
    assert found["schema"] == "weighbridge.trace/1"
    device = found["devices"][0]
    for level in ("allocated", "reserved"):
        moment = device[level]
        assert sum(moment["roles"].values()) == moment["allocated"]
        tensors = sum(t["nbytes"] for t in moment["tensors"])
        assert tensors + moment["roles"].get("rounding", 0) == moment["allocated"]
        assert device[level][level] == max(p[level] for p in device["phases"])
    assert device["allocated"]["allocated"] < device["driver"]["low"]
    assert device["driver"]["expected"] > device["reserved"]["reserved"]
    assert [p["name"] for p in device["phases"]][:4] == ["load", "forward", "loss", "backward"]

    page = (tmp_path / "memory.html").read_text()
    assert not re.search(r"(src|href)=|https?://(?!www\.w3\.org)", page), "self-contained"
    data = json.loads(re.search(r'id="data">(.*?)</script>', page)[1])
    drawn = data["devices"][0]
    assert max(drawn["allocated"]) == device["allocated"]["allocated"]
    assert max(drawn["reserved"]) == device["reserved"]["reserved"]
    for column, allocated in enumerate(drawn["allocated"]):
        assert sum(values[column] for values in drawn["roles"].values()) == allocated

    history = pickle.loads((tmp_path / "memory.pickle").read_bytes())
    asked = [e for e in history["device_traces"][0] if e["action"] == "alloc"]
    assert len(asked) == device["allocations"]
    frames = [f for e in asked for f in e["frames"] if f["line"]]
    assert ("script.py", 16) in {(f["name"], f["line"]) for f in frames}, "the line of .to(device)"
    assert all(f["filename"].endswith(f["name"]) for f in frames)
    weights = sum(e["size"] for e in asked if e.get("category") == "weight")
    assert weights == 4 * 51_008_010  # the perceptron's parameters in float32


@pytest.mark.filterwarnings("default")
def test_a_training_script_runs_and_writes_no_tensors(trace, tmp_path):
    asked = ("--batch-size", "8", "--out", "best.pt")
    done = trace(TRAIN, *asked, options=["--gpu", "4090", "--json"])
    assert done.returncode == 0, done.stderr
    assert "steps 4 loss 0.000 cuda:0\n" in done.stderr
    assert not (tmp_path / "best.pt").exists()
    looks, written = report(done)["warnings"]
    assert "looks at values" in looks
    assert "tensors are not written" in written


def test_a_script_may_catch_out_of_memory_and_go_on(trace):
    found = report(trace(HALVE, options=["--gpu", "t4", "--json"]))
    assert found["program"]["ending"] == "finished"
    assert found["program"]["exit_code"] == 0
    refusals = found["devices"][0]["refusals"]
    assert refusals[0]["requested"] == 65536 * 65536 * 4
    assert all(r["message"].startswith("CUDA out of memory. Tried to allocate") for r in refusals)
    assert found["verdict"]["fits"] == "yes"
    assert f"{len(refusals)} requests that did not fit" in found["verdict"]["reason"]


@pytest.mark.filterwarnings("default")
def test_out_of_memory_goes_on_as_on_a_larger_card(trace, tmp_path):
    """Nobody catches it: so the rest of the run says what it takes."""
    done = trace(DIE, options=["--gpu", "t4", "--timeline", "t.json", "--chart", "t.svg"])
    assert done.returncode == 1
    assert done.stdout.startswith("so far\nwent on\n")
    assert "✗ does not fit" in done.stdout and "needs about 16.2 GiB" in done.stdout
    assert "out of memory at script.py:5; from there it ran as if" in done.stdout
    assert "refused   16.00 GiB in load (aten.empty.memory_format) at script.py:5" in done.stdout
    drawn = json.loads((tmp_path / "t.json").read_text())
    (refused,) = drawn["devices"][0]["refused"]
    assert (refused["requested"], refused["place"]) == (65536 * 65536 * 4, "script.py:5")
    assert max(drawn["devices"][0]["allocated"]) > drawn["memory"]
    chart = (tmp_path / "t.svg").read_text()
    assert (
        "Out of memory: 16.0 GiB more, at script.py:5" in chart and "the card has 14.7 GiB" in chart
    )


CAUGHT = """
    import torch
    try:
        torch.nn.Linear(65536, 65536, device="cuda")
    except RuntimeError as error:
        raise_again = "memory" in str(error)
    if raise_again:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. As before")
"""


def test_out_of_memory_that_a_script_handles_is_its_own(trace):
    """It may do something else then; where it dies of it, no more is known."""
    found = report(trace(CAUGHT, options=["--gpu", "t4", "--json"]))
    assert found["program"]["ending"] == "out of memory" and found["program"]["went_on"] is None
    assert found["program"]["place"] == "script.py:8"
    assert found["verdict"]["fits"] == "no" and found["verdict"]["margin_bytes"] < 0


NOTHING = """
    import torch
    torch.nn.Linear(8, 8)(torch.randn(2, 8))
"""


def test_a_run_that_never_used_the_card_does_not_fit_it(trace):
    done = trace(NOTHING, options=["--gpu", "t4"])
    assert done.returncode == 0
    assert "? cannot say" in done.stdout and "✓" not in done.stdout
    assert "the script put nothing on the card" in done.stdout


@pytest.mark.parametrize(
    ("last", "code", "ending"),
    [
        ("raise ValueError('no data')", 1, "exception"),
        ("raise KeyboardInterrupt", 130, "interrupted"),
        ("raise SystemExit(3)", 3, "exit"),
    ],
)
def test_a_course_that_did_not_end_is_not_said_to_fit(trace, last, code, ending):
    """What was recorded up to there is whole."""
    step = "import torch\nm = torch.nn.Linear(512, 1024).cuda()\nm.weight.sum().backward()\n"
    done = trace(step + last, options=["--gpu", "t4", "--json"])
    found = report(done)
    assert done.returncode == code
    assert (found["program"]["ending"], found["program"]["place"]) == (ending, "script.py:4")
    assert found["verdict"]["fits"] == "unknown"
    assert "the course did not end" in found["verdict"]["reason"]
    assert "at script.py:4" in found["verdict"]["reason"]
    tensors = found["devices"][0]["allocated"]["tensors"]
    assert {"script.py:2", "script.py:3"} <= {t["line"] for t in tensors}


def test_without_a_card_memory_has_no_end(trace):
    found = report(trace(DIE, options=["--json"]))
    assert found["verdict"] is None
    assert found["devices"][0]["allocated"]["allocated"] > 16 << 30


def test_one_function_runs_alone(trace):
    done = trace(DIE, options=["-q"], target="script.py:step")
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 16 << 30
    missing = trace(DIE, target="script.py:nowhere")
    assert missing.returncode == 2
    assert missing.stderr == "error: script.py does not define 'nowhere'; it defines step\n"


@pytest.mark.parametrize(
    ("text", "code", "told"),
    [
        ("import sys; print(__name__, sys.argv, sys.path[0] == __import__('os').getcwd())", 0, ""),
        ("raise SystemExit(7)", 7, ""),
        ("import sys; sys.exit('no data')", 1, "no data"),
        ("1 / 0", 1, "ZeroDivisionError: division by zero"),
        ("def f(:", 1, "SyntaxError"),
        ("raise KeyboardInterrupt", 130, "KeyboardInterrupt"),
        ("import pickle\nclass A: pass\nassert type(pickle.loads(pickle.dumps(A()))) is A", 0, ""),
    ],
)
def test_a_script_ends_as_under_python(trace, text, code, told):
    done = trace(text, "-x", "--json")
    assert done.returncode == code, done.stderr
    assert told in done.stderr
    assert "traced script.py -x --json" in done.stdout
    if "argv" in text:
        assert done.stdout.startswith("__main__ ['script.py', '-x', '--json'] True\n")


@pytest.mark.parametrize(
    ("options", "target", "words"),
    [
        (["--gpu", "no-such-card"], "script.py", "no-such-card"),
        (["--gpu", "mi300x"], "script.py", "no CUDA device"),
        (["--torch-version", "new"], "script.py", "2.5"),
        (["--timeline", "memory.png"], "script.py", ".html or .json"),
        (["--timeline", "nosuch/x.html"], "script.py", "there is no folder nosuch"),
        (["--snapshot", "nosuch/x.pickle"], "script.py", "there is no folder nosuch"),
        (["--alloc-conf", "foo:1"], "script.py", "--alloc-conf: "),
        (["--torch-version", "abc"], "script.py", "--torch-version"),
        (["--world-size", "0"], "script.py", "--world-size 0"),
        (["--world-size", "4", "--rank", "4"], "script.py", "--rank 4"),
        (["--check"], "script.py", "--check is no option of weighbridge trace"),
        ([], "nowhere.py", "nowhere.py: no such script"),
        ([], "nowhere.py:", "nowhere.py: no such script"),
    ],
)
def test_what_cannot_be_asked_is_one_line(trace, options, target, words):
    done = trace("print('ran')", options=options, target=target)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
    assert words in done.stderr


def test_a_card_with_other_memory_says_it_once(trace):
    done = trace("pass", options=["--gpu", "4090", "--gpu-memory", "100GiB"])
    assert "RTX 4090 with 100.00 GiB, torch" in done.stdout


REPLICAS = """
    import os, sys, torch
    from torch import distributed as dist, nn
    dist.init_process_group("nccl")
    here = int(os.environ["LOCAL_RANK"])
    torch.cuda.set_device(here)
    model = nn.parallel.DistributedDataParallel(nn.Linear(1024, 1024).to(here), device_ids=[here])
    model(torch.randn(4, 1024, device=here)).sum().backward()
    print("rank", dist.get_rank(), "of", dist.get_world_size(), sys.argv[1:], flush=True)
    dist.destroy_process_group()
"""


@pytest.mark.parametrize(
    ("options", "launcher", "world"),
    [
        (["--world-size", "4", "--rank", "2"], [], (2, 4)),
        (["--gpu", "h100:2"], ["torchrun", "--nproc-per-node", "gpu"], (0, 2)),
        ([], ["accelerate", "launch", "--num_processes", "2"], (0, 2)),
        ([], ["torchrun", "--nnodes", "2", "--node-rank", "1", "--nproc-per-node", "4"], (4, 8)),
    ],
)
@pytest.mark.filterwarnings("default")
def test_one_process_of_a_launcher_s(trace, options, launcher, world):
    target, *rest = [*launcher, "script.py", "-x"]
    done = trace(REPLICAS, *rest, options=[*options, "--json"], target=target)
    assert done.returncode == 0, done.stderr
    assert "rank {} of {} ['-x']".format(*world) in done.stderr
    found = report(done)
    assert [d["index"] for d in found["devices"]] == [world[0] % 4]
    assert "rank {} of {} is traced".format(*world) in found["warnings"][0]
    tensors = found["devices"][0]["allocated"]["tensors"]
    assert (4_198_400, "gradient") in {(t["nbytes"], t["role"]) for t in tensors}, "the bucket"


def test_a_rank_needs_a_world(trace):
    done = trace("print('ran')", options=["--rank", "1"])
    assert done.returncode == 2
    assert "--world-size" in done.stderr


def test_a_module_runs_alone(trace, tmp_path):
    (tmp_path / "beside.py").write_text("import sys; print(__name__, sys.argv[1:])")
    done = trace("", "-x", options=["-m"], target="beside")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("__main__ ['-x']\n")
    assert "traced -m beside -x" in done.stdout


def test_a_trainer_runs_from_a_folder_without_weights(process, tmp_path):
    pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    done = process(TRAINER, options=["--gpu", "t4"])
    assert done.returncode == 0, done.stderr
    assert "\n2 cuda:0 True\n" in f"\n{done.stdout}"
    assert not list(tmp_path.rglob("*.safetensors"))
    assert "optimizer state" in done.stdout


def test_a_diffusion_model_trains(process):
    pytest.importorskip("diffusers")
    done = process(DIFFUSION, options=["--gpu", "t4"])
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("done\n")


def test_files_give_shapes_and_the_catalogue_gives_configs(process, tmp_path):
    pytest.importorskip("transformers")
    save_file = pytest.importorskip("safetensors.torch").save_file
    torch.save({"a": torch.randn(3, 5)}, tmp_path / "kept.pt")
    save_file({"a": torch.randn(3, 5, dtype=torch.float16)}, tmp_path / "kept.safetensors")
    done = process(LOADS, options=["--gpu", "a100-80gb"])
    lines = done.stdout.splitlines()
    assert lines[0] == "torch.Size([3, 5]) cuda:0 512", done.stderr
    assert lines[1:3] == ["torch.float16", "torch.Size([1, 5])"]
    parameters, allocated = map(int, lines[3].split())
    assert parameters == 8_030_261_248
    assert 0 <= allocated - 2 * parameters < 1 << 20
    assert done.returncode == 1
    assert "OSError: nobody/nothing: config.json is not on this machine" in done.stderr
    assert "comes from the built-in catalogue" in done.stderr


def test_a_context_leaves_files_and_libraries_alone(tmp_path):
    import safetensors
    import safetensors.torch

    import weighbridge

    before = torch.save, torch.load, safetensors.safe_open, safetensors.torch.save_file
    finders = list(sys.meta_path)
    kept = []

    def interrupted():
        with weighbridge.FakeGPU("t4"):
            kept.append(torch.save)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        interrupted()
    assert kept[0] is not before[0]
    after = torch.save, torch.load, safetensors.safe_open, safetensors.torch.save_file
    assert after == before
    assert sys.meta_path == finders
    kept[0]({"a": torch.ones(2)}, tmp_path / "real.pt")
    assert torch.load(tmp_path / "real.pt")["a"].tolist() == [1, 1]


def test_an_error_of_the_script_is_shown_as_python_shows_it(trace):
    """The script's own lines are shown and the error, and nothing of how torch finds out shapes."""
    done = trace("""
        import torch
        x = torch.randn(3, 4, device="cuda")
        x @ x
    """)
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 1 and lines[0] == "Traceback (most recent call last):"
    assert lines[-1].startswith("RuntimeError") and len(lines) <= 5
    assert "torch/" not in done.stderr and "weighbridge" not in done.stderr


def test_what_cannot_be_traced_is_said_in_our_words(trace):
    done = trace("""
        import torch
        class Graph(torch.nn.Module):
            def forward(self, x):
                return torch.sparse.mm(edges, edges)
        edges = torch.sparse_coo_tensor(
            torch.zeros(2, 4, dtype=torch.long, device="cuda"), torch.ones(4, device="cuda"), (9, 9),
            check_invariants=False,
        )
        torch.nn.Sequential(Graph())(torch.ones(9, 2, device="cuda"))
    """)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1
    assert last.startswith("weighbridge: aten._sparse_sparse_matmul.default in 0 has no rule")
    assert "trace the program without it" in last and len(last) < 300
    assert "NotImplementedError" not in done.stderr + done.stdout
    assert "died of aten._sparse_sparse_matmul" in done.stdout


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ("Could not run 'aten::foo' with arguments from the 'CUDA' backend. A dump", "aten.foo in"),
        ("Found no NVIDIA driver on your system. Please", "an operation in"),
        ("There was no rule registered for HigherOrderOperator scan and mode", "scan in"),
    ],
)
def test_what_torch_says_of_devices_is_translated(raw, said):
    from weighbridge_lab.trace.refusals import explanation

    assert explanation(RuntimeError(raw)).startswith(said)
    assert explanation(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) == ""


EARLY = """
    import torch
    model = torch.nn.Linear(8, 8).cuda()
    for step in range(5):
        loss = model(torch.randn(2, 8, device="cuda")).sum()
        if loss < 0.5:
            print("small")
        if loss.item() < 0.01:
            break
    print("steps", step + 1)
"""


@pytest.mark.filterwarnings("ignore:the program looks", "ignore:script.py")
def test_a_course_that_turned_on_a_value_is_reported(trace):
    done = trace(EARLY, options=["--json"])
    assert "steps 1" in done.stderr
    found = json.loads(done.stdout)
    assert [(k["place"], k["told"], k["times"]) for k in found["looks"]] == [
        ("script.py:6", "False", 1),
        ("script.py:8", "0.0", 1),
    ]
    (turned,) = [line for line in found["warnings"] if "left a loop" in line]
    assert turned.startswith("script.py:8: `if loss.item() < 0.01:` was told 0.0")


@pytest.mark.filterwarnings("ignore:the program looks")
@pytest.mark.parametrize("given", ["loss=1.0", "script.py:8=1.0"])
def test_what_the_user_assumes_is_told(trace, given):
    done = trace(EARLY, options=["--assume", given])
    assert "steps 5" in done.stdout and "small\n" not in done.stdout
    assert "1.0 (assumed)" in done.stdout and "left a loop" not in done.stderr


def test_an_assumption_that_says_nothing_is_refused(trace):
    done = trace("pass", options=["--assume", "loss"])
    assert done.returncode == 2 and "write it as loss=1.0" in done.stderr


def test_a_scaler_of_gradients_finds_none_infinite(trace):
    """And asks for no value that is not known."""
    done = trace("""
        import torch
        model = torch.nn.Linear(8, 8).cuda()
        optimizer, scaler = torch.optim.SGD(model.parameters()), torch.amp.GradScaler("cuda")
        scaler.scale(model(torch.randn(2, 8, device="cuda")).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        print(scaler.get_scale())
    """)
    assert "65536.0" in done.stdout and "told" not in done.stderr + done.stdout


EPOCHS = """
    import torch
    model = torch.nn.Linear(512, 512).cuda()
    optimizer = torch.optim.AdamW(model.parameters())
    for epoch in range(40):
        for step in range(100):
            model(torch.randn(8, 512, device="cuda")).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
    with torch.no_grad():
        model(torch.randn(65536, 512, device="cuda"))
    print("epochs", epoch + 1, "steps", step + 1)
"""


@pytest.mark.filterwarnings("ignore:.*the loop was left")
@pytest.mark.parametrize(
    ("options", "said", "rounds"),
    [
        ([], "epochs 6 steps 5", [("script.py:6", 6), ("script.py:5", 6)]),
        (["--steps", "2"], "epochs 2 steps 2", [("script.py:6", 2), ("script.py:5", 2)]),
    ],
)
def test_a_training_is_left_when_it_is_steady(trace, options, said, rounds):
    """And what stands behind it is run."""
    found = trace(EPOCHS, options=["--json", *options])
    assert said in found.stderr
    loops = report(found)["loops"]
    assert [(one["place"], one["rounds"]) for one in loops] == rounds
    assert report(found)["devices"][0]["allocated"]["phase"] == "eval"


def test_all_steps_are_run_where_somebody_says_so(trace):
    found = trace(
        EPOCHS.replace("40", "9").replace("100", "9"), options=["--json", "--steps", "all"]
    )
    assert "epochs 9 steps 9" in found.stderr and report(found)["loops"] == []


@pytest.mark.parametrize("steps", ["0", "-1", "many", "1.5"])
def test_a_number_of_steps_that_is_none_is_refused(trace, steps):
    done = trace("pass", options=["--steps", steps])
    assert done.returncode == 2 and f"--steps {steps}" in done.stderr


@NIGHTLY[0]
@NIGHTLY[1]  # a minute
def test_a_trainer_ends_when_it_is_steady(process):
    """It evaluates once more, with more than it trains on."""
    pytest.importorskip("accelerate")
    text = TRAINER.replace("max_steps=2, save_steps=1", "max_steps=90, eval_strategy='steps'")
    text = text.replace("return 8", "return 200").replace("trainer.evaluate()", "")
    done = process(text, options=["--gpu", "t4", "--json"])
    assert done.returncode == 0, done.stderr
    assert "\n6 cuda:0 True\n" in done.stderr and "eval_loss" in done.stderr
    (left,) = report(done)["loops"]
    assert (left["place"], left["rounds"]) == ("Trainer.train", 6)


TUNE = """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

    class Zeros(torch.utils.data.Dataset):
        def __len__(self):
            return 64
        def __getitem__(self, i):
            ids = torch.zeros(512, dtype=torch.long)
            return {"input_ids": ids, "labels": ids}

    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=32000, hidden_size=256, intermediate_size=1024, num_hidden_layers=2,
        num_attention_heads=4))
    ADAPTED
    arguments = TrainingArguments("out", per_device_train_batch_size=8, max_steps=2, report_to=[],
                                  bf16=True, save_strategy="no", optim="adamw_torch")
    Trainer(model, arguments, train_dataset=Zeros()).train()
"""


@pytest.mark.parametrize(
    ("adapted", "said"),
    each(
        2,
        [
            (
                (
                    "import peft; lora = peft.LoraConfig(r=4, target_modules=['v_proj', 'q_proj']);"
                    "model = peft.get_peft_model(model, lora)"
                ),
                "--method lora --lora-r 4 --lora-alpha 8 --lora-targets q_proj,v_proj",
            ),
            ("", "--method full --precision bf16-mixed --optimizer adamw_torch"),
        ],
    ),
    ids=lambda text: text.partition(" ")[0] or "full",
)
def test_a_trainer_that_does_not_fit_is_told_what_would_help(process, adapted, said):
    """The estimator answers the same run: as much as the trace found, and what to change."""
    pytest.importorskip("accelerate")
    text = TUNE.replace("ADAPTED", adapted)
    done = process(text, options=["--gpu-memory", "2GiB", "--json"])
    found = report(done)
    assert found["verdict"]["fits"] == "no", done.stderr
    advice = found["advice"]
    assert said in advice["flags"] and "--batch-size 8 --seq-len 512" in advice["flags"]
    peak = found["devices"][0]["driver"]["expected"]
    assert advice["needs"]["low"] <= peak <= advice["needs"]["high"]
    fits = [c for c in advice["changes"] if c["fits"] == "yes"]
    assert any("--loss liger" in c["flags"] for c in fits), advice
    assert all(c["peak_bytes"] <= 2 * 2**30 for c in fits)


def test_no_advice_where_it_fits_or_nobody_trains(process):
    for text, memory in ((TUNE.replace("ADAPTED", ""), "80GiB"), (DIE, "1GiB")):
        assert report(process(text, options=["--gpu-memory", memory, "--json"]))["advice"] is None


def test_two_runs_are_compared(trace, tmp_path):
    """A batch of twice the size: what grew, and at which line."""
    text = """
        import torch
        model = torch.nn.Linear(512, 512).cuda()
        optimizer = torch.optim.AdamW(model.parameters())
        for rows in (1024, BATCH):
            model(torch.randn(rows, 512, device="cuda")).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
    """
    (tmp_path / "a.json").write_text(
        trace(text.replace("BATCH", "1024"), options=["--json"]).stdout
    )
    done = trace(text.replace("BATCH", "8192"), options=["--against", "a.json"])
    assert done.returncode == 0, done.stderr
    assert "against a.json" in done.stdout and "+14.00 MiB" in done.stdout
    assert re.search(r"step 2 peaks \S+ MiB above those before: .*\(script.py:6\)", done.stdout)
    refused = trace("print('ran')", options=["--against", "nowhere.json"])
    assert refused.returncode == 2 and refused.stdout == ""
