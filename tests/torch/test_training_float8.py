"""Full fine-tuning with products in float8: programs over shapes against torchao's linears."""

import pytest

pytest.importorskip("torch")
pytest.importorskip("accelerate")
pytest.importorskip("torchao")

from accelerate.utils.ao import convert_model_to_fp8_ao

from tests.torch.training_oracle import differences, ours, real

pytestmark = pytest.mark.filterwarnings("ignore")  # of torchao's kernels that do not load
SMALL = 1024
SIZES = {
    "hidden_size": 256,
    "intermediate_size": 704,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": 1000,
}
CASES = [
    ("qwen3", SIZES, {}),
    ("qwen3", SIZES, {"checkpointing": True}),
    ("qwen2", SIZES, {"framework": "trainer"}),  # with biases
    ("qwen3", {**SIZES, "intermediate_size": 700}, {}),  # which is no multiple of 16
]


def converted(model):
    convert_model_to_fp8_ao(model)
    return model


@pytest.mark.parametrize(("kind", "config", "settings"), CASES, ids=range(len(CASES)))
def test_a_step_in_float8_takes_what_ours_takes(kind, config, settings):
    seen = real(kind, config, precision="bf16-mixed", prepare=converted, gpu="h100", **settings)
    mine = ours(kind, config, precision="fp8-mixed", gpu="h100", **settings)
    assert differences(seen, mine, small=SMALL, close=0.001) == []
