"""What tensors are for, also where no module has run with them yet."""

import copy
from collections import Counter

import pytest
import torch
from torch import nn

from weighbridge_lab.trace import guard
from weighbridge_lab.trace.gpu import FakeGPU

pytestmark = pytest.mark.skipif(bool(guard.why_not()), reason=guard.why_not())
WEIGHTS = (8 * 16 + 16) * 4


def alive(gpu):
    sums = Counter()
    for storage in gpu.tape.alive(len(gpu.tape.events)):
        sums[storage.role] += storage.nbytes
    return dict(sums)


def test_modules_that_never_run_have_weights():
    with FakeGPU("a100-80gb") as gpu:
        model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16)).to("cuda", torch.half)
        assert model[0].weight.is_cuda
        assert alive(gpu) == {"weight": (8 * 16 + 3 * 16) * 2, "buffer": 2 * 16 * 2 + 8}


@pytest.mark.parametrize(
    "average",
    [
        copy.deepcopy,
        lambda model: copy.deepcopy(model.state_dict()),
        lambda model: [p.detach().clone() for p in model.parameters()],
        lambda model: torch.optim.swa_utils.AveragedModel(model).module,
    ],
)
def test_averages_of_weights_are_weights(average):
    with FakeGPU("a100-80gb") as gpu:
        model = nn.Linear(8, 16).cuda()
        kept = average(model)
        assert alive(gpu)["weight"] == 2 * WEIGHTS and kept


def test_copies_within_a_layer_are_not():
    with FakeGPU("a100-80gb") as gpu:
        model = nn.Linear(8, 16).cuda()
        with torch.autocast("cuda", dtype=torch.half):
            loss = model(torch.ones(2, 8, device="cuda")).sum()
        assert alive(gpu)["weight"] == WEIGHTS and loss.is_cuda


def test_caches_of_keys_and_values():
    """2 layers, keys and values, 3 samples, 2 heads of 16, 7 + 1 tokens, bfloat16."""
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=100,
    )
    with FakeGPU("a100-80gb") as gpu, torch.no_grad():
        model = transformers.LlamaForCausalLM(config).to(torch.bfloat16).cuda().eval()
        cache = transformers.DynamicCache(config=config)
        for count in (7, 1):
            ids = torch.ones(3, count, dtype=torch.long, device="cuda")
            model(ids, past_key_values=cache)
        assert alive(gpu)["kv cache"] == 2 * 2 * 3 * 2 * 8 * 16 * 2
