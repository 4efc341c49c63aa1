"""Runs of programs that train pipelines: what stands in files beside them, and what they choose."""

import json

import pytest
from tests.cases import all_of

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


MUSUBI = "accelerate launch src/musubi_tuner/wan_train_network.py --task t2v-14B"
VIDEO = '[[datasets]]\nvideo_directory = "/v"\nresolution = [832, 480]\n'
IMAGES = '[[datasets]]\nimage_directory = "/i"\nresolution = [1024, 1024]\n'


@pytest.mark.parametrize(
    ("sets", "expected"),
    [
        (VIDEO + "target_frames = [1, 25, 45]\n", ((480, 832), 45)),
        (VIDEO + "target_frames = [1, 25]\n" + IMAGES, ((480, 832), 25)),
        (VIDEO + IMAGES, ((1024, 1024), 1)),
        (VIDEO + 'frame_extraction = "full"\nmax_frames = 61\n', ((480, 832), 61)),
        (VIDEO + 'frame_extraction = "full"\n', ((480, 832), 129)),
        ("[general]\ntarget_frames = [9]\n" + IMAGES, ((1024, 1024), 1)),
    ],
)
def test_the_largest_bucket_of_a_data_set_of_videos_has_its_frames(tmp_path, sets, expected):
    (tmp_path / "data.toml").write_text(sets)
    text = line("--dataset_config data.toml", script=MUSUBI)
    [run] = read(text, "run.sh", folder=str(tmp_path)).runs
    assert (run.settings["size"], run.settings["frames"]) == expected
    assert [one.lowers for one in run.unread] == ([True] if "full" in sets else [])


def test_what_kohyas_keys_decide_is_told_by_the_key_that_says_it():
    flags = "--sdpa --network_train_unet_only --cache_latents_to_disk --network_dim 8"
    [run] = read(line(flags), "run.sh").runs
    told = {one.key: (one.setting, one.value) for one in run.understood}
    assert told["cache_latents_to_disk"] == ("uncached_latents", True)
    assert "cache_latents" not in told
    assert told["sdpa"] == ("attention", True)
    assert told["network_train_unet_only"][0] == "train_text_encoder"
    assert told["network_module"] == ("method", "networks.lora")


def test_pictures_have_no_frames_in_ai_toolkit():
    model = {"name_or_path": "black-forest-labs/FLUX.1-dev", "is_flux": True}
    process = {"type": "sd_trainer", "model": model, "network": {"type": "lora", "linear": 16}}
    job = {"job": "extension", "config": {"process": [process]}}
    assert "frames" not in settings(json.dumps(job), "job.json")


def test_sections_of_a_toml_beside_a_line_are_arguments(tmp_path):
    (tmp_path / "c.toml").write_text("[network]\nnetwork_dim = 64\n[x]\ntrain_batch_size = 2\n")
    asked = settings(line("--config_file c.toml", "--train_batch_size 3"), folder=tmp_path)
    assert (asked["lora_r"], asked["batch_size"]) == (64, 3)


def test_kohyas_own_toml_names_no_pipeline():
    [run] = read('network_module = "networks.lora"\nnetwork_dim = 8\n', "c.toml").runs
    assert (run.task, run.model, run.settings["lora_r"]) == ("train_image", "", 8)


@all_of(
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


@all_of(
    ("flags", "expected"),
    [
        ("--network_args conv_dim=8 conv_alpha=1", {"lora_conv_r": 8, "lora_targets": None}),
        ("--network_dim 16 --network_args conv_dim=0", {"lora_conv_r": None, "lora_r": 16}),
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


@all_of(
    ("more", "expected"),
    [
        ({"base_model_precision": "int8-torchao"}, {"quantization": "torchao-int8-training"}),
        ({"base_model_precision": "no_change"}, {"quantization": None}),
        ({"gradient_checkpointing": True}, {"checkpointing": "full"}),
        (
            {"gradient_checkpointing": True, "gradient_checkpointing_interval": 2},
            {"checkpointing": "pairs"},
        ),
        (
            {"ramtorch": True, "ramtorch_transformer_percent": 50},
            {"streaming": "layers", "offload_fraction": 0.5},
        ),
        ({"model_type": "full"}, {"method": "full"}),
    ],
)
def test_keys_of_simpletuner(more, expected):
    asked = settings(json.dumps({**SIMPLE, **more}), "config.json")
    assert {name: asked.get(name) for name in expected} == expected


@all_of(
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


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("algo=lora", {"lora_conv_r": 16, "lora_targets": ["all-layers"]}),
        ("algo=locon conv_dim=4", {"lora_conv_r": 4, "lora_targets": ["all-layers"]}),
        ("algo=lora preset=attn-mlp", {"lora_conv_r": None, "lora_targets": None}),
    ],
)
def test_lycoris_stands_beside_convolutions_unless_a_preset_leaves_them_out(arguments, expected):
    """lycoris/kohya.py: conv_dim is network_dim where it is not said."""
    flags = f"--network_module lycoris.kohya --network_dim 16 --network_args {arguments}"
    asked = settings(f"{KOHYA} {flags}\n")
    assert {name: asked.get(name) for name in expected} == expected


# ---- ai-toolkit


def job(**process):
    process = {"type": "sd_trainer", "model": {"name_or_path": "a/b", "arch": "flux"}, **process}
    return json.dumps({"job": "extension", "config": {"process": [process]}})


@all_of(
    ("process", "expected"),
    [
        (
            {"network": {"type": "lora"}},
            {"lora_r": 4, "precision": "fp32", "optimizer": "adamw_torch", "size": (512, 512)},
        ),
        ({}, {"method": "full", "checkpointing": "full"}),
        ({"network": {"rank": 8}, "train": {"gradient_checkpointing": False}}, {"lora_r": 8}),
        ({"network": {"type": "lokr", "lokr_factor": 4}}, {"method": "lokr", "lora_r": None}),
        ({"network": {"type": "lokr", "lokr_full_rank": False, "linear": 2}}, {"lora_r": 2}),
        ({"network": {"linear": 4, "conv": 2}}, {"lora_conv_r": 2}),
        (
            {"train": {"gradient_accumulation": 2, "gradient_accumulation_steps": 3}},
            {"gradient_accumulation": 6},
        ),
        ({"train": {"cache_text_embeddings": True}}, {"uncached_text": None}),
        (
            {"datasets": [{"resolution": [512, 768]}, {"num_frames": 41, "cache_latents": True}]},
            {"size": (768, 768), "frames": 41, "uncached_latents": True},
        ),
    ],
)
def test_keys_of_ai_toolkit(process, expected):
    asked = settings(job(**process), "config.json")
    assert {name: asked.get(name) for name in expected} == expected


@all_of(
    ("model", "expected"),
    [
        ({"quantize": True}, "quanto-float8+text=torchao-fp8"),
        (
            {"quantize": True, "quantize_te": False, "qtype": "uint3|a/b.safetensors"},
            "torchao-uint3",
        ),
        # a layer that waits in host memory is torchao's, which can be pinned
        ({"quantize": True, "layer_offloading": True}, "torchao-fp8+text=torchao-fp8"),
        ({"quantize_te": True}, "text=torchao-fp8"),
        ({"quantize": True, "quantize_te": False, "qtype": "orbit3"}, None),
    ],
)
def test_formats_of_ai_toolkit(model, expected):
    model = {"name_or_path": "black-forest-labs/FLUX.1-dev", "arch": "flux", **model}
    [run] = read(job(model=model, network={"linear": 4}), "config.json").runs
    assert run.model == "black-forest-labs/FLUX.1-dev"
    assert run.settings.get("quantization") == expected
    assert run.settings.get("streaming") == ("layers" if "layer_offloading" in model else None)
    named = {one.key for one in run.unread}
    assert ("model.qtype" in named) == (model.get("qtype") is not None)


def test_a_fine_tune_of_a_pipeline_that_ai_toolkit_knows_is_taken_for_it_and_said():
    [run] = read(job(), "config.json").runs
    assert (run.model, [one.key for one in run.unread]) == ("flux.1-dev", ["model.name_or_path"])
    two = {"name_or_path": "ai-toolkit/x", "arch": "wan22_14b:t2v"}
    [run] = read(job(model=two), "config.json").runs
    assert (run.model, [one.key for one in run.unread]) == ("wan2.2-t2v-a14b", ["model.arch"])


# ---- OneTrainer


def one(**config):
    return json.dumps({"model_type": "FLUX_DEV_1", "training_method": "LORA", **config})


@all_of(
    ("config", "expected"),
    [
        ({}, {"lora_r": 16, "size": (512, 512), "precision": "fp16-mixed", "dtype": "float32"}),
        ({"training_method": "FINE_TUNE"}, {"method": "full", "lora_r": None}),
        ({"resolution": "512,768x1024"}, {"size": (1024, 768)}),
        ({"peft_type": "LOKR", "lokr_full_matrix": True}, {"method": "lokr", "lora_r": None}),
        ({"lora_decompose": True}, {"method": "dora"}),
        ({"layer_filter": "attn,ff.net"}, {"lora_targets": ["*attn*", "*ff.net*"]}),
        ({"optimizer": {"optimizer": "CAME"}}, {"optimizer": "came"}),
        ({"ema": "GPU"}, {"ema": True}),
        ({"ema": "CPU"}, {"ema": None}),
        ({"latent_caching": False}, {"uncached_latents": True, "uncached_text": True}),
        # before version 11 one key for all parts
        (
            {"gradient_checkpointing": "CPU_OFFLOADED", "layer_offload_fraction": 0.5},
            {"checkpointing": "offload", "streaming": "blocks", "offload_fraction": 0.5},
        ),
        (
            {"gradient_checkpointing": "ON", "layer_offload_fraction": 0.5},
            {"checkpointing": "full", "streaming": None},
        ),
        ({"gradient_checkpointing": "OFF"}, {"checkpointing": None}),
        (
            {"transformer": {"weight_dtype": "NONE"}, "weight_dtype": "BFLOAT_16"},
            {"dtype": "bfloat16"},
        ),
        ({"transformer": {"weight_dtype": "FLOAT_8"}}, {"quantization": "fp8", "dtype": None}),
    ],
)
def test_keys_of_onetrainer(config, expected):
    asked = settings(one(**config), "config.json")
    assert {name: asked.get(name) for name in expected} == expected


def test_clip_of_small_models_is_trained_unless_it_is_said():
    asked = one(model_type="STABLE_DIFFUSION_15")
    assert settings(asked, "c.json")["train_text_encoder"] is True
    frozen = one(
        model_type="STABLE_DIFFUSION_15",
        text_encoder={"train": False},
        text_encoder_2={"train": False},
    )
    assert "train_text_encoder" not in settings(frozen, "c.json")
    assert "train_text_encoder" not in settings(one(), "c.json")


@all_of(
    ("config", "key"),
    [
        ({"optimizer": {"optimizer": "MUON_ADV"}}, "optimizer.optimizer"),
        ({"peft_type": "OFT_2"}, "peft_type"),
        ({"transformer": {"weight_dtype": "INT_W8A8"}}, "transformer.weight_dtype"),
        ({"training_method": "EMBEDDING"}, "training_method"),
        ({"base_model_name": "me/mine"}, "base_model_name"),
    ],
)
def test_what_onetrainer_has_and_we_do_not_count_is_named(config, key):
    [run] = read(one(**config), "config.json").runs
    assert key in [each.key for each in run.unread]


@pytest.mark.slow
def test_a_config_of_onetrainer_is_weighed_as_the_question_that_it_asks():
    weighed = weighbridge.weigh(one(resolution="256"), name="config.json", gpu="4090")
    [run] = weighed.runs
    typed = {"size": "256", "dtype": "float32", "precision": "fp16-mixed", "checkpointing": "full"}
    asked = weighbridge.train("flux.1-dev", framework="onetrainer", gpu="4090", **typed)
    assert run.report.peak == asked.peak


@pytest.mark.parametrize(
    ("interval", "stride", "how"), [(2, None, "pairs"), (2, 4, "half"), (1, None, "full")]
)
def test_intervals_and_strides_of_simpletuner(interval, stride, how):
    keys = {"gradient_checkpointing": True, "gradient_checkpointing_interval": interval}
    if stride:
        keys["gradient_checkpointing_segment_stride"] = stride
    asked = settings(json.dumps({**SIMPLE, **keys}), "config.json")
    assert asked["checkpointing"] == how


def test_attention_in_host_memory_and_compiled_regions_of_simpletuner():
    keys = {
        "gradient_checkpointing_offload_attention": True,
        "dynamo_use_regional_compilation": True,
    }
    asked = settings(json.dumps({**SIMPLE, **keys}), "config.json")
    assert asked["offload_attention"] and asked["compile"]


# ---- several cards

DREAMBOOTH = "train_dreambooth_lora_sdxl.py"
STAGE_3 = "--use_deepspeed --zero_stage 3"


@all_of(
    ("text", "ranks", "shard"),
    [
        (f"accelerate launch --num_processes 1 {DREAMBOOTH} --rank 4\n", None, None),
        (f"accelerate launch --multi_gpu --num_processes 4 {DREAMBOOTH} --rank 4\n", 4, None),
        (f"torchrun --nproc_per_node 2 {DREAMBOOTH} --rank 4\n", 2, None),
        (f"accelerate launch --num_processes 8 --use_deepspeed {DREAMBOOTH} x\n", 8, "zero2"),
        (f"accelerate launch --num_processes 8 {STAGE_3} {DREAMBOOTH} x\n", 8, "zero3"),
        (f"accelerate launch --num_processes 2 --use_fsdp {DREAMBOOTH} x\n", 2, "fsdp2"),
        (line("--deepspeed", "--zero_stage 1"), None, "zero1"),
        (line("--deepspeed"), None, "zero2"),
    ],
)
def test_launchers_say_the_ranks_and_what_they_share(text, ranks, shard):
    asked = settings(text)
    assert (asked.get("data_parallel_size"), asked.get("shard")) == (ranks, shard)


def test_ranks_and_parts_of_simpletuner():
    more = {"num_processes": 4, "fsdp_enable": True, "fsdp_version": 2}
    asked = settings(json.dumps({**SIMPLE, **more}), "config.json")
    assert (asked["data_parallel_size"], asked["shard"]) == (4, "fsdp2")


def test_states_of_zero_in_host_memory_are_named():
    [run] = read(line("--deepspeed", "--offload_optimizer_device cpu"), "run.sh").runs
    assert "offload_optimizer_device" in {one.key for one in run.unread}
