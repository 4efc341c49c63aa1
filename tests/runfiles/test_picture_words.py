"""Pictures and video in words: what a number is of, and that two values of one setting are none."""

import pytest
from tests.cases import all_of

import weighbridge
from weighbridge.faces.cli.menu import run as command
from weighbridge.files.runfiles import picture_words, read
from weighbridge.files.runfiles.document import documents
from weighbridge.models.catalogue import pipelines


def of(text):
    (document,) = documents(text, "text")
    return document


def said(text):
    return {name: piece.value for name, piece in picture_words.settings(of(text)).items()}


SAID = [
    ("720p on a 4090 with 32 GB RAM", {"size": "1280x720", "ram": "32GiB"}),
    ("on a 5090 with 128 GB of RAM?", {"ram": "128GiB"}),
    ("RTX 3060 with 64Gb RAM", {"ram": "64GiB"}),
    ("16 GB of system memory, 8GB VRAM", {"ram": "16GiB", "gpu_memory": "8GiB"}),
    ("run on 16gb", {"gpu_memory": "16GiB"}),
    ("sdxl lora batch 4 12GB kohya", {"batch_size": "4", "gpu_memory": "12GiB"}),
    ("a 24GB card", {"gpu_memory": "24GiB"}),
    ("on 8 or 16 GB, no: on 8GB or on 12GB", {}),
    ("a 12GB file", {}),
    ("it takes 12GB", {}),
    ("Mail.\n\nI saw 12GB somewhere", {}),
    ("768x1024 81 frames", {"size": "768x1024", "frames": "81"}),
    ("16 frames per second", {}),
    ("5 seconds of video", {"seconds": "5"}),
    ("a step takes 5 seconds", {}),
    ("2 seconds per step", {}),
    ("2 x 4090", {}),
    ("fp8", {"quantization": "fp8"}),
    ("flux-dev q4_k_m with t5 fp8", {"quantization": "Q4_K_M", "of_text": "text=fp8"}),
    ("fp8 or nf4", {}),
    ("bf16", {"dtype": "bfloat16"}),
    ("512x512 or 1024x1024", {}),
]


@all_of(("text", "expected"), SAID)
def test_a_number_counts_with_the_word_that_says_what_it_is_of(text, expected):
    assert said(text) == expected


@all_of(
    ("text", "method"),
    [
        ("train a LoRA", "lora"),
        ("QLoRA", "qlora"),
        ("full fine-tuning", "full"),
        ("LoRA or full finetune", None),
        ("train it without LoRA", None),
        ("train it", None),
    ],
)
def test_a_method_is_taken_where_one_is_named(text, method):
    piece = picture_words.method(of(text))
    assert (piece and piece.value) == method


@all_of(
    ("text", "name"),
    [
        ("Wan 2.2 14B i2v fp8 720p", "wan2.2-i2v-a14b"),
        ("Wan 2.2 14B t2v", "wan2.2-t2v-a14b"),
        ("Wan 2.2 14B i2v and t2v", "wan2.2-t2v-a14b"),
        ("Wan2.1 14B image to video, 720p", "wan2.1-i2v-14b-720p"),
        ("CogVideoX-5b i2v", "cogvideox-5b-i2v"),
        ("wan 2.2 5b", "wan2.2-ti2v-5b"),
        ("models/unet/flux1-dev-fp8.safetensors", "flux1-dev-fp8.safetensors"),
        ("sdxl on 8gb", "sdxl"),
        ("the wan link has 8 nodes", None),
        ("Two sites.\n\nThe wan between them is slow on 8GB", None),
    ],
)
def test_the_pipeline_that_words_mean(text, name):
    piece = picture_words.pipeline(of(text))
    assert (piece and piece.value) == name


def run(text):
    [only] = read(text, "the text").runs
    return only


def test_a_question_about_video_has_its_size_its_ram_and_its_card():
    only = run("Wan 2.2 14B i2v 720p 5 seconds on a 4090 with 32 GB RAM in ComfyUI")
    assert (only.task, only.model) == ("image", "wan2.2-i2v-a14b")
    assert only.settings == {
        "size": "1280x720",
        "seconds": 5.0,
        "ram": "32GiB",
        "gpu": "4090",
        "engine": "comfyui",
    }
    assert not only.missing and "type: weighbridge video wan2.2-i2v-a14b" in only.notes[0]


COMFY_LOG = """12 GB card. It takes 15 minutes, is it out of memory?
got prompt
model weight dtype torch.float8_e4m3fn, manual cast: torch.bfloat16
CLIP/text encoder model load device: cpu, offload device: cpu, dtype: torch.float16
Requested to load Flux
loaded partially; 9612.19 MB usable, 9611.75 MB loaded, 1728.56 MB offloaded, lowvram patches: 0
Prompt executed in 00:15:40
"""


def test_comfyuis_log_says_what_it_ran_and_that_it_ran():
    """A log of a run that finished was a sure "no" of diffusers in bfloat16."""
    only = run(COMFY_LOG)
    assert only.settings == {"quantization": "fp8", "gpu_memory": "12GiB", "engine": "comfyui"}
    assert "ran to its end in 00:15:40, with 1728.56 MiB of weights left in RAM" in only.notes[0]
    (weighed,) = weighbridge.weigh(COMFY_LOG, name="a", offline=True).runs
    answer = weighed.report
    assert answer.verdict.fits != "no" and answer.derived["in_ram"] == pytest.approx(1.7e9, rel=0.3)
    whole = run(COMFY_LOG.replace("loaded partially", "loaded completely"))
    assert "it was not out of memory" in whole.notes[0] and "left in RAM" not in whole.notes[0]
    assert len(run(COMFY_LOG.partition("Prompt executed")[0]).notes) == 1


def test_a_training_in_words_has_its_method_and_its_program():
    only = run("sdxl lora batch 4 12GB kohya")
    assert (only.task, only.model) == ("train_image", "sdxl")
    assert only.settings == {
        "batch_size": 4,
        "gpu_memory": "12GiB",
        "framework": "kohya",
        "method": "lora",
    }
    assert run("qlora of flux dev, musubi? 16GB").settings["quantization"] == "nf4"
    assert run("train FLUX dev on RTX 3060").refused


def test_ram_behind_a_card_is_no_memory_of_it():
    for text in ("SDXL, 4090 with 32 GB RAM", "SDXL, 4090 32GB RAM", "SDXL, 4090 (32GB of RAM)"):
        only = run(text)
        assert only.settings["gpu"] == "4090" and only.settings["ram"] == "32GiB"
    assert run("SDXL, A100 80GB RAM").settings["gpu"] == "A100 80GB"


def test_a_method_of_a_language_model_stands_in_the_command_to_type():
    found = weighbridge.weigh("finetune llama 3.1 8B, qlora, on a 3090", name="mail", offline=True)
    assert "weighbridge train 'llama 3.1 8B' --method qlora --seq-len N" in found.runs[0].why


def test_a_file_that_is_published_twice_is_told():
    file = pipelines.of_file("flux1-dev-fp8.safetensors")
    assert (file.whole, file.either, file.format) == (False, True, "fp8")
    assert not pipelines.of_file("flux1-dev-fp8-e4m3fn.safetensors").either
    found = weighbridge.infer("flux1-dev-fp8.safetensors")
    assert any("--quantization fp8+text=fp8 says the other" in line for line in found.warnings)


def test_a_question_in_one_word_of_the_shell_is_read_as_prose(capsys):
    assert command(["will SDXL run on 8GB?"]) == 0
    assert "sdxl · 1024 x 1024" in capsys.readouterr().out
    assert command(["nothing of that kind"]) == 2
    assert "weighbridge models PATTERN" in capsys.readouterr().err
    assert command(["my own run.yaml"]) == 2
    assert "no such file" in capsys.readouterr().err


@all_of(
    ("text", "model"),
    [
        ("Flux.2-dev on 2 x L4", "flux.2-dev"),
        ("Flux2Pipeline puts the text encoder on the card; with Flux.2-dev it dies", "flux.2-dev"),
        ("FLUX.1-dev at 1024x1024 on a 4090", "flux.1-dev"),
        ("SDXL 1.0 on 8GB", "sdxl"),
        ("Flux 4 steps on a 4090", "flux.1-dev"),
        ("Flux 8.5 GB on a 4090", "flux.1-dev"),
        ("LTX 9.3 at 1280x704 on a 4090", ""),
        ("HunyuanVideo 7 on a 4090", ""),
    ],
)
def test_a_release_behind_a_name_is_never_dropped(text, model):
    """A pipeline of another release is another pipeline: known by its own name, or told."""
    (found,) = read(text).runs
    assert found.model == model
    assert model or text.split(" at ")[0].split(" on ")[0] in found.refused


@pytest.mark.parametrize("words", ["LoRA on 16GB", "LoRA training on 16GB", "lora in 12 GB"])
def test_a_lora_on_a_size_of_card_is_trained(words):
    assert read(f"Chroma1-HD {words}").runs[0].task == "train_image"
    assert read(f"Chroma1-HD with a {words.split()[0]} on 16GB").runs[0].task == "image"
