"""A live `nn.Module`: every parameter once, on whatever device, in its own dtype.

DeepSpeed's estimator knows parameters by their address, which is 0 on the meta device: it counts
542,126,080 as 4,096. torchinfo counts a tied embedding twice.
"""

import pytest

import weighbridge

torch = pytest.importorskip("torch")
nn = torch.nn


class Tied(nn.Module):
    def __init__(self, device, dtype=None):
        super().__init__()
        place = {"device": device, "dtype": dtype}
        self.embed = nn.Embedding(1000, 64, **place)
        self.body = nn.Linear(64, 64, **place)
        self.head = nn.Linear(64, 1000, bias=False, **place)
        self.head.weight = self.embed.weight
        mask = torch.ones(16, 16, dtype=torch.bool, device=device)
        self.register_buffer("mask", mask, persistent=False)


PARAMETERS = 1000 * 64 + 64 * 64 + 64


def held(report, name):
    (phase,) = report.devices[0].phases
    return sum(c.bytes.expected for c in phase.components if c.name == name)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_ties_once_on_any_device(device):
    report = weighbridge.load(Tied(device))
    assert report.model.parameters == PARAMETERS
    assert (held(report, "weights"), held(report, "buffers")) == (4 * PARAMETERS, 256)
    assert report.workload["engine"] == "torch"


def test_a_module_with_two_places_counts_once():
    module = nn.Sequential(nn.Linear(64, 64, device="meta"), nn.ReLU())
    module.again = module[0]
    report = weighbridge.load(module)
    assert report.model.parameters == 64 * 64 + 64
    assert held(report, "weights") == 4 * (64 * 64 + 64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_a_module_is_weighed_in_its_own_dtype(dtype):
    report = weighbridge.load(Tied("meta", dtype))
    assert report.workload["dtype"] == str(dtype).removeprefix("torch.")
    assert held(report, "weights") == dtype.itemsize * PARAMETERS
    assert held(weighbridge.load(Tied("meta", dtype), dtype="float16"), "weights") == 2 * PARAMETERS


def test_a_module_of_two_dtypes():
    module = Tied("meta", torch.bfloat16)
    module.body.float()
    assert held(weighbridge.load(module), "weights") == 2 * 64_000 + 4 * (64 * 64 + 64)


def test_frozen_parameters_count():
    module = Tied("cpu").requires_grad_(False)
    assert weighbridge.load(module).model.parameters == PARAMETERS


def test_every_tensor_is_what_torch_says():
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=500, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True,
    )  # fmt: skip
    with torch.device("meta"):
        module = transformers.LlamaForCausalLM(config)
    live = weighbridge.load(module)
    assert live.model.parameters == module.num_parameters()
    assert (
        live.table
        == weighbridge.load(config.to_dict() | {"architectures": ["LlamaForCausalLM"]}).table
    )


@pytest.mark.parametrize("ask", [weighbridge.train, weighbridge.infer])
def test_what_a_live_module_takes_at_work_is_traced(ask):
    """The one line says how."""
    with pytest.raises(weighbridge.UnsupportedError) as raised:
        ask(nn.Sequential(nn.Linear(4, 4)))
    said = str(raised.value)
    assert "\n" not in said
    assert all(word in said for word in ("Sequential", "weighbridge trace", "FakeGPU"))
    assert weighbridge.FakeGPU is not None


def test_a_table_has_ties_once_and_the_buffers_that_are_saved():
    module = nn.Sequential(nn.Embedding(10, 4), nn.BatchNorm1d(4), nn.Linear(4, 10, bias=False))
    module[2].weight = module[0].weight
    report = weighbridge.load(module)
    assert report.model.parameters == 40 + 8
    assert {r.dtype: r for r in report.table}["float32"].total_bytes == 4 * 48 + 4 * 8 + 8
