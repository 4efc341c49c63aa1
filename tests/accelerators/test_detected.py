"""Outputs of nvidia-smi, rocm-smi and their kin: the published ones, cut ones, hostile ones."""

import dataclasses
import json

import pytest

from tests.accelerators.published_outputs import RECORDS, text
from tests.cases import all_of
from weighbridge.base.errors import BadFileError
from weighbridge.base.memory import exactly
from weighbridge.base.units import GIB, MIB
from weighbridge.machines.accelerators import ram, rules
from weighbridge.machines.accelerators.detected import (
    amd,
    apple,
    here,
    nvidia,
    nvml,
    others,
    outputs,
    programs,
)
from weighbridge.machines.accelerators.detected.device import DetectedDevice, hidden, named, size
from weighbridge.machines.accelerators.detected.here import look

READ = [name for name, record in RECORDS.items() if "of" not in record["tells"]]
OTHERS = {  # told by files, variables and people, not by a program: each has a test below
    *("cgroup_v1_1gib", "cgroup_v1_memory_stat", "cgroup_v1_no_limit", "cgroup_v1_unlimited_old"),
    *("cgroup_v2_125m", "cuda_visible_devices_forms", "hip_mem_get_info_windows"),
    *("nvml_reserved_rtx_pro", "proc_meminfo_16gb"),
}
DEFAULTS = {
    field.name: field.default
    for field in dataclasses.fields(DetectedDevice)
    if field.name not in ("raw", "index", "source", "uuid")
}


def test_every_output_is_tested():
    assert RECORDS
    assert set(RECORDS) - set(READ) == OTHERS
    assert all(record["cited"] for record in RECORDS.values())


def told(device):
    found = {name: getattr(device, name) for name in DEFAULTS}
    return {name: value for name, value in found.items() if value != DEFAULTS[name]}


@all_of("name", READ)
def test_an_output_is_understood_as_it_was_meant(name):
    expected = RECORDS[name]["tells"]
    seen = outputs.read(text(name))
    assert seen.source == expected["source"]
    assert [told(d) for d in seen.devices] == expected.get("devices", [])
    assert seen.why == expected.get("why", "")
    assert (seen.ram, seen.limit) == (expected.get("ram"), expected.get("limit"))
    assert dict(seen.versions) == expected.get("versions", {})


def test_a_device_without_a_size_has_a_reason():
    for name in READ:
        seen = outputs.read(text(name))
        assert seen.devices or seen.why or seen.ram or seen.limit, name
        for device in seen.devices:
            assert (device.total is None) == bool(device.why), name


@all_of("name", sorted(OTHERS))
def test_what_no_program_prints_is_refused(name):
    with pytest.raises(BadFileError, match="no program that we know"):
        outputs.read(text(name))


# Traps, each of them in a published output


def devices(name):
    return outputs.read(text(name)).devices


def test_the_share_of_a_card_is_believed_and_not_its_name():
    (card,) = devices("nvidia_smi_h100_vgpu_slice")
    assert (card.name, card.total) == ("NVIDIA H100 80GB HBM3", 20000 * MIB)


def test_what_is_not_told_is_neither_zero_nor_no_gpu():
    for name in ("nvidia_smi_query_gb10", "nvidia_smi_query_gb10_nounits", "nvidia_smi_orin"):
        (chip,) = devices(name)
        assert chip.total is None and chip.unified and "host" in chip.why


def test_a_card_of_its_own_memory_is_not_taken_for_a_chip_without():
    seen = outputs.read(text("nvidia_smi_windows_not_supported"))
    assert [d.unified for d in seen.devices] == [False]
    assert "512.15 and the driver, 460.89, are of two releases" in seen.notes[0]


def test_slices_of_one_instance_are_told_to_have_one_memory():
    seen = outputs.read(text("nvidia_smi_h200_mig"))
    assert seen.notes == ("2 slices of GPU instance 0/2 have one memory together",)


def test_the_xml_says_that_it_was_cut_short():
    seen = outputs.read(text("nvidia_smi_xml_a100_mig"))
    assert seen.notes == ("4 GPUs are attached, 1 of them are described",)


def test_profiles_and_ids_are_those_of_the_list():
    seen = nvidia.smi(text("nvidia_smi_h100_mig"))
    found = nvidia.profiled(seen, nvidia.listed(text("nvidia_smi_L_h100_mig")))
    assert [(d.mig, d.total) for d in found.devices] == [
        ("3g.40gb", 40448 * MIB),
        ("2g.20gb", 20096 * MIB),
        ("1g.10gb", 9984 * MIB),
        ("1g.10gb", 9984 * MIB),
    ]
    assert all(d.uuid.startswith("MIG-") for d in found.devices)
    assert nvidia.profiled(seen, nvidia.listed("")) == seen


def test_the_window_of_the_cpu_is_not_the_memory():
    (card,) = devices("rocm_smi_json_rx6700xt")
    assert card.total == 12868124672
    assert '"VIS_VRAM Total Memory (B)": "268435456"' in text("rocm_smi_json_rx6700xt")


def test_warnings_before_json_are_left_out():
    said = "WARNING: AMD GPU device(s) is/are in a low-power state.\n\n"
    assert amd.rocm_json(said + text("rocm_smi_json_vega10")).devices[0].total == 17163091968


def test_amd_smi_tells_sizes_and_names_apart():
    """ROCm 6.4 and 7 print them as a list, or as a record with one."""
    memory = {
        "total_vram": {"value": 196592, "unit": "MB"},
        "used_vram": {"value": 285, "unit": "MB"},
    }
    one = {"gpu": 0, "mem_usage": memory}
    names = [{"gpu": 0, "asic": {"market_name": "AMD Instinct MI300X"}}]
    for metric in ([one], {"gpu_data": [one]}):
        (card,) = amd.metric(json.dumps(metric), json.dumps(names)).devices
        assert (card.name, card.total, card.free) == (
            "AMD Instinct MI300X",
            196592 * MIB,
            (196592 - 285) * MIB,
        )
    assert amd.metric("{").why


def test_no_limit_of_a_mac_is_the_systems_share():
    told = (
        "hw.memsize: 34359738368\niogpu.wired_limit_mb: 0\nmachdep.cpu.brand_string: Apple M1 Max\n"
    )
    (chip,) = apple.chip(told).devices
    assert (chip.name, chip.total, chip.limit, chip.unified) == (
        "Apple M1 Max",
        32 * GIB,
        None,
        True,
    )
    assert apple.chip(told.replace(": 0", ": 26000")).devices[0].limit == 26000 * MIB
    intel = told.replace("Apple M1 Max", "Intel(R) Xeon(R) W-2140B CPU @ 3.20GHz")
    assert apple.chip(intel).devices == ()


def test_the_registry_of_windows_has_sizes_above_4_gib():
    told = [
        {"DriverDesc": "AMD Radeon RX 7900 XTX", "HardwareInformation.qwMemorySize": 25753026560},
        {"DriverDesc": "Intel(R) UHD Graphics 770", "HardwareInformation.qwMemorySize": 134217728},
        {"DriverDesc": None, "HardwareInformation.qwMemorySize": None},
    ]
    card, beside = others.registry(json.dumps(told)).devices
    assert (card.kind, card.total, card.integrated) == ("rocm", 25753026560, False)
    assert (beside.kind, beside.integrated) == ("xpu", True)
    assert others.registry(json.dumps(told[0])).devices == (card,)
    assert others.registry("Get-ItemProperty : Cannot find path").why


def test_xpu_smi_dumps_one_line_a_card():
    told = 'Device ID,Device Name,Memory Physical Size\n0,"Intel(R) Arc(TM) B580 Graphics",12216.00 MiB\n'
    assert [(d.name, d.total) for d in others.xpu_dump(told).devices] == [
        ("Intel(R) Arc(TM) B580 Graphics", 12216 * MIB)
    ]


def test_free_of_hip_on_windows_is_not_believed():
    """24410 of 24560 MiB there, 6313 of 24517 under WSL 2, of the same card nearly full."""
    rows = [line.split(": ")[1].split() for line in text("hip_mem_get_info_windows").splitlines()]
    (windows_pair, wsl_pair) = [(int(free) * MIB, int(total) * MIB) for free, total in rows]
    seen = others.mem_get_info([windows_pair], kind="rocm", budgeted=True)
    assert (seen.devices[0].total, seen.devices[0].free) == (24560 * MIB, None)
    assert others.mem_get_info([wsl_pair], kind="rocm").devices[0].free == 6313 * MIB


def test_what_cuda_leaves_of_what_nvml_shows_is_within_our_interval():
    """95.59 GiB shown, 94.97 usable: the interval is taken where no tool tells what is kept."""
    shown, usable = (
        int(float(line.split(" GiB")[0]) * GIB)
        for line in text("nvml_reserved_rtx_pro").splitlines()[1:]
    )
    low, _, high = rules.visible("nvidia workstation", exactly(shown), 96)
    assert low <= usable <= high


# Host memory


def machine(root, *, groups="", files=()):
    """A file system with what Linux tells, the published /proc/meminfo among it."""
    told = {"proc/meminfo": text("proc_meminfo_16gb"), "proc/self/cgroup": groups, **dict(files)}
    for name, content in told.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def test_an_old_kernel_tells_what_is_free_and_in_pages_of_files(tmp_path):
    root = machine(tmp_path)
    assert ram.installed(root) == 16042172416
    assert ram.here(root).nbytes == (440324 + 1020128 + 12007640) * 1024


V1, V2 = "sys/fs/cgroup/memory/memory.", "sys/fs/cgroup/memory."
GROUPS = {  # where each file stands, and the limit that it sets
    "cgroup_v1_1gib": (f"{V1}limit_in_bytes", 1 * GIB),
    "cgroup_v1_memory_stat": (f"{V1}stat", 4 * GIB),
    "cgroup_v1_no_limit": (f"{V1}limit_in_bytes", None),
    "cgroup_v1_unlimited_old": (f"{V1}limit_in_bytes", None),
    "cgroup_v2_125m": (f"{V2}max", 131072000),
}


@pytest.mark.parametrize("name", GROUPS)
def test_a_containers_limit_is_the_memory_that_it_has(name, tmp_path):
    path, limit = GROUPS[name]
    usage = f"{V2}current" if "v2" in name else f"{V1}usage_in_bytes"
    line = "0::/\n" if "v2" in name else "5:memory:/\n"
    root = machine(tmp_path, groups=line, files={path: text(name), usage: f"{100 * MIB}\n"})
    whole = ram.here(machine(tmp_path / "whole")).nbytes
    assert ram.here(root).nbytes == (whole if limit is None else limit - 100 * MIB)


def test_the_word_max_sets_no_limit(tmp_path):
    files = {f"{V2}max": "max\n", f"{V2}current": "1\n"}
    assert not list(ram.limits(machine(tmp_path, groups="0::/\n", files=files)))


def test_a_mac_tells_pages_that_it_can_give():
    told = (
        "Mach Virtual Memory Statistics: (page size of 16384 bytes)\nPages free:       3211.\n"
        "Pages active:   100000.\nPages inactive:  90000.\nPages speculative:  10.\n"
    )
    assert ram.vm_stat(told) == (3211 + 90000 + 10) * 16384
    assert ram.vm_stat("") is None


# CUDA_VISIBLE_DEVICES


def test_every_form_of_visible_devices_is_known():
    lines = text("cuda_visible_devices_forms").splitlines()
    assert [here.form(line.split(",")[0]) for line in lines] == [
        *("number", "number", "id", "id", "slice", "old slice", "old slice")
    ]


def cards(count=3):
    return [
        DetectedDevice(
            name="GPU", kind="cuda", source="", index=i, uuid=f"GPU-{i}a2b3c4d-0000", total=GIB
        )
        for i in range(count)
    ]


def numbers(value, some=None):
    return [d.index for d in here.chosen(value, cards() if some is None else some)]


def test_visible_devices_come_in_their_order():
    assert numbers("2,0") == [2, 0]
    assert numbers("GPU-1a2b3c4d") == [1]
    assert numbers("GPU-2a,0") == []  # an id of two signs is none: the list ends


def test_what_names_no_device_ends_the_list():
    assert numbers("0,7,1") == [0]
    assert numbers("0,-1,1") == [0]
    assert numbers("") == numbers("-1") == numbers("NoDevFiles") == []
    assert numbers("1,1,0") == [1]


def test_an_id_that_names_two_names_none():
    some = [dataclasses.replace(d, uuid="GPU-aaaa1111-0000") for d in cards(2)]
    assert numbers("GPU-aaaa", some) == []


def test_slices_are_named_by_their_own_id_and_by_the_old_one():
    (slices,) = [nvidia.smi(text("nvidia_smi_h100_mig")).devices]
    whole = DetectedDevice(
        name="H100", kind="cuda", source="", index=0, uuid="GPU-00000004-0000-4000"
    )
    some = [whole, *slices]
    assert here.chosen("MIG-GPU-00000004/3/0", some)[0].total == 20096 * MIB
    named_ones = nvidia.profiled(
        nvidia.smi(text("nvidia_smi_h100_mig")), nvidia.listed(text("nvidia_smi_L_h100_mig"))
    ).devices
    assert here.chosen("MIG-00000004", named_ones)[0].mig == "1g.10gb"


def test_hips_variable_goes_before_cudas():
    told = {"CUDA_VISIBLE_DEVICES": "0", "HIP_VISIBLE_DEVICES": "1"}
    assert here.asked("rocm", told) == ("HIP_VISIBLE_DEVICES", "1")
    assert here.asked("cuda", told) == ("CUDA_VISIBLE_DEVICES", "0")
    assert here.asked("cuda", {}) is None


# Whole machines: programs that answer with published outputs


def answering(**outputs_of):
    """Programs by name (with _ for -), the rest are not there."""
    told = {name.replace("_", "-"): found for name, found in outputs_of.items()}

    def ask(program, *arguments):
        found = told.get(program)
        return found.get(" ".join(arguments), "") if isinstance(found, dict) else found

    return ask


def test_a_machine_with_slices_gives_one_of_them():
    answers = {"-q -x": text("nvidia_smi_xml_a100_mig"), "-L": ""}
    found = look(answering(nvidia_smi=answers), "linux", {})
    assert [d.total for d in found.devices] == [19968 * MIB]
    assert "CUDA gives a process one MIG slice: the first one is taken" in found.notes


def test_graphics_of_the_cpu_are_no_device_for_models():
    csv = amd.rocm_csv(text("rocm_smi_csv_igpu"))
    told = {
        f"card{d.index}": {amd.TOTAL: str(d.total), amd.USED: str(d.used), "Card Series": d.name}
        for d in csv.devices
    }
    found = look(answering(rocm_smi=json.dumps(told)), "linux", {})
    assert [d.total for d in found.devices] == [17163091968]
    assert any("Raphael" in note for note in found.notes)


def test_a_machine_hides_what_its_environment_hides():
    six = answering(rocm_smi=text("rocm_smi_json_mi100_x6"))
    assert len(look(six, "linux", {}).devices) == 6
    found = look(six, "linux", {"HIP_VISIBLE_DEVICES": "4,5"})
    assert [d.index for d in found.devices] == [4, 5]
    assert "HIP_VISIBLE_DEVICES leaves 2 of 6" in found.notes


def test_a_mac_is_asked_by_sysctl_alone():
    told = (
        "hw.memsize: 68719476736\niogpu.wired_limit_mb: 0\nmachdep.cpu.brand_string: Apple M4 Max\n"
    )
    asked = []

    def ask(program, *_):
        asked.append(program)
        return told

    assert look(ask, "darwin", {}).devices[0].name == "Apple M4 Max"
    assert asked == ["sysctl"]


def test_windows_tells_cards_of_other_makers_by_the_registry():
    told = [
        {
            "DriverDesc": "NVIDIA GeForce RTX 2080 SUPER",
            "HardwareInformation.qwMemorySize": 8589934592,
        },
        {"DriverDesc": "AMD Radeon RX 7900 XTX", "HardwareInformation.qwMemorySize": 25753026560},
    ]
    xml = text("nvidia_smi_xml_t4")
    found = look(answering(nvidia_smi=xml, powershell=json.dumps(told)), "win32", {})
    assert [d.kind for d in found.devices] == ["cuda", "rocm"]
    without = look(answering(powershell=json.dumps(told)), "win32", {})
    assert [d.total for d in without.devices] == [8589934592, 25753026560]


def test_a_machine_without_any_program_has_none():
    found = look(answering(), "linux", {})
    assert (found.devices, found.seen) == ((), ())


def test_a_driver_that_does_not_answer_is_told():
    for name in ("nvidia_smi_no_driver", "nvidia_smi_nvml_mismatch"):
        (seen,) = look(answering(nvidia_smi=text(name)), "linux", {}).seen
        assert seen.why == RECORDS[name]["tells"]["why"]


# NVML


class NVMLError(Exception):
    pass


class Library:
    """Stands in for pynvml, with one card for each of `cards`."""

    NVMLError = NVMLError
    nvmlMemory_v2 = 0x2000028  # noqa: N815

    def __init__(self, cards):
        self.cards = cards

    def nvmlInit(self):  # noqa: N802
        if self.cards is None:
            raise NVMLError("Driver/library version mismatch")

    def __getattr__(self, name):
        def call(*given, **_):
            if name == "nvmlShutdown":
                return None
            if name == "nvmlDeviceGetCount":
                return len(self.cards)
            if name == "nvmlDeviceGetHandleByIndex":
                return self.cards[given[0]]
            key = name.removeprefix("nvmlDevice").removeprefix("Get").removeprefix("nvmlSystemGet")
            if key == "MigDeviceHandleByIndex":
                return given[0]["slices"][given[1]]
            found = {"DriverVersion": b"535.54", "CudaDriverVersion": 12020}
            found |= given[0] if given else {}
            if key not in found:
                raise NVMLError("Not Supported")
            return found[key]

        return call


class Memory:
    def __init__(self, total, reserved, used):
        self.total, self.reserved, self.used = total, reserved, used
        self.free = total - reserved - used


H200 = {
    "Name": "NVIDIA H200",
    "UUID": "GPU-0000",
    "MemoryInfo": Memory(143771 * MIB, 614 * MIB, 0),
    "CudaComputeCapability": (9, 0),
}


def test_nvml_tells_what_nvidia_smi_tells(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    monkeypatch.setitem(__import__("sys").modules, "pynvml", Library([H200]))
    seen = nvml.seen()
    (card,) = seen.devices
    (query,) = devices("nvidia_smi_query_h200")
    same = ("name", "total", "reserved", "used")
    assert [getattr(card, k) for k in same] == [getattr(query, k) for k in same]
    assert (card.capability, seen.versions) == ("9.0", {"driver": "535.54", "cuda": "12.2"})


def test_nvml_tells_slices_in_place_of_their_card(monkeypatch):
    part = {"Name": "NVIDIA H200 MIG 1g.18gb", "MemoryInfo": Memory(16384 * MIB, 0, 9 * MIB)}
    part |= {"GpuInstanceId": 9}
    card = {**H200, "MigMode": (1, 1), "MaxMigDeviceCount": 2, "slices": [part, None]}
    seen = nvml._all(Library([card]))
    assert [(d.name, d.mig, d.memory, d.total) for d in seen.devices] == [
        ("NVIDIA H200", "1g.18gb", "0/9", 16384 * MIB)
    ]


def test_nvml_of_a_chip_without_memory_of_its_own():
    seen = nvml._all(Library([{"Name": "NVIDIA GB10"}]))
    assert [(d.total, d.unified) for d in seen.devices] == [(None, True)]


def test_nvml_says_why_it_does_not_start(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    monkeypatch.setitem(__import__("sys").modules, "pynvml", Library(None))
    assert "a reboot settles it" in nvml.seen().why


# Strangers


def test_a_cut_output_is_no_traceback():
    for name in READ:
        whole = text(name)
        for part in (whole[: len(whole) // 3], whole[: len(whole) * 2 // 3], whole[40:]):
            try:
                seen = outputs.read(part)
            except BadFileError:
                continue
            assert all(d.total is None or d.total >= 0 for d in seen.devices)


def test_figures_without_end_are_no_sizes():
    assert size("9" * 400) is None
    assert size("99999999999999 MiB") is None
    assert size("-5 MiB") is None
    assert size("[N/A]") is None


def test_entities_are_not_expanded():
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaa">]><nvidia_smi_log>&a;</nvidia_smi_log>'
    assert nvidia.xml(bomb).why and nvidia.xml("<nvidia_smi_log>").why


def test_names_cannot_command_a_terminal():
    assert "\x1b" not in named("\x1b[31mNVIDIA\n\n H200\x07")
    assert len(named("x" * 10000)) <= 120
    uuid = "GPU-1a2b3c4d-0000-4000-8000-000000000001"
    assert hidden(f"see {uuid}") == "see GPU-1a2b..."
    evil = text("nvidia_smi_h200").replace("NVIDIA H200  ", "NVIDIA \x1b[2J")
    assert all(d.name.isprintable() for d in outputs.read(evil).devices)


@pytest.mark.slow
def test_thousands_of_rows_are_cut():
    row = "|   0  NVIDIA H200                    On  |   0 Off |      0 |\n"
    assert len(nvidia.smi("| NVIDIA-SMI 590.48.01 |\n" + row * 5000).devices) == 256
    assert len(nvidia.rows(row)) == 1


def test_an_output_of_hundreds_of_megabytes_is_not_read():
    with pytest.raises(BadFileError, match="characters"):
        outputs.read("x" * (outputs.LARGEST + 1))


# Programs


def script(folder, name, *lines):
    path = folder / name
    path.write_text("\n".join(("#!/bin/sh", *lines)) + "\n")
    path.chmod(0o755)


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


@pytest.mark.slow
def test_a_program_that_hangs_is_ended(path):
    script(path, "hangs", "sleep 60")
    assert programs.say("hangs", seconds=0.2) == ""


def test_a_tool_that_does_not_answer_is_told():
    (seen,) = look(answering(nvidia_smi=""), "linux", {}).seen
    assert seen.why == "it did not answer in time, or printed nothing"


def test_a_program_that_prints_without_end_is_cut(path):
    script(path, "endless", "yes")
    assert len(programs.say("endless")) == programs.LARGEST


def test_a_program_that_is_not_there_says_nothing(path):
    assert programs.say("no-such-program-here") is None


def test_no_program_is_taken_from_the_folder_that_we_stand_in(path, monkeypatch):
    script(path, "nvidia-here", "echo taken")
    assert programs.say("nvidia-here") == "taken\n"
    monkeypatch.chdir(path)
    assert programs.say("nvidia-here") is None
    monkeypatch.setenv("PATH", ".")
    assert programs.say("nvidia-here") is None


def test_what_a_program_complains_of_is_not_its_output(path):
    script(path, "noisy", "echo told", "echo warning >&2")
    assert programs.say("noisy") == "told\n"
