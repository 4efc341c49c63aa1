"""The command line as users run it: a process, the real client, a stand-in Hub over HTTP."""

import json
import os
import subprocess
import sys

import pytest

from tests.cases import all_of
from tests.hub import Fault, Hub
from tests.sparse import write_repo
from weighbridge.models.arch.builder import blueprint
from weighbridge.models.arch.config import Config

TINY = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 512,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "dtype": "bfloat16",
}
PARAMETERS = 2 * 512 * 128 + 3 * (2 * 128 * 128 + 2 * 64 * 128 + 3 * 128 * 256 + 2 * 128) + 128


def weighbridge(*arguments, env=None, stdin=None):
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING", "WEIGH"))}
    return subprocess.run(
        [sys.executable, "-m", "weighbridge", *map(str, arguments)],
        capture_output=True,
        text=True,
        input=stdin,
        env=clean | {"NO_COLOR": "1"} | (env or {}),
        timeout=60,
    )


def one_line(done, code, *words):
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    for word in words:
        assert word in lines[0]


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    root = tmp_path_factory.mktemp("hub")
    write_repo(root / "org" / "tiny", TINY, blueprint(Config(TINY)), shards=3)
    write_repo(root / "org" / "gated", TINY, blueprint(Config(TINY)))
    with Hub(root, gated={"org/gated": ["hf_good"]}) as running:
        yield running


@pytest.fixture
def online(hub, tmp_path):
    hub.faults.clear()
    hub.requests.clear()
    return {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "home")}


@pytest.mark.slow
def test_a_hub_model_is_read_from_its_headers(hub, online):
    done = weighbridge("load", "org/tiny", "--json", env=online)
    report = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert report["schema"] == "weighbridge.report/1"
    model = report["model"]
    assert (model["name"], model["parameters"], model["stored_bytes"]) == (
        "org/tiny",
        PARAMETERS,
        2 * PARAMETERS,
    )
    assert model["read_from"][0] == "config.json"
    assert "safetensors headers" in model["read_from"]
    assert model["revision"] == hub.commit("org/tiny")
    assert model["download_bytes"] > 2 * PARAMETERS
    assert len(hub.asked(r"\.safetensors$")) <= 2 * 2 * 3  # a redirect and a read, twice at most


@pytest.mark.slow
def test_config_headers_and_folder_agree(hub, online):
    def weigh(reference):
        report = json.loads(weighbridge("load", reference, "--json", env=online).stdout)
        return report["model"]["parameters"], report["table"], report["devices"][0]

    folder = hub.root / "org" / "tiny"
    assert (
        weigh("org/tiny")
        == weigh(folder)
        == weigh(folder / "config.json")
        == weigh("hf://org/tiny")
    )


@pytest.mark.slow
def test_human_and_json_say_the_same(online):
    report = json.loads(weighbridge("load", "org/tiny", "--json", env=online).stdout)
    text = weighbridge("load", "org/tiny", "--unit", "MiB", "--details", env=online).stdout
    assert f"({PARAMETERS:,})" in text
    for row in report["table"]:
        assert f"{row['total_bytes'] / 2**20:,.2f} MiB" in text
    for level in ("allocated", "reserved", "driver"):
        expected = report["devices"][0]["peak"][level]["expected"]
        assert f"{expected / 2**20:,.2f} MiB" in text


@pytest.mark.slow
def test_markdown_and_quiet(online):
    page = weighbridge("load", "org/tiny", "--format", "markdown", env=online).stdout
    assert len([line for line in page.splitlines() if line]) <= 6
    page = weighbridge("load", "org/tiny", "--format", "markdown", "--details", env=online).stdout
    assert page.count("| float32 |") == 1
    report = json.loads(weighbridge("load", "org/tiny", "--json", env=online).stdout)
    quiet = weighbridge("load", "org/tiny", "-q", env=online).stdout
    assert int(quiet) == report["devices"][0]["peak"]["driver"]["expected"]


@pytest.mark.slow
def test_explain_shows_the_arithmetic(online):
    assert (
        f"{PARAMETERS:,} parameters in bfloat16"
        in weighbridge("load", "org/tiny", "--explain", env=online).stdout
    )


@pytest.mark.slow
def test_no_escape_codes_in_a_pipe(online):
    assert "\x1b" not in weighbridge("load", "org/tiny", env=online).stdout


# What goes wrong: one line, and the right code


@pytest.mark.slow
def test_missing_repository(online):
    one_line(weighbridge("load", "org/none", env=online), 2, "org/none")


@pytest.mark.slow
def test_gated_repository(hub, online):
    one_line(weighbridge("load", "org/gated", env=online), 3, "org/gated", "hf auth login")
    done = weighbridge("load", "org/gated", "-q", "--token", "hf_good", env=online)
    assert done.returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize(("status", "code"), [(401, 3), (403, 3), (429, 3), (500, 3), (404, 2)])
def test_refusals(hub, online, status, code):
    hub.faults.append(
        Fault(match="/api/models/org/tiny", status=status, headers={"Retry-After": "0"})
    )
    one_line(weighbridge("load", "org/tiny", env=online), code, "org/tiny")


@pytest.mark.slow
def test_no_network(tmp_path):
    env = {"HF_ENDPOINT": "http://localhost:9", "HF_HOME": str(tmp_path)}
    one_line(weighbridge("load", "org/tiny", env=env), 3)


@pytest.mark.slow
def test_offline_without_a_cache(tmp_path):
    one_line(
        weighbridge("load", "org/tiny", "--offline", env={"HF_HOME": str(tmp_path)}), 3, "org/tiny"
    )


@pytest.mark.slow
def test_a_connection_cut_inside_a_header(hub, online):
    hub.faults.append(Fault(match=r"\.safetensors$", cut=20))
    hub.faults.append(Fault(match="/cdn/", cut=20))
    one_line(weighbridge("load", "org/tiny", env=online), 3, "safetensors")


@pytest.mark.slow
def test_a_server_without_ranges(hub, online):
    hub.faults.append(Fault(match=r"safetensors$", ranges=False))
    done = weighbridge("load", "org/tiny", "-q", env=online)
    assert done.returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["load", "./nowhere"], ["nowhere"]),
        (["load", "no such model"], ["no such model", "weighbridge models"]),
        (["load"], ["MODEL"]),
        (["load", "7B", "--nonsense"], ["--nonsense"]),
        (["weigh", "7B"], ["weigh"]),
        (["load", "7B", "--dtype", "float17"], ["float17"]),
        (["load", "7B", "--engine-version", "9"], ["transformers"]),
        (["run", "/nowhere/requests.jsonl"], ["requests.jsonl"]),
        (["models", "zzzz"], ["zzzz"]),
    ],
)
def test_wrong_usage(arguments, words, tmp_path):
    one_line(weighbridge(*arguments, env={"HF_HOME": str(tmp_path)}), 2, *words)


@pytest.mark.slow
def test_a_config_of_an_unknown_type_says_what_to_install(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": "never_heard_of"}))
    one_line(weighbridge("load", path), 2, "never_heard_of")


@pytest.mark.slow
def test_an_empty_folder(tmp_path):
    one_line(weighbridge("load", tmp_path), 2, "config.json")


# The other commands


@pytest.mark.slow
def test_requests_are_answered_in_place(tmp_path):
    lines = [
        json.dumps({"task": "load", "model": {"config": TINY}, "workload": {"dtype": "float16"}}),
        "not json",
        json.dumps({"task": "fly", "model": "7B"}),
        json.dumps({"task": "load", "model": {"config": TINY}, "workload": {"batch": 1}}),
        json.dumps({"task": "load", "model": "7B"}),
    ]
    done = weighbridge("run", "-", stdin="\n".join(lines))
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 2
    assert [a.get("error", {}).get("code") for a in answers] == [None, 2, 2, 2, None]
    assert answers[0]["model"]["parameters"] == PARAMETERS
    assert answers[0]["workload"]["dtype"] == "float16"


@pytest.mark.slow
def test_estimate_memory_as_it_is_typed(online):
    done = weighbridge(
        "estimate-memory",
        "org/tiny",
        "--dtypes",
        "float32",
        "int4",
        "--library_name",
        "transformers",
        env=online,
    )
    assert done.returncode == 0
    assert [c.strip() for c in done.stdout.splitlines()[3].strip("│").split("│")] == [
        "dtype",
        "Largest Layer",
        "Total Size",
        "Training using Adam",
    ]
    assert "float32" in done.stdout
    assert "int4" in done.stdout
    assert "float16" not in done.stdout


@all_of(
    ("complete", "typed", "found"),
    [
        ("gpu_names", "409", "4090"),
        ("gpu_names", "RTX-30", "rtx-3090"),
        ("gpu_names", "loc", "local"),
        ("gpu_names", "aws-p5", "aws-p5-48xlarge"),
        ("format_names", "q4", "Q4_K_M"),
        ("format_names", "nf", "nf4"),
        ("engine_names", "v", "vllm"),
        ("engine_names", "l", "llama.cpp"),
    ],
)
def test_completion_of_cards_formats_and_engines(complete, typed, found):
    from weighbridge.faces.cli import completion

    names = getattr(completion, complete)(None, None, typed)
    assert found in names
    assert all(name.lower().startswith(typed.lower()) for name in names)
    assert len(set(names)) == len(names)


@pytest.mark.slow
def test_completion_script():
    assert "_WEIGHBRIDGE_COMPLETE" in weighbridge("completion", "bash").stdout


@pytest.mark.slow
def test_completing_a_catalogue_name():
    env = {
        "_WEIGHBRIDGE_COMPLETE": "bash_complete",
        "COMP_WORDS": "weighbridge load llama-3.1-7",
        "COMP_CWORD": "2",
    }
    code = "import sys; sys.argv[0] = 'weighbridge'; from weighbridge.faces.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | env
    )
    assert "llama-3.1-70b" in done.stdout


@pytest.mark.slow
def test_help_of_every_command():
    from weighbridge.faces.cli.menu import COMMANDS

    for command in COMMANDS:
        done = weighbridge(command, "--help")
        assert done.returncode == 0
        assert done.stdout.startswith("Usage: weighbridge")


@pytest.mark.slow
def test_a_traceback_only_when_asked():
    quiet = weighbridge("load", "./nowhere")
    loud = weighbridge("load", "./nowhere", env={"WEIGHBRIDGE_DEBUG": "1"})
    assert "Traceback" not in quiet.stderr
    assert "Traceback" in loud.stderr


def test_a_file_behind_two_hyphens_is_that_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "--x.sh").write_text("vllm serve qwen3-8b --max-model-len 4096\n")
    from weighbridge.faces.cli.menu import run

    assert run(["--x.sh"]) == 2
    assert "put `--` before names of files" in capsys.readouterr().err
    assert run(["--", "--x.sh"]) == 0
    assert "qwen3-8b on vLLM" in capsys.readouterr().out
