"""What a pipeline makes of a request: its own sides, pictures that it is given, dtypes of its own.

Sides as pipelines of diffusers 0.42 have them: pipeline_hidream_image.py line 813,
pipeline_flux.py line 453, pipeline_ltx.py line 377."""

import json
import struct

import pytest

import weighbridge
from tests.cases import all_of
from weighbridge.base.errors import ContradictionError
from weighbridge.models.catalogue import pipelines
from weighbridge.pictures import comfy
from weighbridge.pictures.components import unfused
from weighbridge.pictures.request import notes, placement, request
from weighbridge.pictures.spec import spec
from weighbridge.workload.picture import Picture


def made(name, **settings):
    row, w = spec(pipelines.find(name)), Picture(**settings)
    asked = request(row, w)
    return asked, [*notes(row, w, asked)]


@all_of(
    ("name", "size", "width", "height", "said"),
    [
        ("flux.1-dev", (1000, 1030), 1024, 992, "makes sides that 16 divides: 1024 x 992"),
        ("ltx-video", (720, 1280), 1280, 704, "refuses sides that 32 does not divide: 1280 x 704"),
        ("sd3.5-medium", (1000, 1000), 992, 992, "refuses sides that 16 does not divide"),
        ("hidream", (1024, 2048), 1440, 720, "brings every size to one area"),
        ("pixart-sigma", (512, 512), 1024, 1024, "brings every size to one area"),
    ],
)
def test_sides(name, size, width, height, said):
    asked, lines = made(name, size=size)
    assert (asked.width, asked.height) == (width, height)
    assert len(lines) == 1 and said in lines[0]


@pytest.mark.parametrize("name", ["flux.1-dev", "hidream", "ltx-video", "wan2.2-ti2v-5b"])
def test_sides_that_nobody_asked_for_are_its_own(name):
    asked, lines = made(name)
    assert (asked.width, asked.height, asked.frames) == spec(pipelines.find(name)).size
    assert lines == []


def test_pictures_that_a_pipeline_is_always_given():
    assert made("qwen-image")[0].images == made("wan2.2-t2v-a14b")[0].images == 0
    assert made("wan2.2-i2v-a14b")[0].images == made("flux-kontext")[0].images == 1
    one, three = made("qwen-image-edit-2509")[0], made("qwen-image-edit-2509", images=3)[0]
    assert (one.images, one.text) == (1, 512 + 196)
    assert (three.images, three.text) == (3, 512 + 3 * 196)


def dtypes(name, **settings):
    row = spec(pipelines.find(name))
    parts = tuple(pipelines.find(name).parts)
    by_name = placement(row, Picture(**settings), parts).dtypes
    return {part: dtype.name for part, dtype in by_name.items()}


def test_an_autoencoder_in_float16_decodes_in_float32_where_its_pipeline_says_so():
    assert dtypes("sdxl", dtype="float16")["vae"] == "float32"
    assert dtypes("sdxl", dtype="float16")["unet"] == "float16"
    assert dtypes("sdxl", dtype="bfloat16")["vae"] == "bfloat16"
    assert dtypes("sd-1.5", dtype="float16")["vae"] == "float16"
    assert dtypes("sdxl", dtype="float16", vae_dtype="float16")["vae"] == "float16"


@all_of("name", pipelines.names())
def test_latents_that_are_not_cast_are_decoded_in_their_own_dtype(name):
    """The law: torch multiplies no two dtypes. Wan's are cast, SDXL's are not."""
    row = spec(pipelines.find(name))
    assert not (row.latents_uncast and row.vae_dtype)
    asked = {"dtype": "float32", "vae_dtype": "bfloat16"}
    if not row.latents_uncast:
        assert dtypes(name, **asked)[row.vae] == "bfloat16"
        return
    with pytest.raises(ContradictionError, match="leave it out, or say --dtype bfloat16"):
        dtypes(name, **asked)
    assert dtypes(name, dtype="bfloat16", vae_dtype="bfloat16")[row.vae] == "bfloat16"


def test_latents_of_sdxl_run_into_no_other_autoencoder():
    assert not spec(pipelines.find("wan2.1-t2v-1.3b")).latents_uncast
    with pytest.raises(ContradictionError, match="sdxl decodes latents in float16"):
        dtypes("sdxl", vae_dtype="bfloat16")
    assert dtypes("sdxl", vae_dtype="float32") == dtypes("sdxl")
    with pytest.raises(ContradictionError, match="sdxl decodes latents in bfloat16"):
        dtypes("sdxl", dtype="bfloat16", vae_dtype="float32")


def test_dtypes_of_an_example():
    wan = dtypes("wan2.1-i2v-14b-480p")
    assert wan["vae"] == wan["image_encoder"] == "float32"
    assert wan["transformer"] == wan["text_encoder"] == "bfloat16"
    assert {*dtypes("wan2.1-i2v-14b-480p", dtype="float16").values()} == {"float16"}


def test_what_is_loaded_and_not_weighed_is_named():
    assert "loaded with it: safety_checker" in made("cosmos-1.0-7b", device_map="text=0")[1][0]
    assert "loaded with it: connectors, audio_vae" in made("ltx-2", device_map="text=0")[1][0]
    assert made("ltx-2")[1] == made("ernie-image")[1] == made("cosmos-1.0-7b")[1] == []


@pytest.mark.parametrize(("name", "told"), [("cogvideox-2b", True), ("flux.1-dev", False)])
def test_a_recorded_step_says_that_it_is_not_fused(name, told):
    config = pipelines.find(name).parts["transformer"]
    assert any("three products" in line for line in unfused(config, fused=True)) == told
    assert not [*unfused(config, fused=False)]


def test_a_checker_of_prompts_has_the_bounds_of_its_networks():
    """LlamaGuard-7b in 16 or 32 bits, SigLIP and RetinaFace; none where people leave it out."""
    prepared = weighbridge.prepare("cosmos-predict2-2b")
    asked = prepared.image(gpu="h100", remedies=False)
    assert asked.verdict.fits == "yes"
    first, *_ = asked.derived["picture_stages"]
    assert (first["stage"], first["component"]) == ("check", "safety_checker")
    rests = sum(c.bytes.expected for c in asked.devices[0].phases[0].components) - 17_180_000_000
    low, expected, high = first["bytes"]
    assert low <= rests < expected < high
    assert expected - rests > 6_738_415_616 * 2 + 877_960_274 * 4  # NVIDIA prints 26 GB in all
    assert high - rests > 6_738_415_616 * 4 + 877_960_274 * 4
    waiting = prepared.image(gpu="h100", offload="model", remedies=False)
    assert waiting.derived["picture_stages"][0]["bytes"][1] < 19e9 < expected
    assert prepared.image(gpu="4090", remedies=False).verdict.fits == "unknown"
    assert prepared.image(gpu="3060", remedies=False).verdict.fits == "no"  # without one, too
    comfy = prepared.image(gpu="4090", engine="comfyui", remedies=False)
    assert comfy.derived["picture_stages"][0]["stage"] != "check"


def test_what_is_not_weighed_forbids_a_sure_yes():
    """Like with language models: one size of an unknown part is as good as another."""
    verdict = (
        weighbridge.prepare("ltx-2")
        .image(gpu="b200:2", device_map="text=0", remedies=False)
        .verdict
    )
    assert verdict.fits == "unknown" and "not weighed" in verdict.reason


@pytest.mark.parametrize("name", ["ltx-2", "animatediff", "ernie-image"])
def test_what_is_weighed_and_not_run_is_on_the_card_or_waits(name):
    """The law: what is on a card without offload waits in RAM with it."""
    prepared, numbers = weighbridge.prepare(name), spec(pipelines.find(name)).beside
    here, away = (
        [c for c in device.phases[-1].components if device.kind == kind]
        for offload, kind in (("none", "gpu"), ("model", "host"))
        for device in prepared.image(offload=offload, remedies=False).devices
        if device.kind == kind
    )
    weights = {c.detail: c.bytes.expected for c in here if c.name == "weights"}
    assert {part: weights[part] for part in numbers} == {n: 2 * v for n, v in numbers.items()}
    waits = max(c.bytes.expected for c in away)
    assert waits == pytest.approx(sum(weights.values()), abs=1 << 20)


def test_what_a_program_does_not_load_takes_no_memory_of_the_host():
    """stable-diffusion.cpp has no motion adapter, and its answer was a KeyError."""
    prepared = weighbridge.prepare("animatediff")
    report = prepared.image(engine="stable-diffusion.cpp", offload="model", remedies=False)
    adapter = 2 * spec(pipelines.find("animatediff")).beside["motion_adapter"]  # float16
    host = next(device for device in report.devices if device.kind == "host")
    waits = max(c.bytes.expected for c in host.phases[-1].components)
    all_of_it = prepared.image(offload="model", dtype="float16", remedies=False)
    host = next(device for device in all_of_it.devices if device.kind == "host")
    assert waits == max(c.bytes.expected for c in host.phases[-1].components) - adapter


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "name", "said"),
    [
        ("flux1-dev-Q4_K_S.gguf", "flux.1-dev", {"quantization": "Q4_K_S"}),
        ("Wan2_2-T2V-A14B-Q4_K_M.gguf", "wan2.2-t2v-a14b", {"quantization": "Q4_K_M"}),
        ("z_image_turbo_fp16.safetensors", "z-image-turbo", {"dtype": "float16"}),
        ("sd_xl_base_1.0.safetensors", "sdxl", {}),
    ],
)
def test_a_file_of_a_denoiser_is_its_pipeline_in_that_format(
    file, name, said, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    found, whole = weighbridge.infer(file), weighbridge.infer(name, engine="comfyui", **said)
    assert found.workload["engine"] == "comfyui"
    assert found.peak.expected == whole.peak.expected
    assert any(line.startswith("such a file holds") and name in line for line in found.warnings)


@pytest.mark.slow
def test_an_offload_of_diffusers_is_asked_of_diffusers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plain = weighbridge.infer("flux1-dev-Q4_K_S.gguf", offload="model")
    assert plain.workload["engine"] == "diffusers"


@all_of(
    ("name", "seconds", "frames"),
    [
        ("wan2.2", 5, 81),
        ("wan2.2-5b", 5, 121),
        ("ltx-2", 5, 121),
        ("cogvideox-5b", 6, 49),
        ("svd-xt", 2, 14),
    ],
)
def test_seconds_are_frames_as_examples_count_them(name, seconds, frames):
    """Wan's 81 and 121, LTX-2's 121 and CogVideoX's 49 frames are called 5, 5, 5 and 6 seconds."""
    assert made(name, seconds=seconds)[0].frames == frames


@pytest.mark.slow
def test_a_file_that_is_here_is_its_pipeline_too(tmp_path):
    """One matrix of FLUX's transformer, by the name that ComfyUI's files have."""
    tensor = {"dtype": "F8_E4M3", "shape": [3072, 3072], "data_offsets": [0, 3072 * 3072]}
    header = json.dumps({"double_blocks.0.img_attn.proj.weight": tensor}).encode()
    path = tmp_path / "flux1-dev-fp8.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with path.open("r+b") as file:
        file.truncate(8 + len(header) + 3072 * 3072)
    asked = {"quantization": "fp8", "engine": "comfyui"}
    found, whole = weighbridge.infer(str(path)), weighbridge.infer("flux.1-dev", **asked)
    assert found.peak.expected == whole.peak.expected
    assert weighbridge.load(str(path)).model.parameters == 3072 * 3072


@all_of(
    ("reference", "answer"),
    [
        ("city96/FLUX.1-dev-gguf:Q4_K_S", True),
        ("models/unet/flux1-dev-Q4_K_S.gguf", True),
        ("black-forest-labs/FLUX.1-dev", True),
        ("bartowski/Llama-3.1-8B-Instruct-GGUF:Q4_K_M", False),
        ("llama-3.1-8b", False),
        (None, False),
    ],
)
def test_references_that_make_pictures(reference, answer):
    assert pipelines.makes_pictures(reference) is answer


@all_of(
    ("name", "settings", "frames"),
    [
        ("wan2.1-t2v-1.3b", {"frames": 80}, 81),  # WanPipeline: 80 // 4 * 4 + 1
        ("wan2.1-t2v-1.3b", {"frames": 82}, 81),
        ("wan2.2-t2v-a14b", {"frames": 84}, 85),
        ("wan2.1-t2v-1.3b", {"frames": 80, "engine": "comfyui"}, 77),  # (80 - 1) // 4 + 1 latents
        ("ltx-video", {"frames": 80}, 73),
        ("hunyuan-video", {"frames": 80}, 77),
    ],
)
def test_frames_are_rounded_as_the_pipeline_does(name, settings, frames):
    row, w = spec(pipelines.find(name)), Picture(**settings)
    asked = request(comfy.recipe(row, w) if "engine" in settings else row, w)
    assert asked.frames == frames
    line = next(iter(notes(row, w, asked)))
    assert str(frames) in line and str(settings["frames"]) in line
    assert ("pipeline itself" in line) == (frames > settings["frames"] or frames == 81)
