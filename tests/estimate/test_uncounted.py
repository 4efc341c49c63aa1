"""What is not counted cannot fit: a verdict over components that are missing is `cannot say`."""

import json

import pytest

import weighbridge
from tests import packings
from tests.sparse import write_repo
from tests.told import full
from weighbridge.base.errors import UnsupportedError
from weighbridge.faces.cli.menu import run
from weighbridge.faces.cli.options import exit_code

CARD = "h100"
UNET = {"_class_name": "UNet2DConditionModel"}
INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "text_encoder": ["transformers", "LlamaForCausalLM"],
    "unet": ["diffusers", "UNet2DConditionModel"],
}
ADAPTER = {"peft_type": "LORA", "base_model_name_or_path": "org/base", "r": 8, "lora_alpha": 16}


@pytest.fixture(params=["text first", "unet first"])
def pipeline(request, tmp_path):
    """The order of the index decides which part is met first."""
    write_repo(tmp_path / "unet", UNET, {"conv_in.weight": ("F16", (4, 4, 3, 3))})
    write_repo(tmp_path / "text_encoder", packings.CONFIG, packings.plain())
    index = INDEX if request.param == "text first" else dict(reversed(INDEX.items()))
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    return str(tmp_path)


def test_a_pipeline_is_its_weights_and_cannot_be_said(pipeline, capsys):
    found = weighbridge.infer(pipeline, gpu=CARD)
    assert found.verdict.fits == "unknown"
    assert "weights only" in found.verdict.reason
    (missing,) = found.to_dict()["derived"]["not_counted"]
    assert "unet" in missing
    assert "text_encoder" in missing
    assert found.peak == weighbridge.load(pipeline, gpu=CARD).peak
    assert "launch" not in found.derived, "no AutoModel loads it"
    assert run(["infer", pipeline, "--gpu", CARD, "--check"]) == 4
    told = capsys.readouterr()
    assert "weights alone" in " ".join(told.out.split())
    assert "not counted: what" in told.out
    assert "AutoModel" not in told.out
    assert "not counted" in told.err


def test_weights_that_are_too_large_still_do_not_fit(pipeline):
    assert weighbridge.infer(pipeline, gpu_memory="100MiB").verdict.fits == "no"


@pytest.mark.parametrize("engine", ["vllm", "sglang", "llama.cpp"])
def test_no_server_takes_the_first_part_for_the_whole(pipeline, engine):
    with pytest.raises(UnsupportedError, match="--engine transformers answers"):
        weighbridge.infer(pipeline, engine=engine)


def test_nor_is_it_trained(pipeline):
    with pytest.raises(UnsupportedError, match="trace"):
        weighbridge.train(pipeline)


@pytest.fixture
def adapter(tmp_path):
    write_repo(tmp_path, {}, {"base_model.model.q_proj.lora_A.weight": ("F32", (8, 256))})
    (tmp_path / "config.json").rename(tmp_path / "adapter_config.json")
    (tmp_path / "adapter_config.json").write_text(json.dumps(ADAPTER))
    return str(tmp_path)


@pytest.mark.parametrize(("ram", "code"), [("100MiB", 1), ("64GiB", 4)])
def test_the_host_of_an_adapter_is_judged(adapter, ram, code):
    found = weighbridge.infer(adapter, ram=ram)
    assert found.workload["ram"] == ram
    assert found.verdict.host.fits == ("no" if code == 1 else "yes")
    assert run(["infer", adapter, "--ram", ram, "--check"]) == code


def test_an_answer_without_a_verdict_cannot_say(adapter):
    told = weighbridge.infer(adapter)
    assert told.verdict is None
    assert (exit_code(told, check=True), exit_code(told, check=False)) == (4, 0)


def test_an_adapter_alone_lacks_its_base(adapter):
    found = weighbridge.infer(adapter, gpu=CARD)
    assert found.verdict.fits == "unknown"
    assert "org/base" in found.verdict.reason


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("wav2vec2-base", "samples of a sound"),
        ("hubert-base", "samples of a sound"),
        ("xlnet-base-cased", "relative positions"),
        ("deberta-v3-small", "relative positions"),
    ],
)
def test_what_is_not_followed_is_said(model, words):
    found = weighbridge.infer(model, gpu=CARD)
    assert found.verdict.fits == "unknown"
    assert words in found.verdict.reason
    assert any(words in line for line in found.warnings)
    for name in ("largest_context", "largest_batch_size", "max_concurrency", "kv_cache_tokens"):
        assert found.to_dict()["derived"][name] is None, "not known, which is not none"
    assert "not known: something is not counted" in full(found)
    assert f"not counted: {found.derived['not_counted'][0]}" in " ".join(str(found).split())
    assert weighbridge.load(model, gpu=CARD).verdict.fits == "yes"
    assert weighbridge.infer(model).verdict is None
    small = weighbridge.infer(model, gpu_memory="50MiB")
    assert small.verdict.fits == "no", "the weights are more than that"


@pytest.mark.slow
@pytest.mark.parametrize("model", ["gpt2", "t5-small", "vit-base-patch16-224", "dinov2-giant"])
def test_what_is_followed_is_not(model):
    found = weighbridge.infer(model, gpu=CARD)
    assert found.verdict.fits == "yes"
    assert found.derived["not_counted"] == []


def test_the_largest_dinov2_computes_as_the_others_do():
    """40 layers of 1,536, with both halves of a gated feed-forward in one matrix."""
    phases = weighbridge.infer("dinov2-giant").devices[0].phases
    (step,) = (c.bytes for c in phases[1].components if c.name == "activations")
    assert step.expected > 90 << 20


@pytest.mark.slow
def test_an_unknown_type_of_layers_is_said(tmp_path):
    config = packings.CONFIG | {"model_type": "never_heard_of"}
    write_repo(tmp_path, config, packings.plain())
    found = weighbridge.infer(str(tmp_path), gpu=CARD)
    assert found.verdict.fits == "unknown"
    assert "'never_heard_of'" in found.verdict.reason


@pytest.mark.slow
@pytest.mark.parametrize("asked", [{}, {"images": 1}])
def test_a_tower_of_convolutions_matters_where_there_is_an_image(asked):
    from tests.arch.published_multimodal import PUBLISHED

    kind, cls, config, _ = PUBLISHED["google/gemma-3n-E4B-it"]
    sizes = {"text_config": {"hidden_size": 2048, "num_hidden_layers": 35}}  # the class's own
    config = config | sizes | {"model_type": kind, "architectures": [cls]}
    found = weighbridge.infer(config, gpu=CARD, **asked)
    assert found.verdict.fits == ("unknown" if asked else "yes")


@pytest.mark.slow
@pytest.mark.parametrize("model", ["wav2vec2-base", "hubert-base"])
def test_a_step_that_is_not_followed_does_not_fit(model):
    words = "samples of a sound"
    found = weighbridge.train(model, gpu="t4", seq_len=64)
    assert found.verdict.fits == "unknown"
    assert words in found.verdict.reason
    assert any(words in line for line in found.warnings)
    assert words in found.derived["not_counted"][0]
    assert weighbridge.train(model, gpu_memory="50MiB", seq_len=64).verdict.fits == "no"
    assert weighbridge.train("qwen3-0.6b", seq_len=64).derived["not_counted"] == []
