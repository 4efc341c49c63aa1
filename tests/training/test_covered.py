"""What is not covered is refused in one line that says what to do."""

from contextlib import suppress
from pathlib import Path

import pytest

import weighbridge
from tests.cases import each
from weighbridge.base.errors import UnsupportedError, UsageError, WeighbridgeError
from weighbridge.models import catalogue
from weighbridge.models.arch.model_types import all_types

VIT = {"model_type": "vit", "architectures": ["ViTForImageClassification"], "hidden_size": 768}
MAMBA = {"model_type": "mamba", "hidden_size": 768}
MIXTRAL = {
    "model_type": "mixtral",
    "architectures": ["MixtralForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 256,
}


def refusal(model, kind=UsageError, **more):
    with pytest.raises(kind) as found:
        weighbridge.train(model, seq_len=64, **more)
    said = str(found.value)
    assert "\n" not in said and ".." not in said and "--exact" not in said
    return said


def test_what_has_no_layers_is_refused():
    sounds = {"model_type": "encodec", "architectures": ["EncodecModel"], "hidden_size": 128}
    sizes = {"num_filters": 32, "codebook_size": 1024, "num_lstm_layers": 2}
    said = refusal({**sounds, **sizes}, UnsupportedError)
    assert "no layers" in said and "weighbridge trace" in said


def test_packed_experts_are_refused():
    said = refusal("mixtral-8x7b", UnsupportedError, method="lora", quantization="fp8-block")
    assert "experts in fp8-block are not covered yet" in said


@pytest.mark.parametrize(
    ("model", "framework"), [("qwen3-30b-a3b", "torchtune"), ("mixtral-8x7b", "torchtitan")]
)
def test_experts_of_other_frameworks_are_refused(model, framework):
    assert f"as {framework} runs them" in refusal(model, UnsupportedError, framework=framework)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (VIT | {"image_size": 0}, "image_size 0"),
        (VIT | {"image_size": 8, "patch_size": 16}, "patch_size 16"),
        (MIXTRAL | {"num_local_experts": 0}, "gate.weight of MixtralForCausalLM would be 0 x"),
        ({"model_type": "t5", "d_model": 512, "num_decoder_layers": 0}, ""),
        ({"model_type": "t5", "d_model": 512, "d_kv": 1_000_000}, "keys are 1,000,000"),
        (MIXTRAL | {"num_experts_per_tok": 0}, "cannot use 0 of 8 experts"),
        (MIXTRAL | {"intermediate_size": 0}, "w1.weight of MixtralForCausalLM would be 0 x"),
        (MIXTRAL | {"hidden_size": 1 << 32}, "has 1.1e+20 parameters, more than any model"),
        (MIXTRAL | {"num_attention_heads": 8, "num_key_value_heads": 3}, "8 heads over 3"),
        (MAMBA | {"expand": 0}, "conv1d.weight of MambaForCausalLM would be 0 x"),
        ({1: 2, "model_type": "llama"}, "keys of a config are text"),
    ],
)
def test_configs_without_a_step(config, words):
    assert words in refusal(config, WeighbridgeError)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("name", each(8, catalogue.names()))
def test_every_model_of_the_catalogue_has_an_answer_or_a_refusal(name, method):
    """Anything else would be what the command line calls a defect."""
    with suppress(WeighbridgeError):
        weighbridge.train(name, method=method)


@pytest.mark.slow
def test_weights_in_fp8_are_trained_dequantized():
    report = weighbridge.train("deepseek-v3", method="lora", lora_targets="q_a_proj", seq_len=64)
    assert any("dequantized to bfloat16" in said for said in report.warnings)
    load = report.devices[0].phases[0]
    weights = sum(c.bytes.expected for c in load.components if c.name == "weights")
    assert weights == pytest.approx(2 * 671_026_404_352, rel=1e-3)


@pytest.mark.slow
def test_weights_in_mxfp4_are_trained_dequantized():
    report = weighbridge.train("gpt-oss-20b", method="lora", seq_len=64)
    assert any("mxfp4 are taken as dequantized to bfloat16" in said for said in report.warnings)
    load = report.devices[0].phases[0]
    weights = sum(c.bytes.expected for c in load.components if c.name == "weights")
    assert weights == pytest.approx(2 * 20_914_757_184, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "kernel"),
    [("gpt-oss-20b", "cudnn"), ("bloom-560m", "flash"), ("all-mpnet-base-v2", "flash")],
)
def test_what_is_written_out_is_no_kernels(name, kernel):
    said = refusal(name, attention=kernel)
    assert f"--attention {kernel}" in said and "leave it out" in said


def test_the_documentation_names_every_family():
    docs = (Path(__file__).parents[2] / "docs" / "training.md").read_text()
    assert [
        name
        for name, known in all_types().items()
        if known.training.net and f"`{name}`" not in docs
    ] == []
