"""The servers' own names for --quantization, asked without a command."""

import pytest

from tests.engines.answers import answer, of_config, part
from weighbridge import infer
from weighbridge.base.errors import UsageError
from weighbridge.base.units import GIB
from weighbridge.engines.format_choice import format_asked
from weighbridge.engines.launch import parse
from weighbridge.engines.table import ENGINES
from weighbridge.models import catalogue
from weighbridge.models.quantization.schemes import scheme

# Where and when such a name is read, where not on Hopper by the newest release
CARDS = {"nvfp4_online": "b200-sxm-180gb", "quark_mxfp4": "mi300x", "ptpc_fp8": "mi300x"}
RELEASES = {("vllm", "bitsandbytes"): "0.27", ("vllm", "ptpc_fp8"): "0.18"}


def weights(found):
    return part(found.devices[0].phases[0], "weights")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "name"), [(engine, name) for engine, kind in ENGINES.items() for name in kind.online]
)
def test_a_name_of_the_engine_is_its_format(engine, name):
    """And the launch line asks for it by the same name, which reads back as the same weights."""
    ours = scheme(ENGINES[engine].online[name]).name
    place = {"gpu": CARDS.get(name, "H100"), "engine_version": RELEASES.get((engine, name))}
    own, same = (
        answer("llama-3.1-8b", engine=engine, quantization=form, context=512, **place)
        for form in (name, ours)
    )
    assert weights(own) == weights(same)
    line = own.derived["launch"]
    assert f"--quantization {name}" in line
    assert parse(line).settings["quantization"] == ours
    assert not [w for w in own.warnings if "unquantized" in w]


def test_vllms_fp8_of_llama():
    """Every linear in a byte, with a scale; 128,256 x 4,096 words twice in two bytes: 8.46 GiB."""
    found = answer("llama-3.1-8b", engine="vllm", quantization="fp8", context=512)
    linears = 8_030_261_248 - 2 * 128_256 * 4096
    assert weights(found) == pytest.approx(linears + 2 * 2 * 128_256 * 4096, rel=1e-4)
    assert weights(found) / GIB == pytest.approx(8.46, abs=0.01)


def test_names_of_checkpoints():
    """They say what is stored: nothing of a model that is stored so, a question of another."""
    raw = {
        **catalogue.find("qwen3-8b").config,
        "quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 128},
    }
    stored = of_config(raw)
    plain, named = (
        answer(stored, engine="vllm", context=512, quantization=name)
        for name in (None, "awq_marlin")
    )
    assert weights(plain) == weights(named)
    with pytest.raises(UsageError, match="awq-4bit-g128"):
        answer("qwen3-8b", engine="vllm", context=512, quantization="awq")


def test_other_names_are_left_as_they_are():
    assert format_asked(ENGINES["vllm"], "nf4", packed=False) == "nf4"
    assert format_asked(ENGINES["vllm"], "fp8", packed=True) is None
    assert format_asked(ENGINES["sglang"], "mxfp4", packed=False) == "mxfp4"
    assert format_asked(ENGINES["transformers"], "fp8", packed=False) == "fp8"
    with pytest.raises(UsageError, match="plain dtype"):
        answer("llama-3.1-8b", engine="transformers", quantization="fp8")


@pytest.mark.slow
@pytest.mark.parametrize(
    "line", ["vllm serve llama-3.1-8b -q gptq", "sglang serve --model-path llama-3.1-8b -q gptq"]
)
@pytest.mark.parametrize("gpu", [None, "t4"])  # no verdict, and one that is no already
def test_a_name_of_checkpoints_on_a_plain_one_is_never_silent(line, gpu):
    line = line if "vllm" in line else line.replace("-q", "--quantization")
    found = infer(command=line, gpu=gpu)
    assert any("gptq is of a checkpoint that is stored so" in w for w in found.warnings)
