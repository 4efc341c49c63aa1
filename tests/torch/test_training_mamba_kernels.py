"""Steps of Mamba-2 with mamba-ssm's own Python on the fake GPU, where launches do nothing.

By hand: unpack mamba-ssm's source beside triton and einops, and put both on PYTHONPATH. What it
compiles (its package and causal-conv1d) needs a card: it is not imported, and what stands in for
causal-conv1d takes what its cpp_functions.py takes.
"""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("torch")
pytest.importorskip("triton")
FOUND = importlib.util.find_spec("mamba_ssm")
if FOUND is None:
    pytest.skip("by hand: the source of mamba-ssm 2.3.2 on PYTHONPATH", allow_module_level=True)

import torch  # noqa: E402
from triton.runtime import autotuner, jit  # noqa: E402

from tests.torch.training_oracle import differences, ours, real  # noqa: E402

SMALL = 4096


def forward(x, weight, bias, *_):
    return torch.empty_like(x)


def backward(x, weight, bias, _dout, _sequences, _initial, _final, dx, *_):
    dx = torch.empty_like(x) if dx is None else dx
    wide = [None if w is None else torch.zeros_like(w, dtype=torch.float32) for w in (weight, bias)]
    return dx, *(None if w is None else w.type_as(weight) for w in wide), None


def bare(name, folder=None, **members):
    """A package whose own __init__ does not run."""
    made = ModuleType(name)
    made.__path__ = [str(folder)] if folder else []
    vars(made).update(members)
    return made


@pytest.fixture(scope="module", autouse=True)
def packages():
    folder = Path(FOUND.submodule_search_locations[0])
    ops = bare("mamba_ssm.ops", folder / "ops")
    functions = {
        "causal_conv1d_fwd_function": forward,
        "causal_conv1d_bwd_function": backward,
        "causal_conv1d_update_function": None,
    }
    stand_ins = [
        bare("mamba_ssm", folder, ops=ops),
        ops,
        bare("causal_conv1d", causal_conv1d_fn=lambda *_, **__: None),
        bare("causal_conv1d.cpp_functions", **functions),
    ]
    with pytest.MonkeyPatch.context() as patch:
        for module in stand_ins:
            patch.setitem(sys.modules, module.__name__, module)
        patch.setattr(jit.KernelInterface, "__getitem__", lambda *_: lambda *_, **__: None)
        best = property(lambda kernel: kernel.configs[0], lambda *_: None)
        patch.setattr(autotuner.Autotuner, "best_config", best, raising=False)
        kinds = {f"transformers.models.{kind}." for kind, _ in MODELS}
        for name in [n for n in sys.modules if any(n.startswith(kind) for kind in kinds)]:
            patch.delitem(sys.modules, name)
        yield


COMMON = {"hidden_size": 256, "vocab_size": 1000, "num_hidden_layers": 2}
MAMBA = {"num_heads": 8, "head_dim": 64, "state_size": 32, "n_groups": 2, "chunk_size": 64}
ATTENTION = {"intermediate_size": 512, "num_attention_heads": 4, "num_key_value_heads": 2}
SCAN = {
    "mamba_n_heads": 8,
    "mamba_d_head": 64,
    "mamba_d_state": 32,
    "mamba_n_groups": 1,
    "mamba_chunk_size": 64,
}
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2, "shared_intermediate_size": 512}
MODELS = [
    ("mamba2", {**COMMON, **MAMBA}),
    # rows that the convolution copies, and biases
    (
        "mamba2",
        {**COMMON, **MAMBA, "num_heads": 4, "head_dim": 128, "n_groups": 1, "use_bias": True},
    ),
    ("bamba", {**COMMON, **ATTENTION, **SCAN, "attn_layer_indices": [1]}),
    (
        "granitemoehybrid",
        {**COMMON, **ATTENTION, **SCAN, **EXPERTS, "layer_types": ["mamba", "attention"]},
    ),
    (
        "nemotron_h",
        {
            **{k: v for k, v in COMMON.items() if k != "num_hidden_layers"},
            **ATTENTION,
            "head_dim": 64,
            "layers_block_type": ["mamba", "attention"],
            "mamba_num_heads": 8,
            "mamba_head_dim": 64,
            "ssm_state_size": 32,
            "n_groups": 2,
            "chunk_size": 64,
        },
    ),
]
WAYS = [
    {"precision": "bf16", "seq_len": 256},
    {"precision": "bf16", "seq_len": 1500},
    {"precision": "bf16-mixed", "seq_len": 256},
    {"precision": "bf16-mixed", "seq_len": 256, "checkpointing": True},
    {"precision": "bf16", "seq_len": 200, "padded": True},
]


@pytest.mark.parametrize("way", WAYS, ids=lambda w: "-".join(map(str, w.values())))
@pytest.mark.parametrize(
    ("kind", "given"), MODELS, ids=["mamba2", "mamba2-odd", "bamba", "granite", "nemotron"]
)
def test_a_step_with_kernels(kind, given, way):
    seen = real(kind, given, **way)
    mine = ours(kind, given, kernels="installed", **way)
    assert differences(seen, mine, small=SMALL) == []
