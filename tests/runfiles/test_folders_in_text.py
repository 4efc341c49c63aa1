"""Models that a text names by a folder, a file or a blank to fill in."""

import pytest
from tests.cases import all_of

import weighbridge
from weighbridge.engines.launch.paths import is_path, model_of
from weighbridge.files.runfiles import read


@all_of(
    ("path", "model"),
    [
        ("/models/Qwen.Qwen2.5-VL-7B-Instruct", "Qwen/Qwen2.5-VL-7B-Instruct"),
        ("/x/Qwen--Qwen3-8B", "Qwen/Qwen3-8B"),
        ("/x/acme--unknown", "acme/unknown"),
        ("/models/acme.unknown", "acme.unknown"),
        ("/models/Qwen2.5-7B-Instruct", "Qwen2.5-7B-Instruct"),
        ("/x/Qwen__Qwen3-8B", "Qwen/Qwen3-8B"),
        ("models/Qwen3-32B", "Qwen3-32B"),
        ("models/unknown", "models/unknown"),
        ("Qwen/Qwen3-32B", "Qwen/Qwen3-32B"),
        ("/root/autodl-tmp/Qwen2.5-14B-Instruct", "Qwen2.5-14B-Instruct"),
        ("/data/Qwen/Qwen3-8B", "Qwen/Qwen3-8B"),
        ("/data/unsloth/Qwen3-8B", "unsloth/Qwen3-8B"),
        ("/data/cyankiwi/Qwen3-8B-AWQ", "cyankiwi/Qwen3-8B-AWQ"),
        ("/data/acme/unknown", "acme/unknown"),
    ],
)
def test_a_folder_is_called_by_what_is_in_its_name(path, model):
    assert model_of(path) == model


def test_a_shelf_is_no_organisation_where_a_known_model_stands_on_it():
    assert is_path("models/Qwen3-32B")
    assert not is_path("Qwen/Qwen3-32B")
    assert not is_path("models/unknown")


LOG = """\
INFO 07-06 22:50:34 [api_utils.py:273] non-default args: {{'model_tag': '{path}', 'max_model_len': 8192}}
INFO 07-06 22:50:46 [core.py:114] Initializing a V1 LLM engine (v0.24.0) with config: model='{path}'
"""


def test_a_log_of_another_machine_names_its_model_by_a_folder():
    (run,) = read(LOG.format(path="~/.cache/huggingface/qwen3-8b-fp8"), "a.log").runs
    assert (run.model, run.command) == (
        "qwen3-8b-fp8",
        "vllm serve qwen3-8b-fp8 --max-model-len 8192",
    )
    (run,) = read(LOG.format(path="org/name"), "a.log").runs
    assert run.model == "org/name"


def test_a_blank_to_fill_in_is_no_redirection_and_words_may_fill_it():
    text = "Qwen3-8B on an H100:\n\n```\nvllm serve <model name> --kv-cache-dtype fp8 \\\n --port 1\n```\n"
    (run,) = read(text).runs
    assert run.model == "Qwen3-8B"
    assert "--kv-cache-dtype fp8" in run.command
    assert run.unread == ()


@all_of(
    ("file", "model", "form"),
    [
        ("qwen3-8b-q5kxl-mine.gguf", "qwen3-8b-GGUF:Q5_K_XL", "Q5_K_M"),
        ("qwen3-8b-mine-Q4_K_M.gguf", "qwen3-8b-GGUF:Q4_K_M", "Q4_K_M"),
        ("qwen3-8b-mine-iq4xs.gguf", "qwen3-8b-GGUF:IQ4_XS", "IQ4_XS"),
        ("qwen3-8b-mine.gguf", "qwen3-8b-mine.gguf", None),
        ("unknown-q4_0.gguf", "unknown-q4_0.gguf", None),
    ],
)
def test_a_file_that_is_not_here_is_taken_by_how_its_name_begins(file, model, form):
    (run,) = read(f"Out of memory with\n\nllama-cli -m models/{file} -c 4096\n").runs
    assert run.model == model
    assert run.settings.get("quantization") == form
    assert [u.missing for u in run.unread if u.missing] == ([file] if form else [])


def test_a_mix_of_a_publishers_own_is_as_wide_in_a_file_that_is_not_here():
    """qwen3.6-27b-q5kxl-hadamard.gguf took 20,992 MiB of an RTX 5090 (llama.cpp b10068), where a
    Q5_K_M takes 18.3 GiB: what a publisher's mix holds is not what llama.cpp's of that name does."""
    wide, narrow = (
        weighbridge.weigh(f"Is it enough?\n\nllama-cli -m models/{file}\n", name="a", offline=True)
        .runs[0]
        .report.peak
        for file in ("qwen3-8b-q5kxl-mine.gguf", "qwen3-8b-mine-Q5_K_M.gguf")
    )
    assert wide.expected == narrow.expected
    assert wide.low < narrow.low < narrow.high < wide.high


def test_what_rests_on_a_file_that_is_not_here_is_never_sure():
    text = "Is it enough?\n\nllama-cli -m models/qwen3-8b-q4kxl-mine.gguf -c 4096\n"
    (weighed,) = weighbridge.weigh(text, name="a", offline=True, gpu="4090").runs
    assert weighed.fits == "unknown"
    assert "qwen3-8b-q4kxl-mine.gguf is not here" in weighed.report.verdict.reason
    in_words = weighbridge.weigh(f"{text}\non a 4090\n", name="a", offline=True).runs[0]
    assert "in words: 4090" in in_words.report.verdict.reason
    assert "makes it sure" not in in_words.report.verdict.reason


@pytest.mark.parametrize(
    ("text", "engine"),
    [
        ("`qwen3.8:27b-mlx` by ollama with its MLX runner, RAM?", "mlx"),
        ("Qwen3-8B-Q4_K_M with vLLM or llama.cpp, memory?", "llama.cpp"),
    ],
)
def test_of_several_engines_the_models_name_says_which(text, engine):
    (run,) = read(text).runs
    assert run.settings.get("engine") == engine
