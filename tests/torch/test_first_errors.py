"""The commonest first errors of a repository that was cloned: each with the flag that goes on, which
then works; and what a repository does that tensors without values could not do."""

import pytest

from tests.torch.test_trace_cli import report, trace  # noqa: F401  a fixture

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("default")

STEP = """
import torch
from torch import nn
net = nn.Linear(64, 8).to({device!r})
for _ in range(3):
    net(torch.randn(4, 64).to({device!r})).sum().backward()
"""


def told(trace, text, *options):  # noqa: F811
    done = trace(text, options=["--gpu", "t4", *options])
    return " ".join(done.stdout.split())


FIRST = {
    "assert __import__('torch').cuda.device_count() >= 4": ("--gpu 4xt4", ["--gpu", "4xt4"]),
    STEP.format(device="cuda:1"): ("--gpu 2xt4", ["--gpu", "2xt4"]),
    "import torch\ntorch.cuda.set_device(2)": ("--gpu 3xt4", ["--gpu", "3xt4"]),
    "import os\nos.environ['LOCAL_RANK']": ("--world-size 2", ["--world-size", "2"]),
    "import importlib.metadata as m\nassert m.version('flash-attn') > '2'": (
        "--stub flash-attn",
        ["--stub", "flash_attn"],
    ),
    "import numpy\nassert numpy.load('x.npy').shape == (4096, 3, 4)": (
        "--data 3x224x224,int",
        ["--data", "3x4,int"],
    ),
    "import numpy\nassert numpy.memmap('x.bin', 'uint16', 'r')[9:99].sum() == 0": (
        "--data 3x224x224,int",
        ["--data", "3x4"],
    ),
}


@pytest.mark.parametrize("text", FIRST)
def test_the_flag_that_is_told_goes_on(trace, text):  # noqa: F811
    says, flags = FIRST[text]
    assert says in told(trace, text)
    card = [] if "--gpu" in flags else ["--gpu", "t4"]
    found = report(trace(text, options=["--json", *card, *flags]))
    assert found["program"]["ending"] == "finished", found["program"]


STOPS = {
    "open('configs/base.yaml')": "configs/base.yaml is not here: give it",
    "raise ImportError('this needs torch<2.2')": "it wants another release of a package",
    "assert False, 'data/coco does not exist'": "is not here: give it",
    "raise RuntimeError('a defect')": "what comes after that is not known",
    "raise ValueError('this needs 4 GPUs')": "it wants more devices: --gpu 4xt4",
    "raise RuntimeError('world_size must be at least 2')": "it wants more devices: --gpu 2xt4",
    "raise RuntimeError('requires multiple GPUs')": "it wants more devices: --gpu 8xt4",
    (
        "import torch\nnet = torch.nn.Linear(64, 64).cuda()\ndevices = 64\n"
        "net(torch.randn(devices, 64))"
    ): "a tensor is on the host and another on the card",
    (
        "import torch\nnet = torch.nn.Conv2d(3, 64, 3).cuda()\nnet(torch.randn(8, 3, 64, 64))"
    ): "a tensor is on the host and another on the card",
}
QUIET = [  # digits of a source line, or of a message about something else
    "def run(**options): raise ImportError('tensorboard is missing')\nrun(epochs=6, devices=1)",
    "devices = 64\nif devices < 65.5: raise ValueError('batch of 64 on all devices')",
    "loss = 3\nif loss > 1.5: raise ValueError('the loss is > 1.5')",
]


@pytest.mark.parametrize("text", QUIET)
def test_what_nobody_can_say_is_not_said(trace, text):  # noqa: F811
    said = told(trace, text)
    assert "it wants" not in said and "what comes after that is not known" in said


@pytest.mark.parametrize("text", STOPS)
def test_the_cause_is_told(trace, text):  # noqa: F811
    assert STOPS[text] in told(trace, text)


def test_a_package_of_the_repository_is_found(trace, tmp_path):  # noqa: F811
    (tmp_path / "helpers").mkdir()
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "train.py").write_text("import helpers")
    done = trace("", target="tools/train.py", options=["--gpu", "t4"])
    assert "start with PYTHONPATH=." in " ".join(done.stdout.split())


COMPILED = """
    from torch.utils.cpp_extension import load, load_inline
    fused = load(name="fused", sources=["a.cpp", "a.cu"])
    import torch
    assert fused.forward(torch.ones(3, device="cuda")).shape == (3,)
"""


def test_code_that_is_compiled_when_it_starts_has_a_stand_in(trace):  # noqa: F811
    assert "--stub fused stands in for it" in told(trace, COMPILED)
    found = report(trace(COMPILED, options=["--json", "--stub", "fused"]))
    assert found["program"]["ending"] == "finished", found["program"]


RESUMED = """
    import torch
    net = torch.nn.Linear(4, 4).cuda()
    optimizer = torch.optim.AdamW(net.parameters())
    scaler = torch.amp.GradScaler("cuda")
    old = torch.load("last.pt", map_location="cpu")
    net.load_state_dict({k.removeprefix("module."): v for k, v in old["model"].items()})
    optimizer.load_state_dict(old["optimizer"])
    scaler.load_state_dict(old["scaler"])
    net.load_state_dict(torch.load("whole.pt").state_dict())
    assert old["epoch"] + 1 == 1 and [*range(old["epoch"], 2)] == [0, 1]
    assert 0.5 > old["best"] and not 0.5 < old["best"] and f"{old['best']:.1f}" == "0.0"
    net(torch.randn(4, 4, device="cuda")).sum().backward()
    optimizer.step()
"""


def test_a_run_resumes_from_a_checkpoint_that_is_not_here(trace):  # noqa: F811
    found = report(trace(RESUMED, options=["--json"]))
    assert found["program"]["ending"] == "finished", found["program"]


SPARSE = """
    import torch
    count, width, edges = 4096, 256, 40000
    places = torch.randint(0, count, (2, edges))
    graph = torch.sparse_coo_tensor(places, torch.ones(edges), (count, count)).coalesce().cuda()
    x = torch.randn(count, width, device="cuda", requires_grad=True)
    torch.sparse.mm(graph, x).sum().backward()
    assert x.grad.shape == x.shape
    print("peak", torch.cuda.max_memory_allocated())
"""


def test_a_sparse_matrix_is_multiplied(trace):  # noqa: F811
    """Forward has x, the zeros that are added, the result, and that once more by columns; the
    matrix in two forms: 2 x 8 + 4 bytes an edge, and 4 + 4 beside the rows."""
    found = report(trace(SPARSE, options=["--json"]))
    assert found["program"]["ending"] == "finished", found["program"]
    whole, edges = 4096 * 256 * 4, 40000
    phases = {p["name"]: p["allocated"] for p in found["devices"][0]["phases"]}
    assert phases["load"] == pytest.approx(4 * whole + edges * (20 + 4), rel=0.01)
    # x and its gradient; zeros, the result, that by columns, and the gradient before it, made whole;
    # the matrix, its transpose, and that in order and by rows. Nothing is as large as count x count
    assert phases["backward"] == pytest.approx(5 * whole + edges * (3 * 20 + 4), rel=0.02)


WARNED = """
    import torch, warnings
    for number in range(4):
        with warnings.catch_warnings():
            pass
        warnings.warn("it is old", FutureWarning)
"""


def test_a_warning_of_a_line_is_shown_once(trace):  # noqa: F811
    with pytest.warns(FutureWarning, match="it is old") as shown:
        trace(WARNED, options=["--gpu", "t4"])
    assert len([one for one in shown if one.category is FutureWarning]) == 1


DERIVED = """
    import abc, torch
    from mmcv.cnn import ConvModule, build_norm_layer
    from mmcv.runner import BaseModule, HeadMixin
    from mmcv import REGISTRY, Config, SparseTensor, MissingError
    from torch import nn

    @REGISTRY.register()
    class Head(BaseModule, HeadMixin, metaclass=abc.ABCMeta):
        def __init__(self, width, init_cfg=None):
            super().__init__(init_cfg=init_cfg)
            BaseModule.__init__(self, init_cfg)
            self.layers = nn.Sequential(ConvModule(3, width, kernel_size=3), nn.Linear(8, width))
        def forward(self, x):
            return self.layers(SparseTensor(x, coordinates=None))

    try:
        Config.fromfile("x.py").model
    except MissingError:
        pass
    x = torch.randn(4, 8, device="cuda")
    assert not isinstance(x, SparseTensor) and not hasattr(Head, "other")
    assert Head(16).cuda()(x).shape == (4, 16)
"""


APEX = """
    import torch
    from apex import amp
    net = torch.nn.Linear(4, 4).cuda()
    net, optimizer = amp.initialize(net, torch.optim.SGD(net.parameters(), 0.1), opt_level="O1")
    with amp.scale_loss(net(torch.randn(2, 4, device="cuda")).sum(), optimizer) as scaled:
        scaled.backward()
    optimizer.step()
"""


def test_mixed_precision_of_apex_stands_in(trace):  # noqa: F811
    found = report(trace(APEX, options=["--json", "--stub", "apex"]))
    assert found["program"]["ending"] == "finished", found["program"]


def test_classes_derive_from_those_of_a_stand_in(trace):  # noqa: F811
    found = report(trace(DERIVED, options=["--json", "--stub", "mmcv"]))
    assert found["program"]["ending"] == "finished", found["program"]


UNREACHED = """
    try:
        import socket
        socket.create_connection(("huggingface.co", 443))
    except OSError:
        pass
    raise ConnectionError("Couldn't reach 'somebody/set' on the Hub")
"""


def test_a_library_that_caught_the_refusal_is_understood(trace):  # noqa: F811
    assert "it asked huggingface.co: --network lets it" in told(trace, UNREACHED)


FOLDERS = """
    import os
    from torch.utils.data import Dataset
    class Folder(Dataset):
        def __init__(self, root):
            self.samples = os.listdir(root)
    class Images(Folder):
        def __init__(self, root):
            super().__init__(root)
            self.images = self.samples
    assert Images("nowhere")[3].shape == (2, 3) and len(Images("nowhere"))
"""


def test_a_class_above_may_read_the_data(trace):  # noqa: F811
    found = report(trace(FOLDERS, options=["--json", "--data", "2x3"]))
    assert found["program"]["ending"] == "finished", found["program"]


COALESCED = """
    import torch
    for device in ("cpu", "cuda"):
        places = torch.tensor([[0, 0, 1], [2, 1, 0]], device=device)
        graph = torch.sparse_coo_tensor(places, torch.ones(3, device=device), (3, 3)).coalesce()
        assert graph._nnz() == 3 and graph.is_coalesced()
"""


def test_a_coalesced_matrix_keeps_its_coordinates(trace):  # noqa: F811
    found = report(trace(COALESCED, options=["--json"]))
    assert found["program"]["ending"] == "finished", found["program"]


NEWTON = """
    import torch
    net = torch.nn.Linear(512, 512, bias=False).cuda()
    optimizer = torch.optim.LBFGS(net.parameters(), max_iter=4, history_size=3)
    def closure():
        optimizer.zero_grad()
        loss = net(torch.randn(8, 512, device="cuda")).pow(2).mean()
        loss.backward()
        return loss
    for _ in range(4):
        optimizer.step(closure)
    state = optimizer.state[optimizer._params[0]]
    assert len(state["old_dirs"]) == len(state["old_stps"]) == 3
    assert optimizer.param_groups[0]["tolerance_grad"] == 1e-7
"""


def test_a_search_that_would_end_by_its_values_goes_on(trace):  # noqa: F811
    """L-BFGS keeps two vectors an iteration, its direction and the last gradient."""
    found = report(trace(NEWTON, options=["--json"]))
    assert found["program"]["ending"] == "finished", found["program"]
    assert found["devices"][0]["left"] >= (2 + 2 * 3 + 2) * 512 * 512 * 4


def test_a_mean_square_stays_in_a_storage_of_all_elements():
    """It is that of the same program on the CPU (aten/src/ATen/native/Loss.cpp)."""
    from weighbridge_lab.trace.gpu import FakeGPU

    left, right = torch.ones(512, 512), torch.zeros(512, 512)
    real = torch.nn.functional.mse_loss(left, right)
    with FakeGPU("a100-80gb") as gpu:
        x, y = torch.ones(512, 512, device="cuda"), torch.zeros(512, 512, device="cuda")
        before = torch.cuda.memory_allocated()
        loss = torch.nn.functional.mse_loss(x, y)
        assert loss.shape == ()
        kept = torch.cuda.memory_allocated() - before
    assert kept == real.untyped_storage().nbytes() == 512 * 512 * 4
    assert gpu.tape.allocated.nbytes == 4 * kept


@pytest.mark.parametrize("loss", ["mse_loss", "smooth_l1_loss"])
def test_a_loss_of_each_element_is_as_large_as_they_are(trace, loss):  # noqa: F811
    text = f"""
    import torch
    x = torch.randn(1024, 1024, device="cuda", requires_grad=True)
    y = torch.randn(1024, 1024, device="cuda")
    before = torch.cuda.memory_allocated()
    each = torch.nn.functional.{loss}(x, y, reduction="none")
    print("each", torch.cuda.memory_allocated() - before, tuple(each.shape))
    each.mean().backward()
    """
    assert f"each {4 * 1024 * 1024} (1024, 1024)" in trace(text).stdout
