"""Host memory: by hand, as laws, and with a machine that is a folder."""

import json
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import weighbridge
from tests.told import full
from weighbridge.answers.questions.requests import Requests
from weighbridge.answers.verdict.on_host import both, judged
from weighbridge.base.errors import UnsupportedError, UsageError
from weighbridge.base.memory import Bytes, Component, Device, Instant, exactly
from weighbridge.base.records import replace
from weighbridge.base.units import GIB, KIB, parse_size
from weighbridge.faces.cli.menu import run
from weighbridge.machines.accelerators.pools import MachineMemory
from weighbridge.machines.accelerators.ram import here, ram
from weighbridge.memory.components.host import PROCESS

LLAMA = "llama-3.1-8b"
PARAMETERS = 8_030_261_248
ORDER = ["yes", "unknown", "no"]


def host(**phases):
    """Phases of (bytes that stay, pages of files)."""
    found = tuple(
        Instant(
            name,
            (
                Component(name="other", bytes=need, basis="assumed"),
                Component(name="weights", bytes=pages, basis="computed", droppable=True),
            ),
        )
        for name, (need, pages) in phases.items()
    )
    return Device(index=0, kind="host", phases=found)


def room(nbytes, **more):
    return MachineMemory(room=exactly(nbytes), source="as you said", **more)


def loading(**settings):
    return weighbridge.load(LLAMA, **settings).devices[-1].phases[0]


def copies(phase):
    return sum(c.bytes.low for c in phase.components if c.name == "weights" and not c.droppable)


# Loading


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "copied"),
    [
        ({}, 0),  # bfloat16 files are mapped as they are
        ({"dtype": "float32"}, 4 * PARAMETERS),
        ({"dtype": "float32", "device_map": "cuda"}, 0),
        ({"quantization": "nf4"}, 0),  # on the device
        ({"quantization": "torchao-int8", "device_map": "cuda"}, 0),
        ({"quantization": "gptq-4bit-g128"}, 0),  # a checkpoint that is stored so
        ({"engine_version": "4.57", "dtype": "bfloat16"}, 0),
        ({"engine_version": "4.51", "dtype": "bfloat16"}, 0),
        ({"engine_version": "4.50", "dtype": "bfloat16"}, 2 * PARAMETERS),  # built in memory first
        ({"engine_version": "4.50", "dtype": "bfloat16", "device_map": "cuda"}, 0),
    ],
)
def test_what_a_process_copies(settings, copied):
    assert copies(loading(**settings)) == copied


@pytest.mark.parametrize("form", ["torchao-int8", "hqq-4bit-g64"])
def test_formats_that_are_made_on_the_host_are_copies(form):
    """Tensors as large as they become."""
    report = weighbridge.load(LLAMA, quantization=form)
    assert copies(report.devices[-1].phases[0]) == weights(report)


def weights(report):
    load = report.devices[0].phases[0]
    return sum(c.bytes.low for c in load.components if c.name == "weights")


def test_pages_of_files_are_no_need():
    phase = loading()
    assert phase.needed == PROCESS
    assert phase.droppable == Bytes(0, 2 * PARAMETERS, 2 * PARAMETERS)
    assert phase.at("driver").high == PROCESS.high + 2 * PARAMETERS


def test_serving_needs_no_copies_once_it_has_loaded():
    report = weighbridge.infer(LLAMA, dtype="float32")
    load, *running = report.devices[-1].phases
    assert copies(load) == 4 * PARAMETERS
    assert running
    assert all(p.needed == PROCESS for p in running)


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_servers_need_processes_and_not_the_files(engine):
    host = weighbridge.infer(LLAMA, engine=engine).devices[-1]
    assert host.phases[0].droppable.high == 2 * PARAMETERS
    assert GIB <= host.phases[0].needed.low <= host.phases[0].needed.high < 8 * GIB


# Verdicts


def test_the_host_decides_where_it_is_too_small():
    report = weighbridge.load(LLAMA, dtype="float32", gpu="a100-80gb", ram="16GiB")
    v = report.verdict
    assert v.fits == v.host.fits == "no"
    assert v.host.phase == "load"
    assert v.reason.startswith(
        "host memory while loading: needs about 31.4 GiB; the machine has 16"
    )
    assert "the device alone would do" in v.reason
    assert v.host.available == 16 * GIB
    assert weighbridge.load(LLAMA, dtype="float32", gpu="a100-80gb").verdict.fits == "yes"


def test_without_a_size_it_is_stated_and_not_judged():
    v = weighbridge.load(LLAMA, gpu="4090").verdict
    assert (v.fits, v.host.fits, v.host.available) == ("yes", None, None)
    assert v.host.needed == PROCESS
    assert "--ram" in v.host.reason


@pytest.mark.slow
def test_the_states_of_a_72b_do_not_fit_beside_eight_cards():
    """12 bytes a parameter of states and master copies alone are 812 GiB."""
    settings = {"shard": "zero3", "offload": "optimizer", "checkpointing": "full", "seq_len": 512}
    model, settings = weighbridge.prepare("qwen2.5-72b"), {**settings, "remedies": False}
    found = model.train(gpu="h100:8", ram="1000GiB", **settings).verdict
    assert found.fits == "no"
    assert found.reason.startswith("host memory while saving")
    assert found.host.needed.low > 18 * 72.7e9
    assert model.train(gpu="h100:8", **settings).verdict.fits == "yes"


@pytest.mark.slow
def test_a_machine_alone_is_judged_without_a_device():
    """It may fit only where nothing is on a device."""
    some = weighbridge.load(LLAMA, ram="64GiB").verdict
    assert (some.fits, some.host.fits, some.count) == ("unknown", "yes", 0)
    assert "--gpu" in some.reason
    assert weighbridge.load(LLAMA, dtype="float32", ram="8GiB").verdict.fits == "no"
    alone = {"engine": "llama.cpp", "quantization": "Q4_K_M", "n_gpu_layers": 0}
    assert weighbridge.infer(LLAMA, **alone, ram="64GiB").verdict.fits == "yes"
    assert weighbridge.infer(LLAMA, **alone, ram="4GiB").verdict.fits == "no"
    assert weighbridge.load(LLAMA).verdict is None


@pytest.mark.slow
@pytest.mark.parametrize("ask", [weighbridge.load, weighbridge.infer])
def test_a_chip_without_memory_of_its_own_has_the_hosts(ask):
    """Weights and their runtime are in the same memory as the process."""
    own, shared = (ask("llama-3.2-1b", gpu=gpu, ram="4GiB").verdict for gpu in ("4090", "m3 16gb"))
    assert own.host.needed == PROCESS
    assert shared.host.needed == PROCESS.plus(shared.per_device)
    assert "with what is on the device" in shared.reason
    assert (own.fits, shared.fits) == ("yes", "unknown")
    assert ask("llama-3.2-1b", gpu="m3 16gb", ram="2GiB").verdict.fits == "no"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "model", "asked", "phase"),
    [
        (
            "infer",
            LLAMA,
            {"engine": "vllm", "context": 131_072, "gpu_memory_utilization": 0.5},
            "prefill",
        ),
        (
            "train",
            "llama-3.2-1b",
            {"method": "lora", "framework": "trainer", "batch_size": 4},
            "loss",
        ),
    ],
)
def test_phases_that_only_the_device_has_are_counted(task, model, asked, phase):
    """The host of a server has no `prefill`, that of training no `loss`: each is beside its worst
    phase after loading, or loading where it has no other."""
    ask, asked = getattr(weighbridge.prepare(model), task), {**asked, "gpu": "gb10"}
    found = ask(ram="1GiB", remedies=False, **asked)
    inside, machine = found.devices
    (held,) = (p.at("driver") for p in inside.phases if p.name == phase)
    held = Bytes(*(max(inside.taken or 0, nbytes) for nbytes in held))  # all that it reserves
    later = [p.needed for p in machine.phases if p.name != "load"]
    beside = max(later or [p.needed for p in machine.phases])
    assert phase not in [p.name for p in machine.phases]
    assert found.verdict.host.phase == phase
    assert found.verdict.host.needed.low == held.low + beside.low
    assert found.verdict.host.needed.high >= held.high + beside.high
    enough = found.verdict.host.needed
    for room, fits in ((enough.low - 1, "no"), (enough.high - 1, "unknown"), (enough.high, "yes")):
        assert ask(ram=str(room), remedies=False, **asked).verdict.fits == fits


def test_several_chips_without_memory_of_their_own_are_several_machines():
    """Each has one device; of the host it has between an even share and all."""
    inside = [host(load=(exactly(n * GIB), exactly(0))) for n in (7, 5, 5, 5)]
    own = host(load=(Bytes(4 * GIB, 8 * GIB, 16 * GIB), exactly(0)))
    found = judged(own, room(8 * GIB - 1), inside)
    assert found.needed == Bytes(8 * GIB, 9 * GIB, 23 * GIB)
    assert found.fits == "no"
    assert "on one of 4 machines" in found.reason
    asked = {"gpu": "gb10:4", "ram": "119GiB"}
    assert "on one of 4 machines" in weighbridge.train("llama-3.2-1b", **asked).verdict.host.reason


def on_device(taken=None, taken_at_least=None, **phases):
    held = tuple(
        Instant(name, (Component(name="weights", bytes=need, basis="computed"),))
        for name, need in phases.items()
    )
    return Device(index=0, kind="gpu", phases=held, taken=taken, taken_at_least=taken_at_least)


def test_what_an_engine_reserves_is_held_in_the_one_memory():
    """Need 5 of 60 that are taken at start; while it loads they are not taken yet."""
    engine = on_device(taken=60 * GIB, load=exactly(4 * GIB), decode=exactly(5 * GIB))
    process = host(load=(exactly(2 * GIB), exactly(0)), decode=(exactly(2 * GIB), exactly(0)))
    found = judged(process, room(59 * GIB, shared=True), [engine])
    assert (found.needed, found.phase) == (exactly(62 * GIB), "decode")
    assert (found.fits, found.tipped_by) == ("no", "kv_cache")
    assert judged(process, room(62 * GIB, shared=True), [engine]).fits == "yes"
    less = on_device(taken=4 * GIB, load=exactly(4 * GIB), decode=exactly(5 * GIB))
    assert judged(process, room(62 * GIB, shared=True), [less]).needed == exactly(7 * GIB)


def test_a_reserve_is_all_that_is_held_and_of_what_is_free_it_is_the_least():
    """What is not known of the need is inside the reserve; more than it where it may be more."""
    process = host(decode=(exactly(2 * GIB), exactly(0)))
    wide = on_device(taken=60 * GIB, decode=Bytes(5 * GIB, 50 * GIB, 70 * GIB))
    found = judged(process, room(80 * GIB, shared=True), [wide])
    assert found.needed == Bytes(62 * GIB, 62 * GIB, 72 * GIB)
    of_free = on_device(taken=60 * GIB, taken_at_least=55 * GIB, decode=exactly(5 * GIB))
    assert judged(process, room(80 * GIB, shared=True), [of_free]).needed == exactly(57 * GIB)


def test_pages_of_files_may_stay_where_the_driver_does_not_drop_them():
    loading = host(load=(exactly(2 * GIB), exactly(48 * GIB)))
    inside = on_device(taken=80 * GIB, load=exactly(48 * GIB), decode=exactly(50 * GIB))
    for stay, most in ((True, 98), (False, 82)):
        found = judged(loading, room(120 * GIB, shared=True, pages_stay=stay), [inside])
        assert found.needed == Bytes(82 * GIB, 82 * GIB, most * GIB)
    twice = judged(loading, room(97 * GIB, shared=True, pages_stay=True), [inside])
    assert (twice.fits, twice.phase) == ("unknown", "load")
    assert "and the pages of its files" in twice.reason


def test_copies_leave_the_one_memory_as_they_arrive():
    """30 GiB of copies in float32, of which 12 GiB of weights are made: 30, not 42."""
    copies = Component(name="weights", bytes=exactly(30 * GIB), basis="computed")
    process = Component(name="other", bytes=exactly(GIB), basis="assumed")
    loading = Device(index=0, kind="host", phases=(Instant("load", (copies, process)),))
    for arrived, needed in ((12, 31), (30, 31), (40, 41)):
        inside = on_device(load=exactly(arrived * GIB))
        found = judged(loading, room(64 * GIB, shared=True), [inside])
        assert found.needed == exactly(needed * GIB)
    apart = judged(loading, room(64 * GIB))
    assert (apart.needed, apart.shared) == (exactly(31 * GIB), False)
    saving = Device(index=0, kind="host", phases=(Instant("save", (copies, process)),))
    whole = judged(saving, room(64 * GIB, shared=True), [on_device(save=exactly(12 * GIB))])
    assert whole.needed == exactly(43 * GIB)


@pytest.mark.slow
def test_the_report_has_both_halves():
    found = weighbridge.load(LLAMA, gpu="4090", ram=64 * GIB)
    half = found.to_dict()["verdict"]["host"]
    assert half["needed"] == PROCESS._asdict()
    assert (half["available"], half["fits"], half["phase"]) == (64 * GIB, "yes", "load")
    assert found.workload["ram"] == str(64 * GIB)
    assert "of 64.00 GiB" in full(found)
    assert "the machine has 64.0 GiB" in " ".join(str(found).split())


SIZES = st.integers(0, 1 << 40)
NEEDS = st.lists(SIZES, min_size=3, max_size=3).map(lambda found: Bytes(*sorted(found)))


@pytest.mark.slow
@given(load=NEEDS, step=NEEDS, pages=SIZES, available=SIZES, more=SIZES)
def test_more_memory_is_never_worse_and_pages_decide_nothing(load, step, pages, available, more):
    found = host(load=(load, exactly(pages)), step=(step, exactly(0)))
    without = host(load=(load, exactly(0)), step=(step, exactly(0)))
    less = judged(found, room(available))
    bare = judged(without, room(available))
    assert replace(less, container=0) == replace(bare, container=0)  # which has room for pages
    assert ORDER.index(judged(found, room(available + more)).fits) <= ORDER.index(less.fits)
    assert (less.fits == "yes") == (max(load.high, step.high) <= available)
    assert (less.fits == "no") == (max(load.low, step.low) > available)


@cache
def device_alone(gpu):
    return weighbridge.load("qwen2.5-7b", gpu=gpu).verdict


@pytest.mark.slow
@settings(deadline=None)
@given(need=NEEDS, available=SIZES, gpu=st.sampled_from(["4090", "t4", "h100"]))
def test_the_worse_half_is_the_verdict(need, available, gpu):
    of_device = device_alone(gpu)
    found = both(of_device, [host(load=(need, exactly(0)))], room(available))
    halves = (of_device.fits, found.host.fits)
    assert found.fits == max(halves, key=ORDER.index)
    if found.fits != of_device.fits:
        assert found.reason.startswith("host memory")
    assert found.margin_bytes == of_device.margin_bytes


def test_of_two_halves_that_are_as_bad_the_device_is_named_first():
    device = weighbridge.load(
        "llama-3.1-70b", gpu="t4"
    ).verdict  # it does not fit, and the host does not either
    judged = both(device, [host(load=(exactly(GIB), exactly(0)))], room(KIB))
    assert (device.fits, judged.host.fits, judged.fits) == ("no", "no", "no")
    assert judged.reason.startswith(device.reason) and "; host memory" in judged.reason


@pytest.mark.parametrize(("spare", "tight"), [(GIB, False), (KIB, True)])
def test_a_host_alone_is_tight_where_little_is_left(spare, tight):
    need = exactly(9 * GIB - 1)
    alone = both(None, [host(load=(need, exactly(0)))], room(need.high + spare))
    assert (alone.fits, alone.tight) == ("yes", tight)
    assert alone.share_that_fits == 1.0 and alone.margin_bytes == spare


# What a machine has


def test_sizes_as_they_are_typed():
    assert ram(None) is None
    assert ram("64GiB").nbytes == 64 * GIB
    assert ram("64GB").nbytes == parse_size("64GB") == 64 * 10**9
    for wrong in ("lots", "0GiB", "10%"):
        with pytest.raises(UsageError):
            weighbridge.load(LLAMA, ram=wrong)


def machine(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return here(folder)


MEMINFO = f"MemTotal: {99 * GIB // KIB} kB\nMemAvailable: {50 * GIB // KIB} kB\n"


def test_this_machine_is_what_can_be_had_now(tmp_path):
    found = machine(tmp_path, {"proc/meminfo": MEMINFO})
    assert found.nbytes == 50 * GIB
    assert "MemAvailable" in found.source


@pytest.mark.parametrize(
    ("files", "left"),
    [
        (  # what it uses, less pages of files, of its own limit
            {
                "proc/self/cgroup": "0::/job\n",
                "sys/fs/cgroup/job/memory.max": f"{8 * GIB}\n",
                "sys/fs/cgroup/job/memory.current": f"{3 * GIB}\n",
                "sys/fs/cgroup/job/memory.stat": f"anon 1\ninactive_file {GIB}\n",
            },
            6 * GIB,
        ),
        (  # the group above is tighter
            {
                "proc/self/cgroup": "0::/pod/job\n",
                "sys/fs/cgroup/pod/job/memory.max": "max\n",
                "sys/fs/cgroup/pod/job/memory.current": "0\n",
                "sys/fs/cgroup/pod/memory.max": f"{4 * GIB}\n",
                "sys/fs/cgroup/pod/memory.current": f"{GIB}\n",
            },
            3 * GIB,
        ),
        (  # version 1, inside a container whose path is the host's
            {
                "proc/self/cgroup": "5:memory:/docker/abc\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{2 * GIB}\n",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{GIB}\n",
            },
            GIB,
        ),
        (  # no limit
            {
                "proc/self/cgroup": "5:cpu,memory:/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{GIB}\n",
            },
            50 * GIB,
        ),
    ],
)
def test_a_container_has_what_its_limit_leaves(tmp_path, files, left):
    assert machine(tmp_path, {"proc/meminfo": MEMINFO, **files}).nbytes == left


def test_a_machine_that_does_not_tell(tmp_path):
    with pytest.raises(UnsupportedError, match="--ram 64GiB"):
        here(tmp_path)


# The doors


@pytest.mark.parametrize(
    ("ram", "code"),
    [("64GiB", 0), ("8GiB", 1), ("31GiB", 4)],  # 29.92 GiB of copies, 0.5 to 4 more
)
def test_check_is_about_both_halves(ram, code, capsys):
    asked = ["load", LLAMA, "--dtype", "float32", "--gpu", "a100-80gb", "--ram", ram, "--check"]
    assert run(asked) == code
    told = " ".join(capsys.readouterr().out.split())
    assert f"the machine has {float(ram[:-3]):.1f} GiB" in told


def test_check_needs_something_to_judge_by(capsys):
    assert run(["load", LLAMA, "--check"]) == 2
    assert "--ram" in capsys.readouterr().err
    assert run(["load", LLAMA, "--check", "--ram", "8GiB", "--dtype", "float32"]) == 1


@pytest.mark.slow
@pytest.mark.parametrize("task", ["load", "infer", "train"])
def test_requests_have_it_too(task):
    workload = {"gpu": "4090", "ram": "256MiB"}
    asked = {"task": task, "model": "llama-3.2-1b", "workload": workload, "remedies": False}
    found = Requests().answer(json.dumps(asked))
    assert found["workload"]["ram"] == "256MiB"
    assert found["verdict"]["fits"] == found["verdict"]["host"]["fits"] == "no"
    wrong = json.dumps({"task": task, "model": "llama-3.2-1b", "workload": {"ram": "much"}})
    assert "much" in Requests().answer(wrong)["error"]["message"]


@pytest.mark.slow
@pytest.mark.parametrize("framework", ["accelerate", "lightning", "plain"])
def test_frameworks_over_transformers_load_and_save_as_it_does(framework):
    """Files in bfloat16, weights in float32: a copy of 4 bytes a parameter in each process, one
    where one rank reads for all, none where zero.Init has parts."""
    settings = {"seq_len": 64, "precision": "bf16-mixed", "offline": True}
    ours, trainers = (
        weighbridge.train("llama-3.2-1b", framework=f, **settings).devices[-1]
        for f in (framework, "trainer")
    )
    assert [p.name for p in ours.phases] == [p.name for p in trainers.phases]
    assert ours.phases[0] == trainers.phases[0]
    assert ours.phases[0].at("driver").low > 4 * 1_235_814_400
    settings |= {"framework": framework, "data_parallel_size": 8}
    each, once, init = (
        weighbridge.train("llama-3.2-1b", **settings, **more).devices[-1].phases[0].at("driver")
        for more in (
            {"shard": "fsdp2"},
            {"shard": "fsdp2", "cpu_ram_efficient_loading": True},
            {"shard": "zero3"},
        )
    )
    assert each.low - once.low == 7 * 4 * 1_235_814_400
    assert init.low == 8 * PROCESS.low


def test_the_phase_that_is_named_is_the_one_that_is_expected_to_take_most():
    """A step and a save that take as much at least: 'no' names the fuller of the two."""
    needs = {"step": Bytes(20, 30, 50), "save": Bytes(20, 40, 45)}
    phases = tuple(
        Instant(name, (Component(name="other", bytes=need, basis="assumed"),))
        for name, need in needs.items()
    )
    host = Device(index=0, kind="host", phases=phases)
    assert judged(host, room(10)).phase == "save"


@pytest.mark.slow
@pytest.mark.parametrize(("gpu", "more"), [("gb10", {}), ("m4 max 128gb", {"ram": "60GiB"})])
def test_the_longest_context_leaves_processes_their_part_of_one_memory(gpu, more):
    """The same verdict says so: yes at that length, and not at the next."""
    asked = {"engine": "transformers", "gpu": gpu, "batch_size": 16, "headroom": "20GiB", **more}
    model = weighbridge.prepare("qwen3-8b")
    longest = model.infer(context=4096, **asked).derived["largest_context"]
    assert 4096 < longest < 40_960
    assert model.infer(context=longest, **asked).verdict.fits == "yes"
    assert model.infer(context=longest + 1, **asked).verdict.fits != "yes"


@pytest.mark.slow
def test_macos_swaps_out_what_grows_with_use():
    """8 GiB of prompts that llama-server may keep are no need of a Mac: one swapped 6.5 of the 13.74
    GB that its heap grew to, and served on (ollama issue 18099). Linux ended such processes
    (rwlove/home-ops pull 13936)."""
    asked = {"engine": "ollama", "quantization": "Q4_K_M", "context": 4096}
    mac = weighbridge.infer("qwen3-8b", gpu="m2-16gb", **asked)
    assert (mac.verdict.fits, mac.derived["largest_context"] > 32_768) == ("yes", True)
    half = mac.to_dict()["verdict"]["host"]
    assert half["swapped_bytes"] == mac.verdict.host.swapped == 8 * GIB
    assert half["needed"]["high"] < half["available"] < half["needed"]["high"] + 8 * GIB
    assert "up to 8.0 GiB more with use" in str(mac) and "macOS swaps out" in str(mac)
    linux = weighbridge.infer("qwen3-8b", gpu="8gb", ram="7GiB", **asked)
    assert (linux.verdict.fits, linux.verdict.host.swapped) == ("unknown", 0)
    said = weighbridge.infer("qwen3-8b", gpu="m2-16gb", ram="12GiB", **asked)  # as of a container
    assert (said.verdict.fits, said.verdict.host.swapped) == ("unknown", 0)
