"""A file beside words and a message: wherever it stands, it is the run that it is alone, and the
message is explained."""

from itertools import groupby

import pytest
from tests.cases import some
from tests.runfiles.test_public import ROWS, written

import weighbridge
from weighbridge.files.oom import explained
from weighbridge.files.runfiles import read

MESSAGE = """\
Traceback (most recent call last):
  File "/app/train.py", line 12, in <module>
    main()
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 216.00 MiB. GPU 0 has a total \
capacity of 23.52 GiB of which 61.25 MiB is free. Including non-PyTorch memory, this process has \
23.42 GiB memory in use. Of the allocated memory 22.61 GiB is allocated by PyTorch, and 412.50 MiB \
is reserved by PyTorch but unallocated.
"""
WORDS = "It dies on my RTX 4090, batch 1 runs:"
PLACEMENTS = {
    "below": "{file}\n{message}",
    "above": "{message}\n{file}",
    "below words": "{words}\n\n{file}\n{message}",
    "between fences": "{words}\n```{syntax}\n{file}\n```\n\n{message}",
    "both between fences": "{words}\n```{syntax}\n{file}\n```\n\n```\n{message}```",
}
SYNTAXES = {"shell": "bash", "modelfile": "dockerfile"}


def _two_of_each():
    """Return two public files of each kind that starts something by a model that it names."""
    for kind, rows in groupby(ROWS, key=lambda row: row.values[0]):
        all_named = [r for r in rows if all("refused" not in run for run in r.values[1]["runs"])]
        yield from all_named[:2] if kind != "text" else ()


def _asked(file, *but):
    """Return what the runs of a file ask, but for these settings."""
    return [
        (run.task, run.model, {n: v for n, v in run.settings.items() if n not in but})
        for run in file.runs
    ]


@pytest.mark.parametrize("placed", PLACEMENTS)
@pytest.mark.parametrize(("kind", "row"), some(2, _two_of_each()))
def test_a_file_is_its_run_wherever_it_stands(kind, row, placed):
    plain = written(row)
    alone = read(plain)
    text = PLACEMENTS[placed].format(
        file=plain,
        words=WORDS,
        message=MESSAGE,
        syntax=SYNTAXES.get(row["syntax"], row["syntax"]),
    )
    found = read(text)
    assert found.kind == "text"
    assert _asked(found, "gpu") == _asked(alone, "gpu")
    if "{words}" in PLACEMENTS[placed]:  # the card of the words is that of the run
        assert all("gpu" in run.settings for run in found.runs)
    assert explained(found.text, None, {}).reading.size("requested") == 216 << 20


OF_PYTHON = ("BitsAndBytesConfig", "TrainingArguments", "pipe.", "model.", "device_map", "torch.")
FULL = MESSAGE.replace("216.00 MiB", "64.00 MiB").replace("412.50 MiB", "20.00 MiB")
LOADING = FULL.replace("    main()", "    state[key] = state[key].to(device)")


@pytest.mark.parametrize("message", [MESSAGE, FULL, LOADING])
@pytest.mark.parametrize(
    "line",
    [
        "vllm serve Qwen/Qwen3-32B --tensor-parallel-size 2",
        "python -m sglang.launch_server --model-path Qwen/Qwen3-32B",
        (
            "accelerate launch flux_train_network.py --network_module networks.lora_flux "
            "--pretrained_model_name_or_path flux1-dev.safetensors --resolution 512,512"
        ),
        "base_model: qwen3-8b\nadapter: lora\nmicro_batch_size: 2\nsequence_len: 512",
    ],
)
def test_what_is_told_to_change_is_of_the_program_that_ran(line, message):
    told = weighbridge.weigh(f"{line}\n\n{message}", name="a").message
    assert told.judged.cause not in ("device_limit", "memory_fraction_cap")
    assert told.remedies
    for change in told.remedies:
        assert not any(word in change.paste for word in OF_PYTHON), change.paste


@pytest.mark.parametrize("name", ["Qwen3-8B-FP8", "Qwen3-8B-AWQ", "Qwen3-8B-NVFP4", "Qwen3-8B"])
def test_a_format_is_offered_where_the_weights_are_in_none(name):
    told = weighbridge.weigh(f"vllm serve Qwen/{name}\n\n{LOADING}", name="a").message
    offered = any("quantization" in change.change for change in told.remedies)
    assert offered == (name == "Qwen3-8B")


def test_what_is_set_is_not_told_again():
    failed = "ggml_gallocr_reserve_n_impl: failed to allocate CUDA0 buffer of size 2629828608\n"
    for flash in ("", "-fa on"):
        line = f"llama-server -m Qwen3-14B-Q4_K_M.gguf -ub 2048 {flash}"
        told = weighbridge.weigh(f"{line}\n\n{failed}", name="a").message
        assert ("-fa on" in [change.paste for change in told.remedies]) == (not flash)
        assert "-ub 1024" in [change.paste for change in told.remedies]


def test_a_log_that_goes_on_without_copies_started():
    text = (
        "ggml_gallocr_reserve_n_impl: failed to allocate CUDA0 buffer of size 2629828608\n"
        "sched_reserve: compute buffer allocation failed, retrying without pipeline parallelism\n"
        "srv load_model: initializing, n_slots = 1, n_ctx_slot = 65536\n"
    )
    assert explained(text, None, {}).judged.why == "ggml.retried"
    assert explained(text.replace("n_slots", "slots"), None, {}).judged.why == "ggml.compute"
