"""`--gpu` and `weighbridge gpus` as they are typed."""

import json
import re

import pytest

from tests.cli.test_process import TINY, one_line, weighbridge
from weighbridge.machines.accelerators.parts import instances, parts

pytestmark = pytest.mark.slow

LLAMA = "llama-3.1-8b"
VERDICT = {
    "conditions": list,
    "accelerator": str,
    "accelerator_id": str,
    "count": int,
    "usable_bytes": int,
    "fits": str,
    "margin_bytes": int,
    "reason": str,
    "marketed_gb": int,
    "total": dict,
    "visible": dict,
    "usable": dict,
    "headroom_bytes": int,
    "per_device": dict,
    "devices_used": int,
    "basis": str,
    "source": str,
    "published": type(None),  # of loading, nobody has
    "host": dict,
    "share_that_fits": float,
    "tight": bool,
    "tipped_by": type(None),
    "nodes": int,
}


@pytest.mark.parametrize(
    ("flags", "code", "word"),
    [
        (["--gpu", "4090"], 0, "fits"),
        (["--gpu", "4090", "--headroom", "10GiB"], 1, "does not fit"),
        (["--gpu", "t4"], 1, "does not fit"),
        (["--gpu-memory", "15.5GiB"], 4, "cannot say"),
        (["--gpu", "2x t4"], 0, "fits"),
    ],
)
def test_the_verdict_and_its_exit_code(flags, code, word):
    done = weighbridge("load", LLAMA, "--check", *flags)
    assert done.returncode == code
    assert re.search(rf"^[✓✗?] {word}", done.stdout, re.MULTILINE)
    said = done.stderr.splitlines()
    assert all(line.startswith("warning: T4 has no bfloat16 hardware") for line in said)
    assert len(said) == ("t4" in " ".join(flags))
    assert weighbridge("load", LLAMA, *flags, "-q").returncode == 0  # without --check


def test_the_report_holds_the_verdict():
    done = weighbridge("load", LLAMA, "--gpu", "2x RTX 4090", "--headroom", "1GiB", "--json")
    report = json.loads(done.stdout)
    verdict = report["verdict"]
    assert {key: type(value) for key, value in verdict.items()} == VERDICT
    assert (verdict["accelerator"], verdict["count"]) == ("GeForce RTX 4090", 2)
    assert verdict["usable_bytes"] == verdict["visible"]["low"] - 2**30
    assert verdict["total"]["expected"] == 24564 * 2**20
    assert report["workload"]["gpu"] == "2x RTX 4090"
    assert report["workload"]["headroom"] == "1GiB"
    assert report["devices"][0]["peak"]["driver"] == verdict["per_device"]


def test_human_and_markdown_say_what_json_says():
    flags = ("load", "llama-3.1-70b", "--gpu", "4张4090", "--details")
    verdict = json.loads(weighbridge(*flags, "--json").stdout)["verdict"]
    human = " ".join(weighbridge(*flags).stdout.split())
    page = weighbridge(*flags, "--format", "markdown").stdout
    for text in (human, page):
        assert verdict["reason"] in text
        assert "sold as 24 GB" in text
        assert f"{verdict['per_device']['low'] / 2**30:.2f} GiB" in text
        assert f"{verdict['visible']['high'] / 2**30:.2f} GiB" in text
    assert "is not" in verdict["reason"]
    assert "does not fit" in page


def test_a_notebook_shows_it():
    import weighbridge as package

    report = package.load(TINY, gpu="t4")
    assert "fits on T4" in report._repr_html_()
    assert "fits on T4" in report._repr_markdown_()
    assert "verdict" in report.to_dict()


def test_a_name_that_could_be_another_part_is_said_on_stderr():
    done = weighbridge("load", LLAMA, "--gpu", "A100", "-q")
    assert done.returncode == 0
    assert "A100 SXM4 80GB" in done.stderr


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--check"], ["--gpu"]),
        (["--headroom", "1GiB"], ["--gpu"]),
        (["--gpu", "RTX 4095"], ["RTX 4095", "GeForce RTX 4090"]),
        (["--gpu", "4060 ti"], ["8GB", "16GB"]),
        (["--gpu", "4090:0"], ["count"]),
        (["--gpu-memory", "lots"], ["lots"]),
        (["--gpu", "4090", "--headroom", "120%"], ["headroom"]),
    ],
)
def test_wrong_usage(flags, words):
    one_line(weighbridge("load", LLAMA, *flags), 2, *words)


def test_a_request_has_a_device():
    lines = [
        json.dumps({"task": "load", "model": {"config": TINY}, "workload": workload})
        for workload in (
            {"gpu": "4090", "headroom": "5%"},
            {"gpu_memory": "1MiB"},
            {"gpu": "nothing"},
            {"gpu": 4090},
        )
    ]
    done = weighbridge("run", "-", stdin="\n".join(lines))
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [a["verdict"]["fits"] for a in answers[:2]] == ["yes", "no"]
    assert [a["error"]["code"] for a in answers[2:]] == [2, 2]


# The catalogue


def test_gpus_as_json():
    body = json.loads(weighbridge("gpus", "--json").stdout)
    assert body["schema"] == "weighbridge.gpus/1"
    assert {g["id"] for g in body["gpus"]} == {*parts()}
    assert len(body["gpus"]) == len(parts())
    assert [i["id"] for i in body["instances"]] == list(instances())
    (t4,) = (g for g in body["gpus"] if g["id"] == "nvidia-t4")
    assert t4["total_bytes"]["expected"] == 15360 * 2**20
    assert t4["total_bytes"]["basis"] == "read"
    assert t4["visible_bytes"]["source"]
    for gpu in body["gpus"]:
        for key in ("total_bytes", "visible_bytes"):
            assert gpu[key].keys() == {"low", "expected", "high", "basis", "source"}


def test_gpus_for_people_and_pages():
    text = weighbridge("gpus", "4090").stdout
    assert text.splitlines()[2].split()[:2] == ["name", "sold"]
    assert "23.5 GiB" in text
    page = weighbridge("gpus", "h200", "--format", "markdown").stdout
    assert "| H200 SXM 141GB | 141 GB | 140.40 GiB |" in page
    assert "| p5en.48xlarge | AWS | 8 x H200 SXM 141GB |" in page
    assert weighbridge("gpus", "-q", "t4").stdout.split()[0] == "nvidia-t4"


def test_gpus_that_are_not_there():
    one_line(
        weighbridge("gpus", "nothing of the kind"), 2, "nothing of the kind", "weighbridge gpus"
    )


def test_the_catalogue_is_read_only_when_a_device_is_named():
    import subprocess
    import sys

    code = (
        "import sys, weighbridge; weighbridge.load('llama-3.2-1b'{}); "
        "print('weighbridge.machines.accelerators.parts' in sys.modules)"
    )
    for argument, loaded in (("", "False"), (", gpu='t4'", "True")):
        done = subprocess.run(
            [sys.executable, "-c", code.format(argument)],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == loaded
