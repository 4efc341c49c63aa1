"""What people type: each name is one part, and what is not says what is near."""

import json
import re
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cases import all_of
from tests.corpus import ROOT
from weighbridge.base.errors import NotFoundError, UsageError
from weighbridge.base.units import GIB
from weighbridge.machines.accelerators.names import find, search
from weighbridge.machines.accelerators.parts import instances, parts
from weighbridge.machines.accelerators.spelling import compact, essence, normal, unbracketed


def sought(text):
    """(choice, message): one of them is None."""
    try:
        return find(text), None
    except UsageError as error:
        return None, str(error)


TYPED = {
    # the size before the name, or before the form factor; several in words
    "24gb 3090": ("nvidia-geforce-rtx-3090", 1),
    "2x 24GB 3090": ("nvidia-geforce-rtx-3090", 2),
    "80gb A100": ("nvidia-a100-sxm4-80gb", 1),
    "a100 80g sxm": ("nvidia-a100-sxm4-80gb", 1),
    "a100 80gb pcie": ("nvidia-a100-pcie-80gb", 1),
    "rtx 4090 24gb vram": ("nvidia-geforce-rtx-4090", 1),
    "dual 4090": ("nvidia-geforce-rtx-4090", 2),
    "two 3090s": ("nvidia-geforce-rtx-3090", 2),
    "a pair of a6000": ("nvidia-rtx-a6000", 2),
    "eight H100s": ("nvidia-h100-sxm5-80gb", 8),
    "3090s": ("nvidia-geforce-rtx-3090", 1),
    "macbook air m2 16gb": ("apple-m2-16gb", 1),
    "agx orin 64gb": ("nvidia-jetson-agx-orin-64gb", 1),
    "w7900": ("amd-radeon-pro-w7900", 1),
    "hl-225": ("intel-gaudi-2-hl-225", 1),
    "ml.p4d.24xlarge": ("nvidia-a100-sxm4-40gb", 8),
    "ml.g5.2xlarge": ("nvidia-a10g", 1),
    "l40s": ("nvidia-l40s", 1),
    "v100s": ("nvidia-tesla-v100s-pcie-32gb", 1),
    "4090": ("nvidia-geforce-rtx-4090", 1),
    "rtx4090": ("nvidia-geforce-rtx-4090", 1),
    "RTX 4090": ("nvidia-geforce-rtx-4090", 1),
    "geforcertx4090": ("nvidia-geforce-rtx-4090", 1),
    "NVIDIA GeForce RTX 4090": ("nvidia-geforce-rtx-4090", 1),
    "RTX_4090 24G": ("nvidia-geforce-rtx-4090", 1),
    "4090显卡": ("nvidia-geforce-rtx-4090", 1),
    "4090D": ("nvidia-geforce-rtx-4090-d", 1),
    "4090 48G": ("nvidia-geforce-rtx-4090-48gb-modified", 1),
    "4090 48G 魔改": ("nvidia-geforce-rtx-4090-48gb-modified", 1),
    "魔改4090": ("nvidia-geforce-rtx-4090-48gb-modified", 1),
    "2080Ti 22G": ("nvidia-geforce-rtx-2080-ti-22gb-modified", 1),
    "2080ti22g": ("nvidia-geforce-rtx-2080-ti-22gb-modified", 1),
    "2080 ti": ("nvidia-geforce-rtx-2080-ti", 1),
    "RTX 5090 Laptop GPU": ("nvidia-geforce-rtx-5090-laptop", 1),
    "5090 mobile": ("nvidia-geforce-rtx-5090-laptop", 1),
    "rtx 3080 laptop 16gb": ("nvidia-geforce-rtx-3080-laptop-16gb", 1),
    "A100 80G": ("nvidia-a100-sxm4-80gb", 1),
    "a100-80gb:8": ("nvidia-a100-sxm4-80gb", 8),
    "A100 SXM 80G": ("nvidia-a100-sxm4-80gb", 1),
    "A100 PCIe 80GB": ("nvidia-a100-pcie-80gb", 1),
    "NVIDIA A100-SXM4-80GB": ("nvidia-a100-sxm4-80gb", 1),
    "h100": ("nvidia-h100-sxm5-80gb", 1),
    "H100 SXM": ("nvidia-h100-sxm5-80gb", 1),
    "NVIDIA H100 80GB HBM3": ("nvidia-h100-sxm5-80gb", 1),
    "H100 94G": ("nvidia-h100-nvl-94gb", 1),
    "RTX PRO 6000 96GB": ("nvidia-rtx-pro-6000-blackwell-workstation", 1),
    "H20 141G": ("nvidia-h20-3e-141gb", 1),
    "t4": ("nvidia-t4", 1),
    "Tesla V100-SXM2-32GB": ("nvidia-tesla-v100-sxm2-32gb", 1),
    "m3 max 128gb": ("apple-m3-max-128gb", 1),
    "m3 max 128": ("apple-m3-max-128gb", 1),
    "Mac Studio M2 Ultra 192GB": ("apple-m2-ultra-192gb", 1),
    "strix halo": ("amd-ryzen-ai-max-395-strix-halo-128gb", 1),
    "8xMI300X": ("amd-instinct-mi300x", 8),
    "7900xtx": ("amd-radeon-rx-7900-xtx", 1),
    "arc a770": ("intel-arc-a770-16gb", 1),
    "昇腾910B": ("huawei-ascend-910b2-64gb", 1),
    "摩尔线程": ("moore-threads-mtt-s4000", 1),
    "p5.48xlarge": ("nvidia-h100-sxm5-80gb", 8),
    "p5.48xlarge:2": ("nvidia-h100-sxm5-80gb", 16),
    "Standard_ND96isr_H100_v5": ("nvidia-h100-sxm5-80gb", 8),
    "a10g-largex2": ("nvidia-a10g", 2),
    "kaggle t4 x2": ("nvidia-t4", 2),
    "2x RTX 4090": ("nvidia-geforce-rtx-4090", 2),
    "4x4090": ("nvidia-geforce-rtx-4090", 4),
    "2 x RTX 4090": ("nvidia-geforce-rtx-4090", 2),
    "2\u00d7RTX 4090": ("nvidia-geforce-rtx-4090", 2),
    "RTX 4090 24GB x 8": ("nvidia-geforce-rtx-4090", 8),
    "8 A100": ("nvidia-a100-sxm4-40gb", 8),
    "4 GB200": ("nvidia-gb200-186gb", 4),
    "A10*4": ("nvidia-a10", 4),
    "l4:4": ("nvidia-l4", 4),
    "4张3090": ("nvidia-geforce-rtx-3090", 4),
    "4 张 3090": ("nvidia-geforce-rtx-3090", 4),
    "8卡A800": ("nvidia-a800-sxm4-80gb", 8),
    "A800 80G 8卡": ("nvidia-a800-sxm4-80gb", 8),
    "单卡4090": ("nvidia-geforce-rtx-4090", 1),
    "双卡4090": ("nvidia-geforce-rtx-4090", 2),
    "两张A100": ("nvidia-a100-sxm4-40gb", 2),
    "十六卡H20": ("nvidia-h20-96gb", 16),
    "\uff18\u5361A800": ("nvidia-a800-sxm4-80gb", 8),  # full-width digit
    "a100-80gb/1g.10gb": ("nvidia-a100-sxm4-80gb/1g.10gb", 1),
    "A100 80GB MIG 1g.10gb": ("nvidia-a100-sxm4-80gb/1g.10gb", 1),
    "7x h200/1g.18gb": ("nvidia-h200-sxm-141gb/1g.18gb", 7),
}


@all_of(("text", "meant"), TYPED.items())
def test_names_as_people_type_them(text, meant):
    found = find(text)
    assert (found.part.id, found.count) == meant


# What no part is called, or several are


@all_of(
    ("text", "words"),
    [
        ("RTX 4095", ["GeForce RTX 4090", "weighbridge gpus", "--gpu-memory"]),
        ("rtx 6000", ["Quadro RTX 6000", "RTX 6000 Ada"]),
        ("titan", ["TITAN RTX", "TITAN V"]),
        ("4060 Ti", ["4060 Ti 8GB", "4060 Ti 16GB"]),
        ("2x 4060ti", ["4060 Ti 8GB", "4060 Ti 16GB"]),
        ("M3 Max", ["M3 Max 36GB", "M3 Max 128GB"]),
        ("A100 PCIe", ["A100 PCIe 40GB", "A100 PCIe 80GB"]),
        ("A100 60G", ["A100"]),
        ("a100-80gb/9g.9gb", ["1g.10gb", "7g.80gb"]),
        ("4090/1g.10gb", ["none"]),
        ("4090:0", ["count"]),
        ("p9.48xlarge", ["p9.48xlarge"]),
        ("", ["''"]),
        ("x" * 200, ["no name is near"]),
        ("x" * 201, ["has 201 characters"]),
        ("0GiB", ["memory"]),
    ],
)
def test_what_is_not_one_part_lists_what_is(text, words):
    with pytest.raises(UsageError) as caught:
        find(text)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


@all_of(
    ("text", "note"),
    [
        ("A100", "A100 SXM4 80GB"),
        ("A100 SXM4", "A100 SXM4 80GB"),
        ("v100", "Tesla V100 SXM2 32GB"),
        ("3080", "GeForce RTX 3080 12GB"),
        ("h20", "H20-3e 141GB"),
        ("2x A100", "A100 SXM4 80GB"),
        ("4090", None),
        ("A100 40GB", None),
        ("T4", None),
    ],
)
def test_a_default_says_what_else_there_is(text, note):
    found = find(text).note
    assert note in found if note else found == ""


def test_sizes_are_devices():
    assert find("24GiB").part.visible.bytes.expected == 24 * GIB
    assert find("23GB").part.visible.bytes.expected == 23 * 10**9
    assert find("2x24GiB").count == 2
    sold = find("4张 24G").part.visible.bytes  # an RTX A5000 gives less than an RTX 4090
    assert sold.low < find("4090").part.visible.bytes.low < sold.high == 24 * GIB


# Every name of every part and machine


def names(part):
    return (part.id, part.name, unbracketed(part.name), *part.aliases)


def test_no_two_parts_share_a_name():
    owners = defaultdict(set)
    for part in parts().values():
        for name in names(part):
            owners[essence(normal(name))].add(part.id)
            owners[compact(normal(name))].add(part.id)
    assert {key: ids for key, ids in owners.items() if len(ids) > 1} == {}


SPELLINGS = {
    "as it is": lambda name: name,
    "lower": str.lower,
    "upper": str.upper,
    "underscores": lambda name: name.replace(" ", "_"),
    "hyphens": lambda name: name.replace(" ", "-"),
    "no spaces": lambda name: name.replace(" ", ""),
    "wide": lambda name: f"  {name.replace(' ', '  ')} ",
    "short size": lambda name: re.sub(r"(?<=\d)GB", "G", name),
    "long size": lambda name: re.sub(r"(?<=\d)GB", " GiB", name),
    "a maker more": lambda name: f"nvidia {name}" if name.startswith(("GeForce", "RTX")) else name,
    "a series less": lambda name: name.removeprefix("GeForce ").removeprefix("Radeon "),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_name_in_every_spelling(spelling):
    change = SPELLINGS[spelling]
    for part in parts().values():
        for name in names(part):
            found = find(change(name))
            assert (found.part.id, found.count) == (part.id, 1), change(name)


@pytest.mark.parametrize(
    "form", ["{}:3", "{} x 3", "{}*3", "3x {}", "3 x {}", "3 * {}", "3张{}", "3卡 {}", "{} 3卡"]
)
def test_every_part_can_be_counted(form):
    for part in parts().values():
        found = find(form.format(part.name))
        assert (found.part.id, found.count) == (part.id, 3), part.name


def test_every_machine_is_found():
    for machine in instances().values():
        for name in (machine.id, machine.name):
            found = find(name)
            assert found.count == machine.count
            if name != "rtx-pro-6000":  # a part goes before a machine: the workstation's edition
                assert found.part.id == machine.part


@pytest.mark.skipif(not (ROOT / "accelerators.jsonl").exists(), reason="the corpus is not here")
def test_every_alias_of_the_corpus_is_one_part_or_an_error_that_lists_it():
    for line in (ROOT / "accelerators.jsonl").read_text("utf-8").splitlines():
        record = json.loads(line)
        if record["kind"] == "instance":
            continue
        for alias in (record["id"], record["name"], *record.get("aliases", ())):
            found, message = sought(alias)
            if found is None:
                assert record["name"] in message
            else:
                assert found.part.marketed_gb == record["memory_marketed_gb"], alias


GPUS_OF_MEASUREMENTS = ROOT / "measurements"


@pytest.mark.slow
@pytest.mark.skipif(not GPUS_OF_MEASUREMENTS.exists(), reason="the corpus is not here")
def test_the_devices_of_published_measurements_are_known():
    """Names are spelled as in papers, issues and logs."""
    known, unknown = 0, set()
    for path in GPUS_OF_MEASUREMENTS.glob("*.jsonl"):
        for line in path.read_text("utf-8").splitlines():
            gpu = json.loads(line).get("gpu")
            if isinstance(gpu, str):
                found, _ = sought(gpu)
                known += found is not None
                if found is None:
                    unknown.add(gpu)
    assert len(unknown) < known / 50  # sentences, mixed machines, "80GB GPU"


# Laws


@pytest.mark.slow
@given(st.text(max_size=40))
def test_any_text_is_a_part_or_one_line(text):
    found, message = sought(text)
    if found is None:
        assert len(message) < 600
    else:
        assert found.count >= 1
        assert found.part.visible.bytes.low > 0


ONE = [text for text, (_, count) in TYPED.items() if count == 1 and "\u5361" not in text]


@pytest.mark.slow
@given(st.sampled_from(ONE), st.integers(1, 16_384))
def test_counts_multiply(text, count):
    assert find(f"{text}:{count}").count == count
    assert find(f"{text}:{count}").part == find(text).part


# Search


@pytest.mark.slow
def test_search():
    found, machines = search("4090")
    assert {p.id for p in found} >= {"nvidia-geforce-rtx-4090", "nvidia-geforce-rtx-4090-d"}
    assert machines == []
    found, machines = search("p5.48")
    assert found == []
    assert [m.name for m in machines] == ["p5.48xlarge"]
    assert {p.vendor for p in search("apple")[0]} == {"Apple"}
    assert [p.id for p in search("m3 max 128gb")[0]] == ["apple-m3-max-128gb"]
    assert search("nothing of the kind") == ([], [])
    assert {p.marketed_gb for p in search("24GB")[0] if "24" not in p.name} >= {24}
    assert [p.name for p in search("a100-80gb/1g.10gb")[0]] == ["A100 SXM4 80GB 1g.10gb"]
    assert search("rtx")[0]
    everything, all_machines = search("")
    assert (len(everything), len(all_machines)) == (len(parts()), len(instances()))


def test_machines_of_a_part_are_found_with_it():
    _, machines = search("h200")
    assert {"p5en.48xlarge", "a3-ultragpu-8g", "h200x8"} <= {m.name for m in machines}


def test_unknown_names_are_not_found_errors():
    with pytest.raises(NotFoundError):
        find("no such thing")


@all_of(
    ("typed", "part"),
    [
        ("ryzen ai max+ 395 64gb", "amd-ryzen-ai-max-395-strix-halo-64gb"),
        ("Ryzen AI Max+ 395 96GB", "amd-ryzen-ai-max-395-strix-halo-96gb"),
        ("Ryzen AI Max+ 395", "amd-ryzen-ai-max-395-strix-halo-128gb"),
        ("strix halo 64gb", "amd-ryzen-ai-max-395-strix-halo-64gb"),
        ("strix halo", "amd-ryzen-ai-max-395-strix-halo-128gb"),
        ("b70", "intel-arc-pro-b70"),
        ("b60", "intel-arc-pro-b60"),
        ("arc pro b50", "intel-arc-pro-b50"),
    ],
)
def test_a_plus_of_a_name_joins_nothing_and_intels_have_their_numbers(typed, part):
    assert (find(typed).part.id, find(typed).count) == (part, 1)


def test_a_name_with_a_plus_that_is_not_known_is_one_name():
    with pytest.raises(UsageError, match=r"no accelerator 'ryzen ai max\+ 395 32gb'"):
        find("ryzen ai max+ 395 32gb")


@pytest.mark.parametrize(
    "name", ["mac 16gb", "Mac mini 16 GB", "MacBook Pro 36GB", "macbook air 8gb"]
)
def test_a_mac_without_a_chip_has_the_least_room_of_macs_with_so_much_memory(name):
    gb = int(re.search(r"\d+", name)[0])
    part = find(name).part
    sold = [p for p in parts().values() if p.vendor == "Apple" and p.marketed_gb == gb]
    assert part.room == min((p.room for p in sold), key=lambda room: room.low)
    assert part.name == f"Mac {gb}GB"


def test_no_mac_is_sold_with_any_memory():
    with pytest.raises(UsageError):
        find("mac mini 17gb")


@pytest.mark.parametrize("name", ["5090 16GB", "4090 5GB"])
def test_a_card_of_another_size_is_no_number_of_cards_of_that_size(name):
    with pytest.raises(NotFoundError, match=name):
        find(name)
