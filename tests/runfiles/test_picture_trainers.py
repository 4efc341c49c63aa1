"""Runs of programs that train pipelines: what stands in files beside them, and what they choose."""

import json

import pytest

import weighbridge
from weighbridge.files.runfiles import read

KOHYA = "accelerate launch --num_cpu_threads_per_process 1 sdxl_train_network.py"
SIMPLE = {"model_family": "flux", "model_type": "lora", "lora_type": "standard"}


def settings(text, name="run.sh", folder=""):
    [run] = read(text, name, folder=str(folder)).runs
    return run.settings


def line(*flags, script=KOHYA):
    return f"{script} --network_module=networks.lora {' '.join(flags)}\n"


def test_the_data_sets_beside_a_line_say_its_size_and_batch(tmp_path):
    sets = "[general]\nresolution = 512\n[[datasets]]\nresolution = [1280, 768]\nbatch_size = 4\n"
    (tmp_path / "data.toml").write_text(sets)
    asked = settings(line("--dataset_config=data.toml"), folder=tmp_path)
    assert (asked["size"], asked["batch_size"]) == ((768, 1280), 4)


def test_sections_of_a_toml_beside_a_line_are_arguments(tmp_path):
    (tmp_path / "c.toml").write_text("[network]\nnetwork_dim = 64\n[x]\ntrain_batch_size = 2\n")
    asked = settings(line("--config_file c.toml", "--train_batch_size 3"), folder=tmp_path)
    assert (asked["lora_r"], asked["batch_size"]) == (64, 3)


def test_kohyas_own_toml_names_no_pipeline():
    [run] = read('network_module = "networks.lora"\nnetwork_dim = 8\n', "c.toml").runs
    assert (run.task, run.model, run.settings["lora_r"]) == ("picture_training", "", 8)


@pytest.mark.parametrize(
    ("script", "flags", "model"),
    [
        ("sdxl_train_network.py", "--pretrained_model_name_or_path /m/x.safetensors", "sdxl"),
        ("train_network.py", "--pretrained_model_name_or_path /m/x.safetensors", "sd-1.5"),
        ("train_network.py", "--v2 --pretrained_model_name_or_path x.ckpt", "sd-2.1"),
        ("sdxl_train_network.py", "--pretrained_model_name_or_path org/tune", "org/tune"),
        ("flux_train_network.py", "--model_type chroma", "chroma"),
        ("src/musubi_tuner/wan_train_network.py", "--task t2v-14B --dit a/b", "wan2.1-t2v-14b"),
        ("src/musubi_tuner/wan_train_network.py", "--task flf2v-14B", ""),
    ],
)
def test_a_script_says_the_pipeline_where_weights_are_a_file(script, flags, model):
    [run] = read(line(flags, script=f"accelerate launch {script}"), "run.sh").runs
    assert run.model == model


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("--use_8bit_adam", {"optimizer": "adamw_8bit"}),
        ("--full_bf16 --mixed_precision bf16", {"precision": "bf16"}),
        ("--fp8_base", {"quantization": "fp8"}),
        ("--network_args algo=lokr factor=8", {"method": "lokr", "lokr_factor": 8}),
        ("--network_args 'algo=loha'", {"method": "loha"}),
        ("--resolution 1024,768", {"size": (768, 1024)}),
        ("--network_dim 16", {"lora_r": 16}),
        ("--fused_backward_pass", {"fused_backward": True}),
        ("--cache_latents --cache_text_encoder_outputs", {"uncached_text": None}),
        ("--cache_latents_to_disk", {"uncached_latents": None, "uncached_text": True}),
        ("--network_train_unet_only", {"uncached_latents": True, "train_text_encoder": None}),
        ("", {"train_text_encoder": True, "lora_r": 4, "method": "lora", "framework": "kohya"}),
    ],
)
def test_arguments_of_kohya(flags, expected):
    asked = settings(line(flags))
    assert {name: asked.get(name) for name in expected} == expected


def test_a_script_that_trains_all_of_it():
    asked = settings("accelerate launch sdxl_train.py --fused_backward_pass\n")
    assert asked["method"] == "full"
    assert "train_text_encoder" not in asked


def test_lycoris_and_data_backends_beside_a_config_of_simpletuner(tmp_path):
    kinds = {"Attention": {"factor": 2}, "FeedForward": {"factor": 4}, "Other": {"factor": 3}}
    preset = {"algo": "lokr", "apply_preset": {"module_algo_map": kinds}}
    (tmp_path / "lycoris_config.json").write_text(json.dumps(preset))
    backends = [
        {"id": "a", "resolution": 512, "resolution_type": "pixel_area"},
        {"id": "b", "resolution": 2.25, "resolution_type": "area"},
        {"id": "t", "dataset_type": "text_embeds", "resolution": 9000},
    ]
    (tmp_path / "data.json").write_text(json.dumps(backends))
    config = {
        **SIMPLE,
        "lora_type": "lycoris",
        "lycoris_config": "config/x/lycoris_config.json",
        "data_backend_config": "config/data.json",
    }
    asked = settings(json.dumps(config), "config.json", tmp_path)
    assert asked["lokr_factors"] == ["Attention=2", "FeedForward=4"]
    assert (asked["method"], asked["size"]) == ("lokr", (1536, 1536))


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"base_model_precision": "int8-torchao"}, {"quantization": "torchao-int8-training"}),
        ({"base_model_precision": "no_change"}, {"quantization": None}),
        ({"gradient_checkpointing": True}, {"checkpointing": "full"}),
        (
            {"gradient_checkpointing": True, "gradient_checkpointing_interval": 2},
            {"checkpointing": "pairs"},
        ),
        ({"ramtorch": True}, {"streaming": "layers"}),
        ({"model_type": "full"}, {"method": "full"}),
    ],
)
def test_keys_of_simpletuner(more, expected):
    asked = settings(json.dumps({**SIMPLE, **more}), "config.json")
    assert {name: asked.get(name) for name in expected} == expected


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("train_text_to_image_lora_sdxl", {"uncached_text": True, "uncached_latents": True}),
        ("train_text_to_image_sdxl", {"uncached_text": None, "uncached_latents": None}),
        ("train_dreambooth_lora_sdxl", {"uncached_text": None, "size": (1024, 1024), "lora_r": 4}),
        ("train_dreambooth_lora_flux", {"size": (512, 512), "batch_size": 4, "method": "lora"}),
        ("train_text_to_image", {"method": "full", "batch_size": 16}),
    ],
)
def test_what_scripts_of_diffusers_choose(script, expected):
    asked = settings(f"accelerate launch {script}.py --mixed_precision=bf16\n")
    assert {name: asked.get(name) for name in expected} == expected


def test_a_script_of_any_pipeline_with_a_variable_names_none():
    text = "accelerate launch train_text_to_image.py --pretrained_model_name_or_path=$MODEL\n"
    assert read(text, "run.sh").runs[0].model == ""


def test_a_key_that_nobody_knows_is_named_and_not_guessed():
    [run] = read(line("--no_such_flag 3"), "run.sh").runs
    assert [one.key for one in run.unread] == ["no_such_flag"]


@pytest.mark.slow
def test_a_line_is_weighed_as_the_question_that_it_asks():
    flags = "--resolution 512 --network_dim 8 --cache_latents --cache_text_encoder_outputs"
    text = line(flags, script="accelerate launch train_network.py")
    weighed = weighbridge.weigh(text, name="run.sh", gpu="4090")
    [run] = weighed.runs
    asked = weighbridge.train("sd-1.5", framework="kohya", size="512", lora_r=8, gpu="4090")
    assert run.report.peak == asked.peak


@pytest.mark.parametrize(
    ("text", "program", "model"),
    [
        ('pretrained_model_name_or_path = "/m/sd_xl_base_1.0.safetensors"', "kohya", "sdxl"),
        (
            '[model]\npretrained_model_name_or_path = "D:\\\\m\\\\flux1-dev.sft"',
            "kohya",
            "flux.1-dev",
        ),
        ('dit = "/m/wan2.1_t2v_14B_bf16.safetensors"', "kohya", "wan2.1-t2v-14b"),
    ],
)
def test_a_toml_is_of_the_pipeline_whose_file_it_names(text, program, model):
    [run] = read(f'network_module = "networks.lora"\n{text}\n', "c.toml").runs
    assert (run.settings["framework"], run.model) == (program, model)


@pytest.mark.parametrize(
    ("module", "program", "model"),
    [
        ("networks.lora_flux", "kohya", "flux.1-dev"),
        ("networks.lora_qwen_image", "musubi", "qwen-image"),
        ("networks.lora_wan", "musubi", ""),
    ],
)
def test_a_network_module_tells_the_program(module, program, model):
    [run] = read(f'network_module = "{module}"\n', "c.toml").runs
    assert (run.settings["framework"], run.model) == (program, model)


def test_a_config_that_is_not_there_is_told(tmp_path):
    [run] = read(line("--config_file=../c.toml"), "run.sh", folder=str(tmp_path)).runs
    assert [u.missing for u in run.unread if u.missing] == ["../c.toml"]
    (tmp_path / "c.toml").write_text("network_dim = 64\n")
    [run] = read(line("--config_file=../c.toml"), "run.sh", folder=str(tmp_path)).runs
    assert run.settings["lora_r"] == 64
