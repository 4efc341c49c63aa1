"""models, completion, estimate-memory and run, as scripts use them."""

import json
from importlib.metadata import entry_points

import pytest

from tests.contract.conftest import LISTED, REPORT, check, complains
from tests.packings import CONFIG, PARAMETERS


# models, completion, and the other name
def test_models_in_every_form(say):
    names = say("models", "-q")[1].split()
    assert LISTED in names
    assert len(set(names)) == len(names)
    body = json.loads(say("models", "llama-3.1", "--json")[1])
    assert body["schema"] == "weighbridge.models/1"
    assert {LISTED, "llama-3.1-70b"} <= {m["name"] for m in body["models"]}
    assert all(m["source"] for m in body["models"])
    table = say("models", "llama-3.1", "--format", "markdown")[1].splitlines()
    assert set(table[1]) <= set("|- :")
    assert any(LISTED in line for line in table[2:])


def test_weigh_is_the_same_program():
    scripts = {
        e.name: e
        for e in entry_points(group="console_scripts")
        if e.value.startswith("weighbridge")
    }
    assert scripts.keys() >= {"weighbridge", "weigh"}
    assert scripts["weigh"].value == scripts["weighbridge"].value == "weighbridge.faces.cli:main"


# estimate-memory, as it is typed for accelerate
def cells(out):
    return [
        [c.strip() for c in line.strip("│").split("│")] for line in out.splitlines() if "│" in line
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [
        ("--library_name", "transformers", "--dtypes", "float32", "int4", "--trust_remote_code"),
        ("--library-name", "transformers", "--dtypes", "float32", "int4", "--trust-remote-code"),
        ("--dtypes", "float32", "int4"),
        ("--dtypes", "float32", "--dtypes", "int4"),
    ],
)
def test_flags_of_accelerate(say, flags):
    expected = [
        ["dtype", "Largest Layer", "Total Size", "Training using Adam"],
        ["float32", "1.96 GiB", "29.92 GiB", "119.66 GiB"],
        ["int4", "250.50 MiB", "3.74 GiB", "N/A"],
    ]
    for typed in ((LISTED, *flags), (*flags, LISTED)):
        code, out, _ = say("estimate-memory", *typed)
        assert code == 0
        assert cells(out)[0] == [f"Memory Usage for loading `{LISTED}`"]
        assert cells(out)[1:] == expected


def test_all_four_dtypes_by_default_and_the_headless_class(say):
    _, out, _ = say("estimate-memory", "llama-3.1-70b", "--base-model")
    found = {row[0]: row[2] for row in cells(out)[2:]}
    assert found == {
        "float32": "258.92 GiB",
        "float16": "129.46 GiB",
        "int8": "64.73 GiB",
        "int4": "32.36 GiB",
    }


def test_estimate_memory_reads_what_accelerate_cannot(say, folder):
    assert say("estimate-memory", folder / "org/plain", "--dtypes", "float16")[0] == 0
    complains(say("estimate-memory", "./nowhere"), 2, "nowhere")


# run
def answers(say, tmp_path, *lines):
    path = tmp_path / "requests.jsonl"
    path.write_bytes(
        b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
    )
    code, out, err = say("run", path)
    found = [json.loads(line) for line in out.splitlines()]
    assert (code, err) == (2 if any("error" in answer for answer in found) else 0, "")
    assert say("run", path, "--keep-going") == (0, out, "")
    return found


@pytest.mark.slow
def test_a_request_is_answered_as_the_command_answers(say, tmp_path, folder):
    workload = {
        "dtype": "float16",
        "quantization": "nf4",
        "engine_version": "4.57",
        "device_map": "auto",
        "base_model": True,
    }
    by_name, by_config, by_folder = answers(
        say,
        tmp_path,
        {"task": "load", "model": LISTED, "workload": workload},
        {"task": "load", "model": {"config": CONFIG}},
        b"",
        {"task": "load", "model": str(folder / "org/plain"), "workload": {}},
    )
    flags = (
        "--dtype",
        "float16",
        "--quantization",
        "nf4",
        "--engine-version",
        "4.57",
        "--device-map",
        "auto",
        "--base-model",
    )
    assert by_name == json.loads(say("load", LISTED, "--json", *flags)[1])
    for key, value in workload.items():
        assert by_name["workload"][key] == value
    assert by_config["model"]["parameters"] == by_folder["model"]["parameters"] == PARAMETERS
    check(by_config, REPORT)


BAD_REQUESTS = {
    "not JSON": b"not json",
    "not UTF-8": b'{"task": "load", "model": "\xff"}',
    "deep": b"[" * 100_000,
    "a list": [1],
    "no task": {"model": "7B"},
    "another task": {"task": "fly", "model": "7B"},
    "no model": {"task": "load"},
    "a number": {"task": "load", "model": 7},
    "a list of configs": {"task": "load", "model": {"config": []}},
    "an unknown key": {"task": "load", "model": "7B", "gpu": "a100"},
    "an unknown setting": {"task": "load", "model": "7B", "workload": {"batch": 1}},
    "a number for a name": {"task": "load", "model": "7B", "workload": {"dtype": 16}},
    "a word for a switch": {"task": "load", "model": "7B", "workload": {"base_model": "no"}},
    "a list for settings": {"task": "load", "model": "7B", "workload": ["dtype"]},
    "an unknown format": {"task": "load", "model": "7B", "workload": {"quantization": "nf5"}},
    "a bad config": {
        "task": "load",
        "model": {"config": {"model_type": "llama", "hidden_size": -1}},
    },
    "a missing folder": {"task": "load", "model": "./nowhere"},
}


@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_a_failed_request_is_a_line_and_the_others_go_on(say, tmp_path, name):
    good = {"task": "load", "model": {"config": CONFIG}}
    first, failed, last = answers(say, tmp_path, good, BAD_REQUESTS[name], good)
    assert first == last
    assert failed.keys() == {"error"}
    check(failed, {"error": {"code": int, "message": str}})
    assert failed["error"]["code"] == 2
    assert "defect" not in failed["error"]["message"]


def test_a_whole_report_says_what_of_it_is_a_request(say, tmp_path):
    code, report, _ = say("load", LISTED, "--json")
    assert code == 0
    (found,) = answers(say, tmp_path, json.loads(report))
    assert "send its task, model (by its reference) and workload" in found["error"]["message"]


def test_a_request_that_needs_an_absent_hub_has_code_3(say, tmp_path):
    (failed,) = answers(say, tmp_path, {"task": "load", "model": "org/name"})
    assert failed["error"]["code"] == 3
    assert "org/name" in failed["error"]["message"]
