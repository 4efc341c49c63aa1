"""The table of accelerators: what each computes in, filters, order, and the screen."""

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.cases import all_of
from weighbridge.base.units import GIB
from weighbridge.faces.cli.gpus import gpus
from weighbridge.faces.render import draw
from weighbridge.faces.view.lists import gpus as gpus_screen
from weighbridge.faces.view.records import RenderOptions
from weighbridge.machines.accelerators.listing import ORDERS, TYPES, Wanted, abilities, ordered
from weighbridge.machines.accelerators.parts import instances, parts

KEPT = Path(__file__).parent / "gpus_screen.txt"
ASKED = ("nvidia-t4", "nvidia-a100-sxm4-80gb", "nvidia-geforce-rtx-4090", "nvidia-h100-sxm5-80gb")
MORE = ("nvidia-rtx-pro-6000-blackwell-server-edition", "amd-instinct-mi300x", "apple-m1-8gb")


def asked(*flags):
    """Run `gpus` as it is typed; a mistake is raised."""
    done = CliRunner().invoke(gpus, list(flags), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@all_of(
    ("part", "types"),
    [
        ("nvidia-tesla-p100-pcie-16gb", []),
        ("nvidia-tesla-p40", ["int8"]),
        ("nvidia-t4", ["int8"]),
        ("nvidia-a100-sxm4-80gb", ["bf16", "int8"]),
        ("nvidia-geforce-rtx-3060-12gb", ["bf16", "int8"]),
        ("nvidia-geforce-rtx-4090", ["bf16", "fp8", "int8"]),
        ("nvidia-h100-sxm5-80gb", ["bf16", "fp8", "int8"]),
        ("nvidia-b200-sxm-180gb", ["bf16", "fp8", "fp4", "int8"]),
        ("nvidia-geforce-rtx-5090", ["bf16", "fp8", "fp4", "int8"]),
        ("amd-instinct-mi210", ["bf16", "int8"]),
        ("amd-instinct-mi300x", ["bf16", "fp8", "int8"]),
        ("amd-instinct-mi355x", ["bf16", "fp8", "fp4", "int8"]),
        ("amd-radeon-rx-6800", ["int8"]),
        ("apple-m1-8gb", []),
        ("apple-m2-8gb", ["bf16"]),
    ],
)
def test_what_a_part_computes_in(part, types):
    known = abilities(parts()[part])
    assert [name for name in TYPES if known[name]] == types


def test_what_is_not_known_is_neither_yes_nor_no():
    unread = abilities(parts()["huawei-ascend-910a-32gb"])
    assert set(unread.values()) == {None}
    assert not Wanted(types=("bf16",)).by(parts()["huawei-ascend-910a-32gb"])


def test_a_bandwidth_has_a_source():
    told = [p for p in parts().values() if p.bandwidth]
    assert told
    assert all(p.bandwidth[1] for p in told)
    by_id = parts()["nvidia-h100-sxm5-80gb"]
    assert by_id.bandwidth[0] == 3350
    assert by_id.to_dict()["bandwidth"]["source"].startswith("torch")


@pytest.mark.parametrize("name", TYPES)
def test_a_filter_keeps_what_has_it_and_nothing_else(name):
    kept = {g["id"] for g in json.loads(asked(f"--{name}", "--json"))["gpus"]}
    assert kept == {p.id for p in parts().values() if abilities(p)[name]}
    assert 0 < len(kept) < len(parts())


def test_filters_add_up():
    body = json.loads(
        asked("--bf16", "--nvlink", "--min-memory", "40GiB", "--vendor", "NVIDIA", "--json")
    )
    assert {g["vendor"] for g in body["gpus"]} == {"NVIDIA"}
    for gpu in body["gpus"]:
        assert gpu["computes_in"]["bf16"]
        assert gpu["nvlink"]
        assert gpu["marketed_gb"] >= 40
    assert "nvidia-a100-sxm4-40gb" in {g["id"] for g in body["gpus"]}
    for machine in body["instances"]:
        assert machine["accelerator"] in {g["id"] for g in body["gpus"]}


def test_a_card_sold_as_24_gb_is_one_of_24_gib():
    ids = asked("--min-memory", "24GiB", "-q").split()
    assert "nvidia-geforce-rtx-4090" in ids
    assert "nvidia-geforce-rtx-4080" not in ids


@pytest.mark.parametrize("by", ORDERS)
def test_an_order_is_kept(by):
    everything = list(parts().values())
    found = ordered(everything, by)
    assert sorted(p.id for p in found) == sorted(p.id for p in everything)
    if by == "memory":
        sizes = [p.room.low for p in found]
        assert sizes == sorted(sizes, reverse=True)
    if by == "bandwidth":
        known = [p.bandwidth is not None for p in found]
        assert known == sorted(known, reverse=True)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--vendor", "nvidea"], "NVIDIA"),
        (["--fp4", "--vendor", "apple"], "leave a filter out"),
        (["--min-memory", "lots"], "lots"),
        (["zzzz"], "zzzz"),
    ],
)
def test_what_is_not_there_is_said(flags, words):
    from weighbridge.base.errors import WeighbridgeError

    with pytest.raises(WeighbridgeError, match=words):
        CliRunner().invoke(gpus, flags, catch_exceptions=False)


def test_the_first_column_of_a_narrow_screen_and_all_of_a_page_are_there():
    page = asked("a100-sxm4-80gb", "--format", "markdown")
    assert "79.25" in page
    assert "2,039 GB/s" in page


def test_the_screen_sign_by_sign():
    """WRITE_SCREENS=1 writes it anew."""
    found = [parts()[name] for name in (*ASKED, *MORE)]
    machines = [i for i in instances().values() if i.part in ASKED][:3]
    told = "".join(
        f"{'=' * 20} {look.width} {look.lang}\n{draw(gpus_screen(found, machines, look.lang), 'human', look)}"
        for look in (
            RenderOptions(width=60),
            RenderOptions(width=80),
            RenderOptions(width=120),
            RenderOptions(lang="zh"),
        )
    )
    if os.environ.get("WRITE_SCREENS"):
        KEPT.write_text(told)
    assert told == KEPT.read_text()
    for line in draw(gpus_screen(found, machines), "human", RenderOptions(width=60)).splitlines():
        assert len(line) <= 60


def test_usable_is_what_a_process_surely_has():
    text = asked("4090")
    low = parts()["nvidia-geforce-rtx-4090"].visible.bytes.low / GIB
    assert f"{low:.1f} GiB" in text
