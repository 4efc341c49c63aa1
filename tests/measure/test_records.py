"""`weighbridge measure` without a GPU: targets, records, histories, processes, and what is printed."""

import json
import os
import sys
from dataclasses import replace
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from subprocess import PIPE, Popen
from time import sleep

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cases import all_of
from tests.measure.stored import measurement
from weighbridge.base.errors import NotFoundError, UnsupportedError, UsageError
from weighbridge.faces.cli import menu
from weighbridge_lab.golden import NEEDS, PROGRAMS, find, listening, phase, steps
from weighbridge_lab.measure import history, run
from weighbridge_lab.measure.record import (
    DONE,
    OOM,
    Levels,
    MeasuredMachine,
    MeasuredPhase,
    MeasuredRun,
    Measurement,
    errors,
)
from weighbridge_lab.measure.run import Target, apart, targets
from weighbridge_lab.trace.tape import Tape

MIB = 1 << 20
DOCS = Path(__file__).parents[2] / "docs" / "measure.md"


# The suite as a list


def test_there_are_programs():
    assert PROGRAMS


def test_every_program_is_in_the_docs():
    text = DOCS.read_text()
    assert [name for name in PROGRAMS if f"`{name}`" not in text] == []


def test_every_program_has_its_own_settings():
    kinds = [(p.home, json.dumps(p.settings, sort_keys=True)) for p in PROGRAMS.values()]
    assert len(set(kinds)) == len(kinds)
    assert {home.partition(":")[0] for home, _ in kinds} == set(NEEDS)


def test_a_misspelt_name_gets_the_nearest():
    with pytest.raises(NotFoundError, match="did you mean perceptron-sgd"):
        find("perceptron-sdg")


def test_missing_packages_are_named():
    program = replace(find("perceptron-sgd"), extra="no_such_package")
    assert program.missing[-1] == "no_such_package"
    assert "no_such_package" not in find("perceptron-sgd").missing


# Phases


def test_phases_are_heard_while_somebody_listens():
    heard = []
    phase("before")
    with listening(heard.append):
        phase("load")
        assert list(steps(2)) == [1, 2]
    phase("after")
    assert heard == ["load", "step 1", "step 2"]


# Targets


def test_targets(tmp_path):
    script = tmp_path / "train.py"
    script.write_text("")
    path = str(script)
    assert targets(path, ("--epochs", "1")) == [Target(name=path, arguments=("--epochs", "1"))]
    assert targets(f"{path}:main") == [Target(name=path, function="main")]
    assert [t.name for t in targets("golden")] == list(PROGRAMS)
    assert {t.name for t in targets("perceptron-adamw*")} == {
        n for n in PROGRAMS if n.startswith("perceptron-adamw")
    }
    assert targets("perceptron-sgd")[0].golden
    assert not targets(path)[0].golden


@all_of(
    ("text", "arguments", "reason"),
    [
        ("nowhere.py", (), "nowhere.py: no such file"),
        ("nowhere.py:main", (), "nowhere.py: no such file"),
        ("no-*", (), "like 'no-\\*'"),
        ("nonsense", (), "no golden program is called 'nonsense'"),
        ("golden", ("--json",), "go before 'golden'"),
    ],
)
def test_what_is_no_target(text, arguments, reason):
    with pytest.raises(UsageError, match=reason):
        targets(text, arguments)


def test_a_folder_of_zeros_needs_torch_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    words = ("gpt2", "--offline", "--zeros", str(tmp_path / "gpt2"))
    with pytest.raises(UnsupportedError, match="torch is not installed"):
        targets("train", words)


def test_a_script_runs_as_itself(tmp_path, monkeypatch, capsys):
    (tmp_path / "beside.py").write_text("WORD = 'beside'")
    script = tmp_path / "train.py"
    script.write_text(
        "import sys, beside\n"
        "def main(): print('called')\n"
        "if __name__ == '__main__': print(beside.WORD, sys.argv[1:]); sys.exit(0)\n"
    )
    monkeypatch.setattr("sys.argv", ["pytest"])
    monkeypatch.syspath_prepend(str(tmp_path))
    Target(name=str(script), arguments=("a", "-b")).run()
    Target(name=str(script), function="main").run()
    assert capsys.readouterr().out == "beside ['a', '-b']\ncalled\n"
    with pytest.raises(NotFoundError, match="does not define 'other'"):
        Target(name=str(script), function="other").run()


def test_a_script_that_gives_up(tmp_path, monkeypatch):
    script = tmp_path / "train.py"
    script.write_text("raise SystemExit(3)")
    monkeypatch.setattr("sys.argv", ["pytest"])
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UsageError, match="exit status 3"):
        Target(name=str(script)).run()


# Processes


@pytest.mark.slow
def test_a_function_apart():
    assert apart("operator:add", 2, 3) == 5


@pytest.mark.slow
def test_errors_come_back():
    with pytest.raises(NotFoundError, match="did you mean"):
        apart("weighbridge_lab.golden:find", "perceptron-sdg")
    with pytest.raises(UnsupportedError, match="ZeroDivisionError: "):
        apart("operator:truediv", 1, 0)
    with pytest.raises(UnsupportedError, match="no_such_module is not installed: pip install"):
        apart("no_such_module:f")
    with pytest.raises(UnsupportedError, match="exit status 7"):
        apart("os:_exit", 7)


PARENT = """
import sys
from weighbridge_lab.measure.run import _started

if __name__ == "__main__":
    _, process = _started("time:sleep", (600,), False)
    print(process.pid, flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.isdir("/proc"), reason="processes are read from /proc")
def test_a_process_ends_with_its_parent(tmp_path):
    """Even with one that was killed, and could end nobody."""
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    parent = Popen([sys.executable, str(script)], stdin=PIPE, stdout=PIPE, text=True)
    child = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    for _ in range(600):  # a minute
        if not alive(child):
            return
        sleep(0.1)
    raise AssertionError("it went on alone")


def alive(process):
    """Tell whether a process runs: one that nobody has waited for does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# Errors and records


def levels(allocated, reserved=0, driver=0):
    return Levels(allocated * MIB, reserved * MIB, driver * MIB)


def test_errors_are_signed_and_of_what_was_measured():
    assert errors(levels(110, 90, 5), levels(100, 100, 0)) == {
        "allocated": 0.1,
        "reserved": -0.1,
        "driver": None,
    }


RUN = MeasuredRun(
    outcome=DONE,
    phases=(
        MeasuredPhase(name="load", peak=levels(100, 120, 600)),
        MeasuredPhase(name="step 1", peak=levels(400, 420, 500)),
    ),
    driver="process",
    seconds=1.5,
)
MACHINE = MeasuredMachine(
    gpu="NVIDIA T4",
    card="nvidia-t4",
    capability="7.5",
    total_memory=15 * 1024 * MIB,
    driver="580.65.06",
    versions={"torch": "2.13.0", "cuda": "13.0"},
)
RECORD = Measurement(
    target="perceptron-sgd",
    date="2026-01-31",
    version="0.1.0",
    machine=MACHINE,
    measured=RUN,
    predicted=replace(
        RUN,
        phases=(replace(RUN.phases[0], low=levels(99, 115, 580), high=levels(102, 125, 640)),),
        driver="context and reserved",
    ),
)


def test_the_peak_is_of_each_level_alone():
    assert RUN.peak == levels(400, 420, 600)
    assert replace(RUN, phases=()).peak == levels(0)


def test_a_record_is_read_as_it_was_written():
    body = json.loads(json.dumps(RECORD.to_dict()))
    assert measurement(body) == RECORD
    assert body["schema"] == "weighbridge.measure/1"
    assert body["error"] == {"allocated": -0.75, "reserved": -0.714286, "driver": 0.0}


def test_every_key_of_a_record_is_in_the_docs():
    text = DOCS.read_text()

    def keys(value):
        for key, inner in value.items() if isinstance(value, dict) else ():
            yield key
            if key not in ("versions", "settings"):
                yield from keys(inner)
        for inner in value if isinstance(value, list) else ():
            yield from keys(inner)

    told = history.compare((1,), (2,)) | {"replayed": {"allocated": 1, "reserved": 1}}
    found = set(keys(replace(RECORD, history=told).to_dict()))
    assert [key for key in sorted(found) if f'"{key}"' not in text] == []


# Histories

ENTRIES = [
    {"action": "segment_alloc", "addr": 512, "size": 2 * MIB},
    {"action": "alloc", "addr": 512, "size": 1000},
    {"action": "alloc", "addr": 2048, "size": 24},
    {"action": "free_requested", "addr": 512, "size": 1000},
    {"action": "free_completed", "addr": 512, "size": 1000},
    {"action": "free_completed", "addr": 99, "size": 5},  # from before the history
    {"action": "alloc", "addr": 512, "size": 8},  # the address again
    {"action": "free_completed", "addr": 512, "size": 8},
]


def test_a_snapshot_by_hand():
    assert history.of_snapshot(ENTRIES) == (1000, 24, -1, 8, -3)


@st.composite
def streams(draw):
    """Requests and releases, in an order that can be."""
    events, living, asked = [], [], 0
    for size in draw(st.lists(st.integers(-1, 64 * MIB), max_size=40)):
        if size > 0:
            asked += 1
            living.append(asked)
            events.append(size)
        elif living:
            events.append(-living.pop(draw(st.integers(0, len(living) - 1))))
    return tuple(events)


@pytest.mark.slow
@given(streams())
def test_a_tape_and_a_snapshot_of_it_are_one(events):
    tape, numbers, entries, addresses = Tape(), [], [], []
    for at, event in enumerate(events):
        if event > 0:
            numbers.append(tape.malloc(event, op="test"))
            addresses.append(512 * at)
            entries.append({"action": "alloc", "addr": addresses[-1], "size": event})
        else:
            tape.free(numbers[-event - 1])
            entries.append({"action": "free_completed", "addr": addresses[-event - 1], "size": 0})
    assert history.of_tape(tape.events, tape.storages) == history.of_snapshot(entries) == events
    assert history.replay(events) == (tape.allocated.nbytes, tape.reserved.nbytes)


def test_a_replay_by_hand():
    """Blocks of 512 bytes in one segment of 2 MiB, and one of 20 MiB beside it."""
    assert history.replay((1000, 24, -1, 3 * MIB)) == (3 * MIB + 512, 22 * MIB)
    assert history.replay(()) == (0, 0)


def test_where_two_streams_part():
    told = history.compare((1000, 24, -1, 8, 8), (1000, 24, -2, 8))
    assert told == {
        "equal": False,
        "measured_events": 5,
        "predicted_events": 4,
        "same_until": 2,
        "only_measured": [[8, 1]],
        "only_predicted": [],
    }


def test_the_order_of_releases_of_one_moment_does_not_count():
    assert history.compare((5, 6, 7, -1, -3, -2), (5, 6, 7, -3, -2, -1))["equal"]
    assert not history.compare((5, 6, -1, 7, -2), (5, 6, -2, 7, -1))["equal"]


@pytest.mark.slow
@given(streams(), st.randoms())
def test_that_order_leaves_the_same_memory(events, random):
    def shuffled(run):
        return random.sample(run, len(run)) if run[0] < 0 else run

    runs = (list(run) for _, run in groupby(events, lambda e: e < 0))
    other = tuple(e for run in runs for e in shuffled(run))
    assert history.replay(other) == history.replay(events)
    assert history.compare(events, other)["equal"]


@pytest.mark.slow
@given(streams())
def test_a_stream_is_equal_to_itself(events):
    told = history.compare(events, events)
    assert told["equal"]
    assert told["same_until"] == len(events)
    assert told["only_measured"] == told["only_predicted"] == []


def test_a_history_is_kept_in_the_same_bytes(tmp_path):
    first, second = str(tmp_path / "a.gz"), str(tmp_path / "b.gz")
    for path in (first, second):
        history.write(path, (1000, -1))
    assert history.read(first) == (1000, -1)
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


# The command


@pytest.fixture
def told(monkeypatch, capsys):
    """Runs the command on results that are given."""

    def command(results, *arguments):
        monkeypatch.setattr(run, "measure", lambda chosen, events, tasks: iter(results))
        code = menu.run(["measure", *arguments])
        return code, *capsys.readouterr()

    return command


def test_one_record_for_people(told):
    code, out, _ = told([RECORD], "perceptron-sgd")
    lines = out.splitlines()
    assert code == 0
    assert lines[0] == (
        "perceptron-sgd on NVIDIA T4, torch 2.13.0, CUDA 13.0, driver 580.65.06: done"
    )
    words = "load allocated 100.00 MiB 100.00 MiB (99.00 to 102.00) +0.00%"
    assert " ".join(lines[2].split()) == words  # its interval stands beside the point
    assert lines[-1].split() == ["step", "1", "driver", "500.00", "MiB", "-", "-"]


def test_many_records_for_people(told):
    worse = replace(RECORD, target="perceptron-adam", measured=replace(RUN, outcome=OOM))
    alone = replace(RECORD, predicted=None, note="not predicted: why")
    code, out, err = told([RECORD, worse, alone], "perceptron-a*")
    assert "out of memory (predicted: done)" in out
    assert "allocated: within 0.5% in 0 of 3" in out
    assert "perceptron-sgd: not predicted: why" in out
    assert err.splitlines()[0] == "measured perceptron-sgd"
    assert code == 0


def test_a_program_that_fails_does_not_stop_the_others(told):
    failed = run.FailedError("perceptron-sgd: needs bitsandbytes")
    code, out, err = told([failed, RECORD], "--json", "perceptron-sgd")
    assert code == 2
    assert json.loads(out)["target"] == "perceptron-sgd"
    assert err == "error: perceptron-sgd: needs bitsandbytes\n"


def test_other_forms(told):
    _, out, _ = told([RECORD], "-q", "perceptron-sgd")
    assert out == f"perceptron-sgd {400 * MIB} {100 * MIB}\n"
    _, out, _ = told([RECORD], "--format", "markdown", "perceptron-sgd")
    assert "| phase | level | measured | predicted | error |" in out


def test_histories_are_told(told):
    same = history.compare((1,), (1,))
    _, out, _ = told([replace(RECORD, history=same)], "perceptron-sgd")
    assert "every allocation is as predicted (1 events)" in out
    other = history.compare((8519680, 512), (512,))
    _, out, _ = told([replace(RECORD, history=other)], "perceptron-sgd")
    assert "only measured: 1 x 8,519,680" in out
    assert "only predicted: nothing" in out


def test_records_are_written(told, tmp_path):
    kept = replace(RECORD, measured=replace(RUN, events=(512, -1)))
    assert told([kept], "-o", str(tmp_path), "perceptron-sgd")[0] == 0
    place = tmp_path / "nvidia-t4"
    body = json.loads((place / "perceptron-sgd.json").read_text())
    assert measurement(body) == RECORD
    assert history.read(str(place / "perceptron-sgd.events.json.gz")) == (512, -1)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("torch") is not None, reason="torch is installed")
def test_without_torch_it_says_so(capsys):
    assert menu.run(["measure", "perceptron-sgd"]) == 2
    assert "torch is not installed: pip install torch" in capsys.readouterr().err


# The whole of it, with stand-ins for the processes


def pipeline(monkeypatch, **answers):
    def stand_in(function, *given, warm):
        answer = answers[function.partition(":")[2]]
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(run, "apart", stand_in)
    monkeypatch.setattr(type(find("perceptron-sgd")), "missing", property(lambda self: []))
    return list(run.measure([Target(name="perceptron-sgd")], events=True))


def test_both_sides_make_a_record(monkeypatch):
    real, fake = (replace(RUN, events=e) for e in ((512, 1024, -1), (512, -1)))
    (record,) = pipeline(monkeypatch, machine=MACHINE, real=real, fake=fake)
    assert (record.target, record.measured, record.predicted) == ("perceptron-sgd", real, fake)
    assert record.history["only_measured"] == [[1024, 1]]
    assert record.history["replayed"] == {"allocated": 1536, "reserved": 2 * MIB}
    assert record.error == dict.fromkeys(("allocated", "reserved", "driver"), 0.0)


def test_what_cannot_be_predicted_is_measured_all_the_same(monkeypatch):
    lost = UnsupportedError("no such operation")
    (record,) = pipeline(monkeypatch, machine=MACHINE, real=RUN, fake=lost)
    assert record.predicted is None
    assert record.note == "not predicted: no such operation"
    other = replace(MACHINE, card=None, gpu="Voodoo 2")
    (record,) = pipeline(monkeypatch, machine=other, real=RUN, fake=RUN)
    assert record.note.startswith("not predicted: Voodoo 2 is not in our catalogue")


def test_a_program_that_fails_on_the_gpu(monkeypatch):
    lost = UnsupportedError("RuntimeError: no kernel image")
    (failed,) = pipeline(monkeypatch, machine=MACHINE, real=lost, fake=RUN)
    assert str(failed) == "perceptron-sgd: RuntimeError: no kernel image"
    with pytest.raises(UnsupportedError, match="measuring needs a GPU"):
        pipeline(monkeypatch, machine=UnsupportedError("measuring needs a GPU"))
