"""The environment that a traced launch has, beside the one that accelerate itself makes."""

import pytest

pytest.importorskip("torch")
pytest.importorskip("accelerate")
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_deepspeed_cmd_env

from weighbridge_lab.trace.launchers import read

ASKED = [
    "--zero_stage 3 --offload_optimizer_device CPU --zero3_init_flag True --gradient_clipping 1.0",
    "--zero_stage 2 --gradient_accumulation_steps 4 --zero3_save_16bit_model False",
    "--deepspeed_config_file Zero.json --deepspeed_moe_layer_cls_names Sparse",
]


@pytest.mark.parametrize("flags", ASKED)
def test_what_deepspeed_is_told(flags, monkeypatch):
    words = (
        f"launch --num_processes 4 --mixed_precision bf16 --use_deepspeed {flags} train.py".split()
    )
    for name in (*read(["accelerate", *words]).variables, "ACCELERATE_CONFIG_DS_FIELDS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("accelerate.utils.launch.is_port_in_use", lambda port: False)
    args = launch_command_parser().parse_args(words[1:])
    args, _, _ = _validate_launch_command(args)
    args.deepspeed_fields_from_accelerate_config = ""
    _, made = prepare_deepspeed_cmd_env(args)
    ours = read(["accelerate", *words]).variables
    theirs = {name: made[name] for name in made if name.startswith("ACCELERATE_")}
    theirs.pop("ACCELERATE_CONFIG_DS_FIELDS")  # names of its file's fields, for its errors
    assert ours == theirs
