"""What people name a pipeline by: the beginning of its name, a file with all of it, a part of a
folder, a sentence; and what contradicts itself."""

import json
import struct

import pytest

import weighbridge
from tests.cases import all_of
from weighbridge.base.errors import ContradictionError, TriedError, UnsupportedError, UsageError
from weighbridge.base.memory import Instant
from weighbridge.base.sentences import key_of
from weighbridge.faces import api
from weighbridge.faces.cli.menu import run as command
from weighbridge.files.runfiles import read
from weighbridge.models.catalogue import pipelines
from weighbridge.pictures.formats import by_component
from weighbridge.pictures.request import notes, request
from weighbridge.pictures.spec import row_of, spec
from weighbridge.workload.picture import Picture

SDXL = "conditioner.embedders.1.model.transformer.resblocks.9.mlp.c_proj.bias"  # diffusers 0.42


@pytest.mark.parametrize(
    ("word", "first"),
    [("qwen", "qwen-image"), ("hunyuan", "hunyuan-video"), ("sd", "sd-1.5"), ("SD", "sd-1.5")],
)
def test_the_beginning_of_a_name_is_its_first_pipeline(word, first):
    assert pipelines.beginning(word)[0] == first


@all_of("word", ["z", "cog", "xq", "", "a/b", "sdx"])
def test_a_word_within_a_name_is_none(word):
    assert pipelines.beginning(word) == []


@pytest.mark.slow
def test_a_beginning_is_read_where_a_pipeline_is_asked_for_and_named_with_the_others():
    found = api.image("qwen", offline=True)
    assert found.workload["pipeline"] == "qwen-image"
    assert "qwen-image-edit-2509" in found.warnings[0]
    with pytest.raises(weighbridge.WeighbridgeError):
        weighbridge.infer("qwen", offline=True)


def checkpoint(path, *names):
    """A file with tensors of two bytes each."""
    tensors = {
        name: {"dtype": "F16", "shape": [1], "data_offsets": [2 * i, 2 * i + 2]}
        for i, name in enumerate(names)
    }
    header = json.dumps(tensors).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(2 * len(names)))
    return str(path)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["image", "infer", "train_image"])
def test_a_checkpoint_with_all_components_is_known_by_its_tensors(tmp_path, task):
    path = checkpoint(tmp_path / "myTune_v9.safetensors", "first_stage_model.x", SDXL)
    found = getattr(api, task)(path)
    assert found.workload["pipeline"] == "sdxl"
    assert any("holds all of sdxl" in line for line in found.warnings)


def test_files_with_all_components_by_their_names():
    whole = {name: pipelines.of_file(name).whole for name in WHOLE}
    assert whole == WHOLE


WHOLE = {
    "sd_xl_base_1.0.safetensors": True,
    "v1-5-pruned-emaonly.safetensors": True,
    "sdxl_lightning_4step_unet.safetensors": False,
    "sd3.5_large_fp8_scaled.safetensors": False,
    "flux1-dev-Q4_K_S.gguf": False,
}


def test_a_denoisers_folder_alone_says_what_lacks(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(pipelines.find("sdxl").parts["unet"]))
    model = weighbridge.prepare(str(tmp_path)).model()
    with pytest.raises(UnsupportedError, match=r"only the unet .* vae is needed.* image sdxl$"):
        row_of(model)


# ---- contradictions


@pytest.mark.parametrize("typed", ["fp8+nf4", "unet=fp8,unet=nf4", "text=fp8+text=nf4"])
def test_two_formats_of_one_component_are_refused(typed):
    with pytest.raises(ContradictionError, match="a component has one format"):
        by_component(typed, spec(pipelines.find("sdxl")))


def test_a_components_own_format_is_before_that_of_all():
    chosen = by_component("text_encoder=nf4+text=fp8", spec(pipelines.find("sdxl")))
    assert chosen == {"text_encoder": "nf4", "text_encoder_2": "fp8"}


def test_gguf_moves_leaf_by_leaf_in_groups_alone():
    """Sequential offload of GGUF ends in KeyError: None, and groups of leaves run (huggingface/
    diffusers issue 14691, FLUX.1-schnell Q4_K_S at 512 x 512, both tried there)."""
    asked = {"gpu": "3060", "quantization": "Q4_K_S", "size": "512x512"}
    with pytest.raises(TriedError, match="KeyError") as refused:
        weighbridge.infer("flux.1-schnell", offload="sequential", **asked)
    assert "14691" in refused.value.seen
    assert weighbridge.infer("flux.1-schnell", offload="group-leaf", **asked).fits
    assert weighbridge.infer("flux.1-schnell", offload="sequential", gpu="3060").fits


def test_a_files_format_and_another_one_are_refused():
    with pytest.raises(ContradictionError, match="in Q4_K_S, by its name, and nf4"):
        api.image("flux1-dev-Q4_K_S.gguf", quantization="nf4")


@pytest.mark.slow
def test_a_files_format_stands_beside_that_of_other_components():
    found = api.image("flux1-dev-Q4_K_S.gguf", quantization="text=fp8")
    assert found.workload["quantization"] == "Q4_K_S+text=fp8"


def test_seconds_and_frames_may_say_the_same():
    row = spec(pipelines.find("wan2.1-t2v-1.3b"))
    assert request(row, Picture(seconds=5, frames=81)).frames == 81
    with pytest.raises(ContradictionError, match="which is 81 frames"):
        request(row, Picture(seconds=5, frames=17))
    with pytest.raises(UsageError, match="last no seconds"):
        request(spec(pipelines.find("sdxl")), Picture(seconds=5))


# ---- what is on the screen


@pytest.mark.slow
def test_decoding_in_tiles_is_told_where_it_is_a_fallback():
    found = api.image("sdxl", engine="comfyui", size="2048x2048", gpu="3060")
    assert [s["stage"] for s in found.derived["picture_stages"] if s.get("tiled")] == ["decode"]
    assert "vae, in tiles" in str(found)


@pytest.mark.slow
def test_which_batch_is_meant():
    found = str(api.train_image("sd-1.5", gradient_accumulation=4, batch_size=2))
    assert "batch 2 a GPU" in found
    assert "a step has 4" in found.replace("\n", " ")


# ---- laws


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "lengths"),
    [("wan2.1-t2v-1.3b", (33, 49, 77, 81, 85, 89, 121)), ("cogvideox-2b", (9, 25, 49))],
)
def test_more_frames_never_need_less_but_for_room_that_the_allocator_left(name, lengths):
    """Where its segments lie is of another order with each length: that room goes back before torch
    gives up, and is in no lower bound. CogVideoX decodes two latent frames at a time, which take
    the same with every length; blocks that its denoiser left fit them, are a little larger (what is
    not split off is rounding) or do not."""
    phases = [{p.name: p for p in api.image(name, frames=n).devices[0].phases} for n in lengths]
    for stage in ("denoise", "decode"):
        held = [[c for c in p[stage].components if c.name != "rounding"] for p in phases]
        moments = [Instant(stage, tuple(one)) for one in held]
        allocated = [moment.at("allocated").expected for moment in moments]
        least = [moment.at("driver").low for moment in moments]
        assert allocated == sorted(allocated)
        assert least == sorted(least)


# ---- texts


@pytest.mark.parametrize(
    ("text", "task", "model"),
    [
        ("I have a 3060 and want to run Wan 2.2 at 720p", "image", "wan2.2-t2v-a14b"),
        ("FLUX dev on my 3060 with ComfyUI?", "image", "flux.1-dev"),
        ("does hunyuan video run on a 4070 ti", "image", "hunyuan-video"),
        ("train a FLUX LoRA on a 4090", "train_image", "flux.1-dev"),
        ("my wan link is slow, GPU memory is full", "infer", ""),
    ],
)
def test_a_sentence_names_a_pipeline(text, task, model):
    [run] = read(text, "mail").runs
    assert (run.task, run.model) == (task, model)
    assert run.open


# ---- values of the command line


def refused(**settings):
    with pytest.raises(UsageError) as error:
        api.image("flux.1-dev", **settings)
    return str(error.value)


def test_a_value_that_is_none_says_what_is_one():
    assert "of at most 65,536 a side" in refused(size="999999999")
    assert "of at most 65,536 a side" in refused(size="1024x100000")
    assert "how many LoRA files" in refused(lora="my.safetensors")
    assert "two formats of the denoiser" in refused(quantization="fp8", layerwise_casting=True)
    with pytest.raises(UsageError, match="no pipeline that we know is called 'pony xyz'"):
        api.image("pony xyz")


def test_qlora_is_lora_beside_a_denoiser_in_nf4():
    """The same by its name, by its parts, and by the workload that an answer has."""
    asked = {"gpu": "4090", "size": "512x512", "checkpointing": "full"}
    short = api.train_image("flux.1-dev", method="qlora", **asked)
    parts = api.train_image("flux.1-dev", method="lora", quantization="nf4", **asked)
    assert short.to_dict() == parts.to_dict()
    assert (short.workload["method"], short.workload["quantization"]) == ("lora", "nf4")
    eight = api.train_image("flux.1-dev", method="qlora", quantization="bnb-int8", **asked)
    assert eight.workload["quantization"] == "bnb-int8"


@pytest.mark.parametrize("name", ["pony", "Pony XL", "illustrious", "Illustrious-XL"])
def test_tunes_of_sdxl_are_called_by_their_names(name):
    assert pipelines.find(name).name == "sdxl"


def test_a_checker_is_left_out_as_people_run_it():
    made = spec(pipelines.find("sd-1.5"))
    said = [key_of(line) for line in notes(made, Picture(), request(made, Picture()))]
    assert said == ["picture.checker"]
    comfy = Picture(engine="comfyui")
    assert not list(notes(made, comfy, request(made, comfy)))


@pytest.mark.slow
def test_a_command_of_the_other_kind_says_so(capsys):
    assert command(["video", "flux.1-dev"]) == 0
    assert "flux.1-dev makes image, and not video" in capsys.readouterr().err
    assert command(["image", "flux.1-dev"]) == 0
    assert "makes" not in capsys.readouterr().err
