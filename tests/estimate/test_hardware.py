"""What a card has no hardware for, whose libraries it runs on, and what a name was read as."""

import pytest

import weighbridge
from tests.packings import CONFIG
from weighbridge.base.errors import UnsupportedError
from weighbridge.faces.cli.menu import run
from weighbridge.machines.accelerators.names import find
from weighbridge.machines.accelerators.parts import parts

SMALL = "llama-3.2-1b"
PARAMETERS = 1_235_814_400
ASK = {"load": weighbridge.load, "infer": weighbridge.infer, "train": weighbridge.train}


def said(report, word):
    return [line for line in report.warnings if word in line]


def names(report):
    parts = [c for d in report.devices if d.kind == "gpu" for p in d.phases for c in p.components]
    return {(c.name, c.detail) for c in parts}


# Units


@pytest.mark.slow
@pytest.mark.parametrize("task", ASK)
@pytest.mark.parametrize(("gpu", "told"), [("v100", True), ("t4", True), ("a10", False)])
def test_bfloat16_is_emulated_before_ampere(task, gpu, told):
    settings = {"seq_len": 64} if task == "train" else {}
    found = said(ASK[task](SMALL, gpu=gpu, **settings), "no bfloat16 hardware")
    assert bool(found) == told
    assert all("float16" in line or "fp16-mixed" in line for line in found)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["load", "infer"])
def test_float16_has_units_everywhere(task):
    assert not said(ASK[task](SMALL, gpu="t4", dtype="float16"), "units")


def weights(report):
    load = report.devices[0].phases[0]
    return sum(c.bytes.expected for c in load.components if c.name == "weights")


@pytest.mark.slow
@pytest.mark.parametrize("task", ["load", "infer"])
@pytest.mark.parametrize("form", ["fp8-block", "mxfp4"])
def test_transformers_unpacks_what_a_card_has_no_units_for(task, form):
    """The verdict is about 16 bits a number, which may be twice or four times as much."""
    old = {"fp8-block": "3090", "mxfp4": "v100"}[form]
    plain, packed = (ASK[task](SMALL, gpu=g, quantization=form) for g in (old, "h100"))
    assert weights(plain) == 2 * PARAMETERS
    assert weights(packed) < 1.5 * PARAMETERS
    assert said(plain, f"no {form} hardware")
    assert not said(packed, "units")
    assert plain.workload["quantization"] is None
    assert packed.workload["quantization"] == form


@pytest.mark.parametrize("task", ["load", "infer"])
def test_transformers_4_refuses_float8_there(task):
    with pytest.raises(UnsupportedError, match=r"RTX 3090 has no fp8-block hardware.*vllm"):
        ASK[task](SMALL, gpu="3090", quantization="fp8-block", engine_version="4.57")


def test_compressed_tensors_are_not_transformers_own_float8():
    """compressed-tensors keeps them packed on any card."""
    form = {
        "quant_method": "compressed-tensors",
        "format": "float-quantized",
        "config_groups": {
            "group_0": {
                "targets": ["Linear"],
                "weights": {"num_bits": 8, "type": "float", "strategy": "channel"},
            }
        },
    }
    old, new = (
        weighbridge.load({**CONFIG, "quantization_config": form}, gpu=g) for g in ("3090", "h100")
    )
    assert weights(old) == weights(new)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_servers_keep_float8_packed_and_say_how_they_multiply(engine):
    report = weighbridge.infer(
        SMALL, engine=engine, quantization="fp8-block", gpu="3090", batch_size=1
    )
    assert said(report, "no float8 hardware")
    assert weights(report) < 1.5 * PARAMETERS


# Libraries


@pytest.mark.slow
@pytest.mark.parametrize("task", ASK)
@pytest.mark.parametrize("gpu", ["m3 max 64gb", "gaudi2", "arc b580"])
def test_rows_of_cuda_are_on_no_other_stack(task, gpu):
    settings = {"seq_len": 64} if task == "train" else {}
    found = names(ASK[task](SMALL, gpu=gpu, **settings))
    assert not {"context", "workspaces"} & {name for name, _ in found}
    vendor = find(gpu).part.vendor
    assert ("other", f"{vendor}'s runtime") in found


@pytest.mark.slow
def test_llama_cpp_on_metal_has_no_pool_of_cuda():
    found = names(weighbridge.infer(SMALL, engine="llama.cpp", gpu="m3 max 64gb"))
    assert not any("CUDA" in detail for _, detail in found)
    assert "context" not in {name for name, _ in found}
    cuda = names(weighbridge.infer(SMALL, engine="llama.cpp", gpu="4090"))
    assert ("workspaces", "CUDA pool") in cuda


@pytest.mark.parametrize("task", ASK)
def test_rocm_has_names_of_its_own(task):
    settings = {"seq_len": 64} if task == "train" else {}
    report = ASK[task](SMALL, gpu="mi300x", **settings)
    told = " ".join(
        f"{c.detail} {c.formula}" for p in report.devices[0].phases for c in p.components
    )
    assert "HIP context" in told
    assert "CUDA context" not in told
    assert "cuBLAS" not in told


def test_every_vendor_has_a_stack():
    stacks = {p.vendor: p.stack for p in parts().values()}
    assert stacks["NVIDIA"] == "cuda"
    assert stacks["AMD"] == "hip"
    assert {s for v, s in stacks.items() if v not in ("NVIDIA", "AMD")} == {"own"}


# Names


@pytest.mark.slow
@pytest.mark.parametrize("task", ASK)
def test_a_size_as_a_name_says_what_it_was_read_as(task):
    settings = {"seq_len": 64} if task == "train" else {}
    (line,) = said(ASK[task](SMALL, gpu="23GB", **settings), "--gpu:")
    assert "23GB is read as 23,000,000,000 bytes (21.42 GiB)" in line
    assert not said(ASK[task](SMALL, gpu_memory="24GB", **settings), "read as")


@pytest.mark.slow
@pytest.mark.parametrize("task", ASK)
def test_a_size_that_is_sold_is_what_such_cards_give(task):
    """24 GB on a box is no 22.35 GiB: what is expected was read of a card that is sold with it."""
    settings = {"seq_len": 64} if task == "train" else {}
    report = ASK[task](SMALL, gpu="24GB", **settings)
    (line,) = said(report, "--gpu:")
    assert "cards sold with 24 GB give it 21.82 GiB to 24.00 GiB:" in line
    usable = find("24gb").part.visible.bytes
    figures = [p.visible for p in parts().values() if p.marketed_gb == 24]
    assert usable.expected in [f.bytes.expected for f in figures if f.basis == "read"]
    assert usable.low < usable.expected < usable.high


@pytest.mark.parametrize(("name", "told"), [("24GiB", "cards sold"), ("23GB", "")])
def test_cards_of_such_a_size_are_named_where_there_are_some(name, told):
    note = find(name).note
    assert "is read as" in note
    assert told in note
    assert ("cards sold" in note) == (name != "23GB")


@pytest.mark.parametrize("task", ASK)
@pytest.mark.parametrize("flag", ["--gpu-memory", "--ram"])
def test_a_second_device_is_an_error(task, flag, capsys):
    """Not the last of them in silence."""
    values = ["24GiB", "80GiB"]
    assert run([task, SMALL, flag, values[0], flag, values[1]]) == 2
    out = capsys.readouterr()
    assert not out.out
    (line,) = out.err.splitlines()
    assert f"{flag} is given 2 times ({', '.join(values)})" in line


@pytest.mark.slow
def test_trl_says_that_it_loads_in_float32():
    """A name is loaded in float32; adapters on TRL, typed or not, in 16 bits."""
    for settings in ({}, {"method": "lora"}):
        usual = weighbridge.train(SMALL, framework="trl", seq_len=64, **settings)
        asked = weighbridge.train(SMALL, framework="trl", seq_len=64, dtype="bfloat16", **settings)
        assert bool(said(usual, "trl loads in float32")) == (not settings)
        assert not said(asked, "trl loads")
        assert not said(weighbridge.train(SMALL, seq_len=64, **settings), "trl loads")
