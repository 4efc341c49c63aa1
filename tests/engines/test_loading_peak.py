"""Checkpoints in 16 bits that a server packs while it loads them."""

import pytest

import weighbridge
from weighbridge.base.memory import Bytes
from weighbridge.memory.report import Report

MIXTURE = "qwen3-30b-a3b"


def served(engine: str, version: str, form: str = "fp8") -> Report:
    return weighbridge.infer(
        MIXTURE, engine=engine, engine_version=version, quantization=form, gpu="h100-sxm5-80gb"
    )


def arriving(found: Report) -> Bytes:
    phase = next(p for p in found.devices[0].phases if p.name == "load")
    parts = [c.bytes for c in phase.components if c.detail.startswith("weights in 16 bits")]
    return parts[0] if parts else Bytes(0, 0, 0)


def weights(found: Report) -> int:
    first = found.devices[0].phases[0].components
    return next(c.bytes.expected for c in first if c.name == "weights" and not c.detail)


def whole(engine: str, version: str) -> int:
    return weights(weighbridge.infer(MIXTURE, engine=engine, engine_version=version))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "version"), [("vllm", "0.12"), ("sglang", "0.5.5"), ("sglang", "0.5.23")]
)
def test_all_of_it_is_there_before_it_is_packed(engine: str, version: str) -> None:
    found = served(engine, version)
    assert weights(found) + arriving(found).expected == whole(engine, version)


@pytest.mark.slow
@pytest.mark.parametrize("version", ["0.13.0", "0.14.0"])
def test_both_are_there_and_80_gb_do_not_surely_hold_them(version: str) -> None:
    """vLLM's pull request 32773: this model, out of memory on a card of 80 GB."""
    found = served("vllm", version)
    assert found.verdict is not None
    assert found.verdict.fits != "yes"
    assert found.devices[0].peak("driver").expected > 80 * 10**9


@pytest.mark.slow
def test_one_layer_is_there_at_a_time() -> None:
    found = served("vllm", "0.33")
    assert arriving(found).expected == whole("vllm", "0.33") // 48
    assert arriving(found).high < weights(found) // 4
    assert found.verdict is not None
    assert found.verdict.fits == "yes"


@pytest.mark.slow
def test_torchao_packs_what_is_there_whole() -> None:
    """--torchao-config of SGLang before 0.5.18: the model is loaded in 16 bits, and packed then."""
    asked = {"engine": "sglang", "engine_version": "0.5.14", "context": 512, "gpu": "h100"}
    packed, plain = (
        weighbridge.infer("llama-3.1-8b", **asked, **form)
        for form in ({"quantization": "torchao-int4-g128"}, {})
    )
    assert arriving(packed).low + weights(packed) == pytest.approx(weights(plain), rel=1e-3)


@pytest.mark.slow
def test_bitsandbytes_packs_each_tensor_alone() -> None:
    assert arriving(served("vllm", "0.13", "bitsandbytes")) == Bytes(0, 0, 0)


# ---- packed weights that are laid out anew


def laid_out(model: str, gpu: str, **settings: int) -> Bytes:
    found = weighbridge.infer(model, engine="vllm", engine_version="0.12", gpu=gpu, **settings)
    parts = {c.detail: c.bytes for c in found.devices[0].phases[0].components}
    return parts.get("experts, while they are laid out anew", Bytes(0, 0, 0))


@pytest.mark.slow
def test_experts_in_mxfp4_are_laid_out_anew() -> None:
    """TensorRT-LLM's pull request 16125 read 9.3 GiB for gpt-oss-120b on a Hopper card: eight
    temporaries and copies of one tensor of 128 x 5,760 x 1,440 bytes."""
    tensor = 128 * 5760 * 1440
    found = laid_out("gpt-oss-120b", "h100")
    assert (found.expected, found.high) == (9 * tensor, 10 * tensor)
    assert found.low <= 9.3 * 2**30 <= found.high
    other = laid_out("gpt-oss-120b", "a100-80gb")
    padded = 128 * 5888 * 1536  # Marlin's tiles: 128 by 256
    assert (other.expected, other.high) == (2 * padded, 3 * padded)
    assert laid_out("gpt-oss-20b", "h100").expected == 9 * tensor // 4, "32 experts of 128"
    assert laid_out("qwen3-30b-a3b", "h100") == Bytes(0, 0, 0)


@pytest.mark.slow
def test_ranks_lay_out_what_they_hold() -> None:
    two = laid_out("gpt-oss-120b", "h100:2", tensor_parallel_size=2)
    assert 0.45 < two.expected / laid_out("gpt-oss-120b", "h100").expected < 0.55


def test_it_is_gone_once_the_model_serves() -> None:
    found = weighbridge.infer("gpt-oss-120b", engine="vllm", gpu="h100")
    after = (c.detail for p in found.devices[0].phases[1:] for c in p.components)
    assert "experts, while they are laid out anew" not in set(after)
    assert found.verdict is not None
    assert found.verdict.fits == "yes", "as its makers say"


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_what_does_not_load_holds_no_tokens(engine: str) -> None:
    """Qwen3-235B in 16 bits is 109 GiB on each of four cards, whatever share of them is asked for
    later: one story, in the verdict, in what it serves and in its reason."""
    found = weighbridge.infer(
        "qwen3-235b-a22b",
        engine=engine,
        engine_version={"vllm": "0.9.2", "sglang": "0.5.23"}[engine],
        quantization="fp8",
        gpu="h100-sxm5-80gb:4",
        context=40_960,
        tensor_parallel_size=4,
    )
    assert found.verdict is not None
    assert found.verdict.fits == "no"
    told = found.derived
    assert (told["kv_cache_tokens"], told["max_concurrency"]) == (0, 0.0)
    assert not told["serves_as_asked"]
    assert not told["launch_serves"]
    assert "cached tokens" not in str(found)
    if engine == "vllm":
        assert any(w.startswith("vLLM does not load: that takes 1") for w in found.warnings)


@pytest.mark.slow
def test_the_margin_of_activations_is_not_around_weights_that_load() -> None:
    """The interval is that of the release: a layer more at most, where all of it is there."""
    one = arriving(served("vllm", "0.12"))
    assert one.low == one.expected
    assert one.high == one.expected + whole("vllm", "0.12") // 48


@pytest.mark.slow
def test_a_repository_in_fp8_is_loaded_as_it_is_stored() -> None:
    """Qwen3-235B-A22B-FP8, 0.9.2, four H100: it runs, with 178,880 cached tokens."""
    found = weighbridge.infer(
        "Qwen3-235B-A22B-FP8",
        engine="vllm",
        engine_version="0.9.2",
        gpu="h100-sxm5-80gb:4",
        context=40_960,
        tensor_parallel_size=4,
    )
    assert found.verdict is not None
    assert found.verdict.fits == "yes"
    assert arriving(found) == Bytes(0, 0, 0)
    tokens = found.derived["kv_cache_tokens"]
    assert tokens is not None
    assert tokens == pytest.approx(178_880, rel=0.05)
    assert "Qwen/Qwen3-235B-A22B-FP8 " in found.derived["launch"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "made"), [("fp8-block", False), ("fp8_per_block", True), ("fp8", True)]
)
def test_a_format_that_no_flag_makes_is_a_checkpoints(form: str, made: bool) -> None:
    """A repository publishes under the format's name; what vLLM's own name says is made on the way."""
    assert (arriving(served("vllm", "0.25", form)).expected > 0) is made


@pytest.mark.slow
def test_a_name_with_a_format_is_the_repository_that_is_published_in_it() -> None:
    asked = {"engine": "vllm", "engine_version": "0.9.2", "gpu": "h100:4"}
    named = weighbridge.infer(
        "qwen3-235b-a22b", quantization="fp8-block", tensor_parallel_size=4, **asked
    )
    stored = weighbridge.infer("qwen3-235b-a22b-fp8", tensor_parallel_size=4, **asked)
    assert named.devices[0].peak("driver") == stored.devices[0].peak("driver")
