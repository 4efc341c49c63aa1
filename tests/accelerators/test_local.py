"""--gpu local: what programs of this machine tell, as cards of a verdict; and cards that differ."""

import dataclasses
import json

import pytest

import weighbridge
from tests.accelerators.published_outputs import RECORDS, text
from tests.cases import all_of
from weighbridge.base.errors import UsageError
from weighbridge.base.memory import exactly
from weighbridge.base.units import GIB, MIB
from weighbridge.faces.cli.menu import run
from weighbridge.machines.accelerators import local, ram
from weighbridge.machines.accelerators.budget import Budget, budget
from weighbridge.machines.accelerators.detected import here, outputs
from weighbridge.machines.accelerators.detected.here import Here
from weighbridge.machines.accelerators.names import find
from weighbridge.machines.accelerators.parts import parts
from weighbridge_lab.trace.card import card

LLAMA = "llama-3.1-8b"
MACHINE = local.HostMemory(total=128 * GIB, left=100 * GIB)


def machine(*names):
    """A machine on which these outputs were printed."""
    return here.gathered(tuple(outputs.read(text(name)) for name in names))


def chosen(*names, idle=False, host=MACHINE):
    return local.choice(idle=idle, seen=machine(*names), machine=host)


@all_of(
    ("name", "part"),
    [
        ("nvidia_smi_query_h200", "H200 SXM 141GB"),
        ("nvidia_smi_xml_t4", "T4"),
        ("nvidia_smi_xml_a10g", "A10G"),
        ("nvidia_smi_l40s", "L40S"),
        ("nvidia_smi_query_rtx4080s", "GeForce RTX 4080 SUPER"),
        ("nvidia_smi_rtx5090_x2", "GeForce RTX 5090"),
        ("nvidia_smi_h100_vgpu_slice", "H100 SXM5 80GB"),
        ("nvidia_smi_gb10", "GB10 (DGX Spark)"),
        ("rocm_smi_csv_7900xt", "Radeon RX 7900 XT"),
        ("rocm_smi_json_rx6700xt", "Radeon RX 6700 XT"),
        ("rocm_smi_json_mi100_x6", "Instinct MI100"),
        ("amd_smi_table_mi325x", "Instinct MI325X"),
        ("hl_smi_gaudi2", "Gaudi 2 (HL-225)"),
        ("tpu_info_v6e", "TPU v6e (Trillium)"),
        ("xpu_smi_v2_a770", "Arc A770 16GB"),
        ("system_profiler_hardware_m4max", "Apple M4 Max 64GB"),
        ("k8s_gfd_labels_a100", "A100 SXM4 40GB"),
    ],
)
def test_a_printed_name_is_the_part_of_the_catalogue(name, part):
    assert chosen(name).part.name == part


@pytest.mark.parametrize(
    "name",
    [
        "nvidia_smi_wsl2",  # "RTX 3060 ..." with 6 GiB is the laptop's
        "nvidia_smi_linux_610",
        "rocm_smi_csv_igpu",  # three cards share the name and the size
        "rocm_smi_json_rx6700xt_rocm43",  # a number alone
        "npu_smi_910_two_chips",  # 64 GB, and the 910 that we know has 32
    ],
)
def test_a_name_that_is_cut_or_shared_is_no_part(name):
    found = chosen(name)
    assert found.part.id == ""
    assert found.part.vendor in ("NVIDIA", "AMD", "Huawei")


def test_what_is_measured_wins_over_the_catalogue():
    share = chosen("nvidia_smi_h100_vgpu_slice").part
    assert share.total.bytes.expected == 20000 * MIB
    assert share.visible.bytes.high < 20000 * MIB
    assert parts()[share.id].total.bytes.low > 79 * GIB


def test_free_is_judged_and_total_where_it_is_asked_for():
    """A T4: 15360 MiB, of which 388 are kept and 1032 used; 13939 are free."""
    now, idle = chosen("nvidia_smi_xml_t4"), chosen("nvidia_smi_xml_t4", idle=True)
    assert (now.room.low, idle.room.low) == (13939 * MIB, (15360 - 388) * MIB)
    assert now.part.visible.bytes == idle.part.visible.bytes == idle.room
    assert "others use 1.01 GiB now: judged by the 13.61 GiB that are free" in now.note
    assert "which was judged; others use 1.01 GiB now" in idle.note


def test_what_the_driver_keeps_is_an_interval_where_it_was_not_told():
    told = chosen("nvidia_smi_query_h200").part.visible.bytes
    untold = chosen("nvidia_smi_h200").part.visible.bytes
    assert told.exact and untold.low <= told.expected <= untold.high < 143771 * MIB


def test_slices_are_believed_by_their_size():
    (card,) = chosen("nvidia_smi_L_a100_mig_one").cards
    assert card.part.name.endswith("3g.20gb")
    assert 19 * GIB <= card.room.expected < 20 * GIB  # no size was told: that of the profile
    seen = outputs.read(text("nvidia_smi_h100_mig"))
    first = Here(seen=(seen,), devices=seen.devices[:1])
    assert local.choice(seen=first, machine=MACHINE).room.low == (40448 - 26) * MIB


def test_a_chip_with_the_hosts_memory_has_what_the_host_has_left():
    """nvidia-smi does not tell a GB10's; a Jetson's name is no part, whose memory is the host's."""
    spark = chosen("nvidia_smi_gb10", host=local.HostMemory(128 * GIB, 90 * GIB))
    assert spark.part.shares_host and spark.room.low == 90 * GIB
    assert spark.part.total.bytes.expected == 128 * GIB
    orin = chosen("nvidia_smi_orin", host=local.HostMemory(62 * GIB, 60 * GIB))
    assert orin.part.shares_host and orin.part.id == ""
    assert orin.part.visible.bytes == exactly(62 * GIB)  # the system shows what is CUDA's, too
    elsewhere = chosen("nvidia_smi_gb10", host=local.HostMemory(None, None))
    assert elsewhere.room == elsewhere.part.room == find("gb10").part.room  # by its name
    with pytest.raises(UsageError, match="host's memory"):
        chosen("nvidia_smi_orin", host=local.HostMemory(None, None))


def test_the_limit_of_a_mac_is_what_its_gpu_may_take():
    chip = outputs.read(text("system_profiler_hardware_m4max")).devices[0]
    limited = dataclasses.replace(chip, limit=60 * GIB)
    for device, low, high in ((chip, 48, 54), (limited, 60, 60)):
        found = Here(seen=(), devices=(device,))
        one = local.choice(seen=found, machine=local.HostMemory(64 * GIB, 62 * GIB))
        assert low * GIB <= one.part.visible.bytes.low <= one.room.high <= high * GIB
        busy = local.choice(seen=found, machine=local.HostMemory(64 * GIB, 20 * GIB))
        assert busy.room.high == 20 * GIB


def test_a_size_that_is_not_told_is_an_error_that_says_why():
    for name, why in (
        ("nvidia_smi_windows_not_supported", "does not tell"),
        ("nvidia_smi_mig_insufficient", "MIG is on"),
        ("rocm_smi_concise", "percentage"),
        ("powershell_adapterram", "4 GiB"),
        ("wmic_rtx4090_4gb", "4 GiB"),
        ("k8s_node_mig_timeslicing", "shares of GPUs"),
        ("nvidia_smi_no_driver", "no NVIDIA driver"),
    ):
        with pytest.raises(UsageError, match=why):
            chosen(name)


def test_cards_of_two_makers_are_not_taken_together():
    found = chosen("nvidia_smi_xml_t4", "rocm_smi_csv_7900xt")
    assert (found.count, found.part.name) == (1, "Radeon RX 7900 XT")
    assert "T4 is left out: no program runs on both" in found.note


def test_equal_cards_that_others_use_differently_differ():
    """One of three equal cards has 4 of 11 GiB free."""
    found = chosen("torch_mem_get_info_x3")
    assert found.mixed and found.count == 3
    assert [c.room.low for c in found.cards] == [8732147712, 4178444288, 8744402944]
    assert found.room.low == 4178444288


def test_headroom_is_left_of_what_is_free():
    found = Budget(choice=chosen("torch_mem_get_info_x3"), headroom=MIB)
    assert [b.low for b in found.each] == [8732147712 - MIB, 4178444288 - MIB, 8744402944 - MIB]
    assert found.usable.low == found.of(1).low == found.of(7).low == 4178444288 - MIB
    assert found.alone(2).usable == found.of(2)
    assert [b.low for b in replaced(found.alike)] == [4178444288 - MIB] * 3
    assert found.others > 6 * GIB and found.alone(0).others > 2 * GIB


def replaced(found):
    return [found.of(i) for i in range(found.choice.count)]


# In a whole process: a program on PATH that prints what was published


@pytest.fixture
def machine_with(tmp_path, monkeypatch):
    def put(name, program="nvidia-smi"):
        (tmp_path / "told").write_text(text(name))
        path = tmp_path / program
        path.write_text(f"#!/bin/sh\n/bin/cat {tmp_path / 'told'}\n")
        path.chmod(0o755)
        here.forget()

    monkeypatch.setattr(here.nvml, "seen", lambda: None)
    monkeypatch.setenv("PATH", f"{tmp_path}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    here.forget()
    yield put
    here.forget()


@pytest.mark.parametrize("typed", ["local:2", "2x local", "local:0,1"])
def test_local_takes_no_count(typed):
    with pytest.raises(UsageError, match="CUDA_VISIBLE_DEVICES"):
        budget(typed, None, None)


def test_cards_that_the_environment_hides_are_not_taken(machine_with, monkeypatch, capsys):
    machine_with("nvidia_smi_xml_t4")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert run(["load", LLAMA, "--gpu", "local"]) == 2
    assert "CUDA_VISIBLE_DEVICES leaves 0 of 1" in capsys.readouterr().err


def test_a_fake_gpu_is_the_one_that_is_here(machine_with):
    machine_with("nvidia_smi_xml_t4")
    found, count = card("local")
    assert (found.name, found.id, count) == ("Tesla T4", "nvidia-t4", 1)
    assert found.total_memory == (15360 - 388) * MIB


@pytest.mark.slow
def test_load_infer_and_train_take_local(machine_with):
    machine_with("nvidia_smi_xml_t4")
    for report in (
        weighbridge.load(LLAMA, gpu="local", quantization="nf4"),
        weighbridge.infer(LLAMA, gpu="local", quantization="nf4", dtype="float16"),
        weighbridge.train(LLAMA, gpu="local", method="qlora", precision="fp16"),
    ):
        found = report.verdict
        assert (found.accelerator, found.count, found.usable_bytes) == ("T4", 1, 13939 * MIB)
        assert found.total.expected == 15360 * MIB
        assert found.host.available == ram.here().nbytes or found.host.available > 0
        assert any("others use 1.01 GiB now" in line for line in report.warnings)


@pytest.mark.slow
def test_others_are_named_where_they_are_why_it_does_not_fit(machine_with):
    machine_with("nvidia_smi_xml_t4")
    now = weighbridge.load(LLAMA, gpu="local").verdict
    idle = weighbridge.load(LLAMA, gpu="local", gpu_memory="total").verdict
    assert "1.01 GiB are used by others now" in now.reason
    assert "used by others" not in idle.reason
    assert idle.margin_bytes - now.margin_bytes == (15360 - 388 - 13939) * MIB


def test_a_size_that_is_given_goes_before_what_is_measured(machine_with):
    machine_with("nvidia_smi_xml_t4")
    found = weighbridge.load(LLAMA, gpu="local", gpu_memory="8GiB", headroom="1GiB").verdict
    assert found.usable_bytes == 7 * GIB


def test_local_without_a_gpu_is_one_line_and_a_code(machine_with, capsys):
    assert run(["load", LLAMA, "--gpu", "local"]) == 2
    assert "no accelerator was found here; name one: --gpu 4090" in capsys.readouterr().err
    machine_with("nvidia_smi_no_driver")
    assert run(["load", LLAMA, "--gpu", "local"]) == 2
    assert "nvidia-smi: no NVIDIA driver is loaded" in capsys.readouterr().err


# weighbridge doctor


def answered(capsys, *arguments):
    assert run(["doctor", *arguments]) == 0
    return capsys.readouterr().out


def test_doctor_without_a_gpu_says_so_and_ends_well(machine_with, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    out = answered(capsys)
    first = out.splitlines()[:4]
    assert first[2].startswith("no accelerator here")
    assert "nvidia-smi, rocm-smi" in first[3]
    for word in ("Memory of the host", "weighbridge ", "python 3.", "pip install 'weighbridge["):
        assert word in out
    assert len(out.splitlines()) <= 38  # more where fewer extras are installed
    assert max(map(len, out.splitlines())) <= 80


def test_doctor_shows_raw_and_understood_numbers(machine_with, capsys):
    machine_with("nvidia_smi_xml_t4")
    out = answered(capsys)
    assert "13.6 GiB free for you of 14.6 GiB" in out
    assert "total 15360 MiB, reserved 388 MiB, used 1032 MiB, free 13939 MiB" in out
    told = json.loads(answered(capsys, "--json"))
    assert told["schema"] == "weighbridge.doctor/1"
    (card,) = told["accelerators"]
    assert card["id"] == "nvidia-t4"
    assert card["usable_bytes"] == {"total": 14972 * MIB, "free": 13939 * MIB}
    assert card["printed"]["raw"]["reserved"] == "388 MiB"
    assert told["versions"]["cuda"] == "11.7"
    assert told["host"]["total_bytes"] == ram.installed()
    assert {"torch", "transformers", "vllm"} <= set(told["packages"])
    assert answered(capsys, "-q") == f"{13939 * MIB}\n"


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize(
    "name", ["nvidia_smi_xml_t4", "nvidia_smi_xml_a100_mig", "nvidia_smi_no_driver"]
)
def test_doctor_keeps_to_the_width_of_the_terminal(machine_with, capsys, monkeypatch, name, width):
    machine_with(name)
    monkeypatch.setenv("COLUMNS", str(width))
    assert max(map(len, answered(capsys).splitlines())) <= width


def test_doctor_in_other_forms_and_in_chinese(machine_with, capsys):
    machine_with("nvidia_smi_xml_t4")
    assert "一张加速卡" in answered(capsys, "--lang", "zh")
    assert "| T4 |" in answered(capsys, "--format", "markdown").replace("  ", " ")
    assert "<table" in answered(capsys, "--format", "html")


def test_doctor_tells_no_id_of_the_machine(machine_with, capsys):
    machine_with("nvidia_smi_xml_t4")
    assert "GPU-00000001-0000" in text("nvidia_smi_xml_t4")
    for form in ("--json", "--format=human"):
        assert "0000-4000" not in answered(capsys, form)


@pytest.mark.parametrize("name", [n for n, r in RECORDS.items() if "of" not in r["tells"]])
def test_doctor_reads_what_was_printed_elsewhere(name, capsys, tmp_path):
    path = tmp_path / "told.txt"
    path.write_text(text(name))
    told = json.loads(answered(capsys, str(path), "--json"))
    assert told["of"] == "an output"
    assert len(told["accelerators"]) == sum(
        not d.get("integrated") for d in RECORDS[name]["tells"].get("devices", [])
    )
    assert answered(capsys, str(path)).strip()


def test_doctor_refuses_what_is_no_output(capsys, tmp_path):
    for path, content, said in (
        (tmp_path / "none.txt", None, "no such file"),
        (tmp_path / "empty.txt", "", "is empty"),
        (tmp_path / "other.txt", "hello\n", "no program that we know"),
    ):
        if content is not None:
            path.write_text(content)
        assert run(["doctor", str(path)]) == 2
        assert said in capsys.readouterr().err


def test_an_output_of_powershell_is_utf16(capsys, tmp_path):
    path = tmp_path / "smi.txt"
    path.write_text(text("nvidia_smi_windows_wddm"), encoding="utf-16")
    assert "RTX 2080" in answered(capsys, str(path))


# Cards that differ


def test_mixed_cards_are_named_with_a_plus():
    found = find("1x4090+1x3060")
    assert (found.count, found.mixed, found.part.name) == (2, True, "GeForce RTX 3060 12GB")
    assert [c.part.name for c in found.cards] == ["GeForce RTX 4090", "GeForce RTX 3060 12GB"]
    assert find("4090 + 4090").count == 2 and not find("4090 + 4090").mixed
    assert find("2x4090 + 3090").count == 3
    assert find("Ryzen AI Max+ 395").count == 1  # a plus in a name


@all_of(
    ("typed", "said"),
    [
        ("4090+7900xtx", "two stacks"),
        ("4090+m3 max 64gb", "two stacks"),
        ("4090+nonsense+3090", "no accelerator"),
        ("4090+nonsense", "no accelerator"),
        ("40x4090+40x3090", "one machine"),
    ],
)
def test_cards_that_no_program_joins_are_refused(typed, said):
    with pytest.raises(UsageError, match=said):
        find(typed)


def test_a_size_for_cards_that_differ_is_refused():
    with pytest.raises(UsageError, match="the cards differ"):
        budget("4090+3090", "20GiB", None)


def verdict(gpu, task=weighbridge.infer, **more):
    return task(LLAMA, gpu=gpu, **more).verdict


@pytest.mark.slow
def test_engines_that_split_evenly_are_held_by_the_least_card():
    more = {"engine": "vllm", "tensor_parallel_size": 2}
    mixed, small = verdict("4090+3060", **more), verdict("3060:2", **more)
    assert (mixed.fits, mixed.margin_bytes) == (small.fits, small.margin_bytes)
    assert "device 1, the GeForce RTX 3060 12GB" in mixed.reason


@pytest.mark.slow
def test_a_model_in_parallel_is_held_by_the_least_card():
    more = {"method": "qlora", "checkpointing": "full", "shard": "ddp", "seq_len": 1024}
    mixed = verdict("a100-80gb+4090", weighbridge.train, **more)
    small = verdict("4090:2", weighbridge.train, **more)
    assert mixed.fits == small.fits and mixed.devices_used == 2


@pytest.mark.slow
def test_a_sum_that_would_be_enough_is_not_asked():
    """Each of two 3060 must hold half of it; 24 + 12 GiB are more than 33, and still no."""
    found = verdict("4090+3060", engine="vllm", tensor_parallel_size=2, context=131072)
    assert found.fits == "no" and found.usable_bytes < 12 * GIB


def test_llama_cpp_splits_by_what_each_has():
    report = weighbridge.infer(LLAMA, engine="llama.cpp", gpu="4090+3060", context=8192)
    weights = [
        sum(c.bytes.expected for c in d.phases[0].components if c.name == "weights")
        for d in report.devices
        if d.kind == "gpu"
    ]
    assert 1.7 < weights[0] / weights[1] < 2.4  # 23.5 GiB beside 11.7
    assert report.verdict.fits == "yes"


@pytest.mark.slow
def test_what_llama_cpp_says_that_fits_does_fit():
    found = weighbridge.infer(LLAMA, engine="llama.cpp", gpu="3090+3060", context=8192)
    most = found.derived["largest_context"]
    for length, answers in ((most, {"yes"}), (most + 256, {"no", "unknown"})):
        if length <= 131072:
            assert verdict("3090+3060", engine="llama.cpp", context=length).fits in answers


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["transformers", "llama.cpp", "sglang"])
@pytest.mark.parametrize("gpu", ["4090+3060", "3060+4090"])
def test_the_longest_context_of_mixed_cards_fits_and_one_more_does_not(engine, gpu):
    more = {"engine": engine, "gpu": gpu}
    if engine == "sglang":
        more["tensor_parallel_size"] = 2
    most = weighbridge.infer(LLAMA, context=4096, **more).derived["largest_context"]
    assert weighbridge.infer(LLAMA, context=most, **more).verdict.fits == "yes"
    if most < 131072:
        assert weighbridge.infer(LLAMA, context=most + 1, **more).verdict.fits != "yes"


@pytest.mark.slow
def test_the_screen_of_mixed_cards_is_of_the_one_that_decides(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert run(["infer", LLAMA, "--gpu", "4090+3060", "--engine", "llama.cpp"]) == 0
    found = capsys.readouterr().out
    assert "fits on RTX 4090 + RTX 3060 12GB" in found and "2 x" not in found
    assert "of 11.7" in found and "the tightest of 2 GPUs" in found and "weights 4." in found
    run(["load", "llama-3.1-70b", "--gpu", "4090+3060"])
    assert "23.5 + 11.7 is not 35.2 GiB" in " ".join(capsys.readouterr().out.split())


def test_json_has_what_each_of_mixed_cards_gives():
    told = weighbridge.load(LLAMA, gpu="3060+4090").to_dict()["verdict"]["usable_each_bytes"]
    assert [round(n / GIB, 1) for n in told] == [11.7, 23.5]
    assert "usable_each_bytes" not in weighbridge.load(LLAMA, gpu="4090:2").to_dict()["verdict"]


def test_every_card_of_mixed_ones_counts():
    small = verdict("3060+3060+4090", weighbridge.load)
    assert (small.count, small.accelerator) == (3, "2 x GeForce RTX 3060 12GB + GeForce RTX 4090")
    assert small.accelerator_id == "nvidia-geforce-rtx-3060-12gb+nvidia-geforce-rtx-4090"
