"""Nets of one's own: a class without a script, a module that is there, a notebook; and scripts that
stop before their first allocation on a machine that has not what they need."""

import json

import pytest

from tests.torch.test_trace_cli import report, trace  # noqa: F401  a fixture

torch = pytest.importorskip("torch")

NET = """
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x):
        return x + self.down(torch.relu(self.up(x)))

class Net(nn.Module):
    def __init__(self, width=512, depth=4):
        super().__init__()
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return {"out": x, "pair": (x.mean(), 3)}

class Needy(nn.Module):
    def __init__(self, width):
        super().__init__()

def wide():
    return Net(1024)

def words():
    return "no net"
"""

WEIGHTS = 4 * (2 * 512 * 2048 + 2048 + 512) * 4  # bytes of Net
ROWS = 4096


def allocated(found):
    return found["devices"][0]["allocated"]["allocated"]


def roles(found):
    return found["devices"][0]["allocated"]["roles"]


def net(trace, *options, target="script.py:Net", size=ROWS):  # noqa: F811
    shown = ["--json", "--input", f"{size}x512", *options]
    return report(trace(NET, target=target, options=shown))


def test_inference_keeps_weights_and_a_layer(trace):  # noqa: F811
    """One block at its widest: its input, the wide tensor before and after ReLU."""
    found = net(trace)
    assert roles(found)["weight"] == WEIGHTS
    wide = 4 * ROWS * 2048
    assert allocated(found) == pytest.approx(WEIGHTS + 2 * wide + 4 * ROWS * 512 * 2, rel=0.08)
    half = net(trace, "--bf16")
    assert roles(half)["weight"] == WEIGHTS // 2


def test_training_has_gradients_and_states(trace):  # noqa: F811
    found = net(trace, "--train", "adamw")
    assert roles(found)["optimizer state"] == pytest.approx(2 * WEIGHTS, rel=1e-3)
    plain = net(trace, "--train", "sgd")
    assert "optimizer state" not in roles(plain)
    block = 4 * ROWS * (512 + 2048)  # its input, and what ReLU left
    assert 3 * block <= roles(plain)["saved activation"] <= 4 * block
    again = net(trace, "--train", "sgd", "--checkpoint")
    assert allocated(again) < allocated(plain)
    lower = net(trace, "--train", "sgd", "--bf16")
    assert lower["devices"][0]["phases"] and allocated(lower) < allocated(plain)


@pytest.mark.parametrize(
    ("target", "options", "says"),
    [
        (
            "script.py",
            ["--input", "8x512"],
            "defines Block, Net, Needy: say which, as script.py:Needy",
        ),
        ("script.py:nothing", ["--input", "8x512"], "does not define 'nothing'"),
        ("script.py:Needy", ["--input", "8x512"], "takes width; write a function that returns it"),
        ("script.py:words", ["--input", "8x512"], "is no net (it gave a str)"),
        ("script.py:Net", ["--input", "8xx"], "write a shape as 8x3x224x224"),
        (
            "script.py:Net",
            ["--input", "8x512", "--train", "best"],
            "not an optimizer of torch.optim",
        ),
        ("script.py:Net", ["--train", "adamw"], "--train is for a net: say the shape"),
        ("script.py:Net", ["--input", "8x512", "--fit", "batch"], "for which card? (--gpu 4090)"),
    ],
)
def test_what_is_no_net_is_told_in_a_line(trace, target, options, says):  # noqa: F811
    done = trace(NET, target=target, options=options)
    assert done.returncode == 2 and says in done.stderr and done.stderr.count("\n") == 1


def test_a_function_may_make_it(trace):  # noqa: F811
    shown = ["--json", "--input", "64x1024"]
    found = report(trace(NET, target="script.py:wide", options=shown))
    assert roles(found)["weight"] == 4 * (2 * 1024 * 4096 + 4096 + 1024) * 4


def test_the_largest_batch_of_a_net(trace):  # noqa: F811
    options = ["--gpu", "4060", "--input", f"{ROWS}x512", "--train", "adamw", "--fit", "batch"]
    done = trace(NET, target="script.py:Net", options=options)
    first, second, *others = done.stdout.splitlines()
    assert done.returncode == 0 and first.startswith("largest batch on NVIDIA GeForce RTX 4060: ")
    batch = int(first.rpartition(" ")[2].replace(",", ""))
    assert f"  {batch:,} fits; " in second and "does not fit" in second
    lighter = next(line for line in others if "with --checkpoint" in line)
    again = int(lighter.rpartition(": ")[2].partition(", traced")[0].replace(",", ""))
    proof = net(trace, "--gpu", "4060", "--train", "adamw", size=batch)
    assert proof["verdict"]["fits"] == "yes"
    proof = net(trace, "--gpu", "4060", "--train", "adamw", "--checkpoint", size=again)
    assert again > batch and proof["verdict"]["fits"] == "yes"


def test_a_module_that_is_there_is_traced_and_stays(trace):  # noqa: F811
    import weighbridge

    names = {}
    exec(NET, names)
    module = names["Net"]()
    before = module.blocks[0].up.weight.clone()
    found = weighbridge.trace(module, f"{ROWS}x512", optimizer="adamw", gpu="a100-80gb")
    assert found.verdict.fits == "yes"
    assert torch.equal(module.blocks[0].up.weight, before)
    assert found.devices[0].allocated.allocated == allocated(net(trace, "--train", "adamw"))
    shaped = weighbridge.trace(module, [torch.zeros(ROWS, 512)])
    assert shaped.devices[0].allocated.allocated == allocated(net(trace))


def test_a_cell_sees_copies_of_the_notebook_s_modules():
    import weighbridge

    class Shell:
        def __init__(self):
            self.user_ns = {"net": torch.nn.Linear(64, 64), "torch": torch}

        def register_magic_function(self, function, magic_kind):
            self.magic = function

    shell = Shell()
    weighbridge.load_ipython_extension(shell)
    shell.magic("t4", "out = net.cuda()(torch.randn(8, 64, device='cuda')).sum().backward()")
    assert "out" not in shell.user_ns
    assert (
        shell.user_ns["net"].weight.device.type == "cpu"
        and shell.user_ns["net"].weight.grad is None
    )


CELLS = [
    ["# a net"],
    ["!pip install torch\n", "%matplotlib inline\n", "import torch\n", "from torch import nn"],
    ["%%time\n", "net = nn.Linear(4096, 4096).cuda()\n", "!nvidia-smi\n", "display(net)"],
    ["%%bash\n", "exit 1"],
]


@pytest.mark.parametrize("indent", [None, 1])
def test_a_notebook_runs_cell_by_cell(trace, tmp_path, indent):  # noqa: F811
    kinds = ["markdown", "code", "code", "code"]
    cells = [{"cell_type": kind, "source": text} for kind, text in zip(kinds, CELLS, strict=True)]
    (tmp_path / "n.ipynb").write_text(json.dumps({"cells": cells, "nbformat": 4}, indent=indent))
    found = report(trace("", target="n.ipynb", options=["--json"]))
    assert found["program"]["ending"] == "finished"
    (line,) = {row["line"] for row in found["devices"][0]["allocated"]["tensors"] if row["line"]}
    number = int(line.removeprefix("n.ipynb:"))
    if indent:
        assert "4096).cuda()" in (tmp_path / "n.ipynb").read_text().splitlines()[number - 1]


@pytest.mark.parametrize("text", ["{}", "no json", '{"cells": [{"cell_type": "markdown"}]}'])
def test_what_is_no_notebook_is_told(trace, tmp_path, text):  # noqa: F811
    (tmp_path / "n.ipynb").write_text(text)
    done = trace("", target="n.ipynb", options=["--gpu", "t4"])
    assert "no notebook with Python in it" in done.stdout + done.stderr


NEEDY = """
    import os
    import apex, wandb
    from torch import nn
    from flash_attn import flash_attn_func
    from torch.utils.data import DataLoader, Dataset
    import torch

    class Pictures(Dataset):
        def __init__(self, root):
            self.files = sorted(os.listdir(root))
        def __len__(self):
            return len(self.files)
        def __getitem__(self, index):
            raise OSError(index)

    wandb.init(project="x", config={"lr": 1e-3})
    net = nn.Sequential(nn.Conv2d(3, 8, 3), apex.normalization.FusedLayerNorm(30), apex.New(3)).cuda()
    net.load_state_dict(torch.load("nowhere.pt", map_location="cpu")["model"])
    optimizer = apex.optimizers.FusedAdam(net.parameters(), lr=wandb.config.lr)
    for x, y in DataLoader(Pictures("/data/nowhere"), batch_size=4):
        q = torch.randn(4, 1024, 8, 64, device="cuda", requires_grad=True)
        loss = net(x.cuda()).sum() + flash_attn_func(q, q, q, causal=True).sum() + y.cuda().sum()
        loss.backward()
        optimizer.step()
        wandb.log({"loss": loss.item()})
    open("left.txt", "w").write("x")
"""


@pytest.mark.filterwarnings("default")
def test_what_a_repository_lacks_stands_in(trace, tmp_path):  # noqa: F811
    done = trace(NEEDY, options=["--gpu", "t4"])
    assert "ModuleNotFoundError: No module named 'apex'" in done.stdout
    assert "pip install apex, or --stub apex" in done.stdout
    assert "it has to run on cuda" not in done.stdout
    stubbed = ["--gpu", "t4", "--stub", "apex,flash_attn"]
    done = trace(NEEDY, options=stubbed)
    assert "--data 3x224x224,int gives samples of that shape" in " ".join(done.stdout.split())
    found = report(trace(NEEDY, options=[*stubbed, "--data", "3x32x32,int", "--json"]))
    assert found["program"]["ending"] == "finished", found["program"]
    told = " ".join(found["warnings"])
    for words in ("wandb is off", "apex: a stand-in", "nowhere.pt is not here", "wrote left.txt"):
        assert words in told
    assert "Pictures: its data are not here" in told
    # attention in one kernel: no scores of 1,024 x 1,024 for each head
    assert allocated(found) < 4 * 8 * 1024 * 1024 * 4


WORLD = {
    "import urllib.request\nurllib.request.urlopen('http://example.org')": "it asked example.org",
    "import socket\nsocket.create_connection(('10.1.2.3', 80))": "it asked 10.1.2.3",
    "import os\nos.environ['MY_TOKEN_X']": "set the variable MY_TOKEN_X",
    "import argparse\np = argparse.ArgumentParser()\np.add_argument('x')\np.parse_args()": (
        "give the arguments that it asks for"
    ),
    "open('nowhere/train.txt')": "--data 3x224x224,int",
}


@pytest.mark.parametrize("text", WORLD)
def test_the_first_line_says_what_goes_on(trace, text):  # noqa: F811
    done = trace(text, options=["--gpu", "t4"])
    assert WORLD[text] in " ".join(done.stdout.split())


@pytest.mark.filterwarnings("default")
def test_nothing_is_sent(trace):  # noqa: F811
    text = """
    import smtplib, huggingface_hub
    with smtplib.SMTP("mail.example.org") as mail:
        mail.send_message("done")
    huggingface_hub.create_repo("me/model")
    huggingface_hub.HfApi().upload_folder(folder_path=".", repo_id="me/model")
    """
    pytest.importorskip("huggingface_hub")
    found = report(trace(text, options=["--json"]))
    assert found["program"]["ending"] == "finished", found["program"]
    told = " ".join(found["warnings"])
    assert "no mail is sent" in told and "upload_folder does nothing" in told


@pytest.mark.filterwarnings("default")
def test_time_ends_a_run_with_its_verdict(trace):  # noqa: F811
    text = """
    import torch
    net = torch.nn.Linear(4096, 4096).cuda()
    def rounds():
        while True:
            net(torch.randn(8, 4096, device="cuda")).sum().backward()
            net.zero_grad()
            yield
    for _ in rounds():
        torch.optim.SGD(net.parameters(), lr=1).step()
    """
    done = trace(text, options=["--gpu", "t4", "--time-limit", "6", "--steps", "all"])
    assert done.returncode == 124
    assert "✓ fits" in done.stdout and "steps after its peak" in done.stdout
    done = trace("import time\ntime.sleep(60)", options=["--gpu", "t4", "--time-limit", "1"])
    assert "its time was up at script.py:2" in done.stdout and "? cannot say" in done.stdout


COMPILED = """
    import torch
    net = torch.compile(torch.nn.Sequential(*(torch.nn.GELU() for _ in range(20))).cuda())
    x = torch.randn(1 << 28, device="cuda", requires_grad=True)
    net(x).sum().backward()
"""


@pytest.mark.filterwarnings("default")
def test_eager_code_in_place_of_compiled_is_no_no(trace):  # noqa: F811
    done = trace(COMPILED, options=["--gpu", "t4"])
    assert (
        "? cannot say" in done.stdout and "eager code ran in place of torch.compile" in done.stdout
    )
    assert "✓ fits" in trace(COMPILED, options=["--gpu", "a100-80gb"]).stdout


def test_words_behind_a_net_belong_before_it(trace):  # noqa: F811
    done = trace(NET, "--train", "adamw", target="script.py:Net", options=["--input", "8x512"])
    assert done.returncode == 2 and "'--train adamw' belongs before it" in done.stderr


def test_a_cell_that_is_no_python_ends_a_notebook(trace, tmp_path):  # noqa: F811
    cells = [
        {"cell_type": "code", "source": text} for text in ("import torch", "def f(:", "%%html\n<b>")
    ]
    (tmp_path / "n.ipynb").write_text(json.dumps({"cells": cells}))
    done = trace("", target="n.ipynb")
    assert (
        done.returncode == 1
        and "n.ipynb, code cell 2" in done.stderr
        and "SyntaxError" in done.stdout
    )


@pytest.mark.parametrize(
    ("module", "inputs", "says"),
    [
        (torch.nn.Linear, "8x4", "takes a torch.nn.Module, not type"),
        (None, "8x4", "takes a torch.nn.Module, not NoneType"),
        (torch.nn.Linear(4, 4), (8, 4), "shapes as"),
        (torch.nn.Linear(4, 4), None, "shapes as"),
    ],
)
def test_what_is_no_module_or_no_shape_is_told(module, inputs, says):
    import weighbridge

    with pytest.raises(weighbridge.UsageError, match=says):
        weighbridge.trace(module, inputs)


def test_an_optimizer_may_be_its_class():
    import weighbridge

    net = torch.nn.Linear(64, 64)
    by_class = weighbridge.trace(net, "8x64", optimizer=torch.optim.AdamW)
    assert by_class.devices == weighbridge.trace(net, "8x64", optimizer="adamw").devices


def test_a_signal_comes_where_memory_is_asked_for():
    """Views are made within C++ that may not throw."""
    from weighbridge_lab.trace.gpu import FakeGPU

    with FakeGPU("t4") as gpu:
        x = torch.ones(4, 4, device="cuda")
        gpu.recorder.leaves = KeyboardInterrupt()
        assert x.t().shape == (4, 4)
        with pytest.raises(KeyboardInterrupt):
            x.t() @ x
        assert (x @ x).shape == (4, 4)


@pytest.mark.filterwarnings("default")
def test_notes_on_a_run_have_no_line_of_ours(trace):  # noqa: F811
    text = "import torch\nprint(float(torch.randn(2, device='cuda').sum()))"
    done = trace(text)
    assert done.stderr.startswith("warning: the program looks at values")
    assert "weighbridge_lab" not in done.stderr


def test_a_file_that_only_defines_a_net_says_how_it_is_run(trace):  # noqa: F811
    done = trace(NET, options=["--gpu", "t4"])
    shown = " ".join(done.stdout.split())
    assert "it defines Needy and does not run it: --input 8x3x224x224 before" in shown
    assert "it has to run on cuda" not in shown


@pytest.mark.parametrize(
    ("first", "colab"),
    [
        ("from google.colab import drive\ndrive.mount('/content/drive')", True),
        ("from google.colab import files, userdata\nassert userdata.get('HF_TOKEN') == ''", True),
        ("import google.colab.drive as drive", True),
        (
            "try:\n    import google.colab\n    here = True\nexcept ImportError:\n    here = False",
            False,
        ),
    ],
)
def test_a_notebook_s_host_passes_by_itself(trace, first, colab):  # noqa: F811
    """But where it is asked whether it is there."""
    net = "import torch\nnet = torch.nn.Linear(64, 64).cuda()"
    asks = "" if colab else "assert not here"
    found = report(trace(f"{first}\n{asks}\n{net}", options=["--json"]))
    assert found["program"]["ending"] == "finished", found["program"]


@pytest.mark.parametrize("command", ["load", "train", "infer"])
@pytest.mark.parametrize("place", ["net.py:Net", "src/net.py:Net", "./net.py:Net"])
def test_a_net_of_a_file_is_sent_to_trace(command, place):
    import weighbridge
    from weighbridge.base.errors import UsageError

    with pytest.raises(UsageError, match=f"weighbridge trace --input 8x3x224x224 {place}"):
        getattr(weighbridge, command)(place)


def test_options_behind_a_net_are_told(trace):  # noqa: F811
    done = trace(NET, "--gpu", "4060", target="script.py:Net")
    assert done.returncode == 2 and "options stand before the net" in done.stderr


def test_without_torch_there_is_one_line(trace, monkeypatch):  # noqa: F811
    from weighbridge_lab.trace import inputs

    monkeypatch.setattr(inputs, "find_spec", lambda _: None)
    for options in (["--input", "8x512"], ["--input", "8x512", "--gpu", "4060", "--fit", "batch"]):
        done = trace(NET, target="script.py:Net", options=options)
        assert done.returncode == 2 and "weighbridge trace needs torch" in done.stderr
