"""`measure image|video|train-image`: diffusers' own classes and loops, with a fake GPU for a card."""

import json

import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("peft")

from tests.torch.test_measured_questions import CARD, both, same
from weighbridge.base.errors import UnsupportedError
from weighbridge.base.records import replace
from weighbridge.faces.cli import menu
from weighbridge.models.catalogue import pipelines
from weighbridge.pictures.spec import spec
from weighbridge_lab.measure import pictures
from weighbridge_lab.measure.run import Target

TEXT = {"d_model": 64, "d_ff": 128, "d_kv": 16, "num_heads": 4, "num_layers": 2, "vocab_size": 1000}
CLIP = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "vocab_size": 1000}
CLIP |= {"num_attention_heads": 4, "projection_dim": 64}
PIXART = {
    "text_encoder": TEXT,
    "transformer": {
        "num_layers": 4,
        "num_attention_heads": 8,
        "attention_head_dim": 32,
        "cross_attention_dim": 256,
        "caption_channels": 64,
        "sample_size": 128,
    },
}
FLUX = {
    "text_encoder": CLIP,
    "text_encoder_2": TEXT,
    "transformer": {
        "num_layers": 2,
        "num_single_layers": 2,
        "num_attention_heads": 4,
        "joint_attention_dim": 64,
        "pooled_projection_dim": 64,
    },
}
SMALL = {"pixart-sigma": PIXART, "flux.1-dev": FLUX}
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")


@pytest.fixture
def small(tmp_path):
    """A folder of a pipeline, of which some sizes are small."""

    def folder(name):
        index = {"_class_name": "AnyPipeline", "_diffusers_version": "0.42.0"}
        for part, config in pipelines.find(name).parts.items():
            values = {**config, **SMALL[name].get(part, {})}
            (tmp_path / part).mkdir()
            (tmp_path / part / "config.json").write_text(json.dumps(values))
            theirs = "transformers" if "architectures" in values else "diffusers"
            index[part] = [theirs, values.get("_class_name") or values["architectures"][0]]
        (tmp_path / "model_index.json").write_text(json.dumps(index))
        return str(tmp_path)

    return folder


@pytest.mark.nightly
def test_pictures_beside_their_prediction(small, monkeypatch):
    """Loading is told of where it packs alone; its phase is measured, and has no pair."""
    words = (small("pixart-sigma"), "--size", "512x512")
    measured, predicted = both(monkeypatch, "image", *words)
    assert [p.name for p in measured.phases] == ["encode", "denoise", "decode", "load"]
    stages = replace(measured, phases=measured.phases[:3])
    same(stages, predicted, ["encode", "denoise", "decode"])


@pytest.mark.nightly
def test_training_of_a_denoiser_beside_its_prediction(small, monkeypatch):
    words = (small("flux.1-dev"), "--size", "512x512")
    measured, predicted = both(monkeypatch, "train-image", *words)
    names = ["load", "cache", "forward", "backward", "step"]
    assert [phase.name for phase in measured.phases] == names
    steps = replace(measured, phases=measured.phases[2:])
    same(steps, replace(predicted, phases=predicted.phases[2:]), names[2:])


@pytest.mark.parametrize("name", ["flux.1-dev", "wan2.1-t2v-1.3b", "qwen-image", "kolors", "ltx-2"])
def test_the_class_of_a_pipeline_is_that_of_the_module_that_its_row_cites(name):
    row = spec(pipelines.find(name))
    cls = pictures.pipeline_class(row)
    assert row.denoiser in pictures.signature(cls.__init__).parameters


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("train-image", "--method", "lokr"), "--method lokr"),
        (("train-image", "--framework", "kohya"), "--framework kohya"),
        (("image", "--quantization", "Q4_K_S"), "reads files that are not here"),
        (("image", "--engine", "comfyui"), "another engine's"),
    ],
)
def test_what_is_not_run_says_so(words, said):
    task, *rest = words
    with pytest.raises(UnsupportedError, match=said):
        Target(name=task, arguments=("flux.1-dev", *rest), card=CARD).run()


def test_the_program_is_written_over_zeros_and_loads_them(small, tmp_path, capsys):
    """--save FILE --zeros DIR: nothing is run, and the folder loads as a repository does."""
    import diffusers

    folder, script = tmp_path / "zeros", tmp_path / "made.py"
    words = ("image", small("flux.1-dev"), "--save", str(script), "--zeros", str(folder))
    assert menu.run(["measure", *words]) == 0
    assert str(folder) in script.read_text()
    compile(script.read_text(), "made.py", "exec")
    pipe = diffusers.DiffusionPipeline.from_pretrained(str(folder))
    assert type(pipe).__name__ == "FluxPipeline"
    assert pipe.transformer.config.num_layers == 2
    assert pipe.tokenizer.model_max_length == 77
