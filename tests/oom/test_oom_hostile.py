"""What strangers paste: nothing, binaries, far too much, and text that tries to be slow."""

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import weighbridge
from tests import work
from tests.oom.messages import messages, saying
from weighbridge.base.errors import WeighbridgeError
from weighbridge.faces.cli.menu import run
from weighbridge.files.oom.explain import from_file
from weighbridge.files.oom.text import MOST


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "is empty"),
        (b" \n\t\n", "is empty"),
        (b"\x7fELF\0\0\0", "is binary"),
        (b"loading model\nall is well\n", "no out-of-memory message"),
    ],
    ids=["nothing", "space", "binary", "no message"],
)
def test_no_message(raw, says, tmp_path, capfd):
    with pytest.raises(WeighbridgeError, match=says):
        weighbridge.explain_oom(raw)
    log = tmp_path / "run.log"
    log.write_bytes(raw)
    assert run(["fit", "--explain-oom", str(log)]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert says in err
    assert "run.log" in err


@pytest.mark.parametrize("name", ["missing.log", "."])
def test_no_file(name, tmp_path, capfd):
    assert run(["fit", "--explain-oom", str(tmp_path / name)]) == 2
    assert capfd.readouterr().err.count("\n") == 1


def test_a_device_without_an_end(capfd):
    assert run(["fit", "--explain-oom", "/dev/zero"]) == 2
    assert "longer than" in capfd.readouterr().err


def test_neither_model_nor_log(capfd):
    assert run(["fit"]) == 2
    assert "--explain-oom" in capfd.readouterr().err


SLOW = {
    "digits": "1" * 60 + "\n",
    "requests": "Tried to allocate 1.00 ",
    "prefixes": "[rank0]: (A b=1) " * 4 + "\n",
    "commas": "1,2,3,4,5.6.7.8 MiB of pinned ",
    "escapes": "\\n\\\\n",
    "graphs": "Capture cuda graph failed: ",
    "brackets": "max seq len (1), (1.0 GiB ",
    "colours": "\x1b[0",
    "lines": "\n",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_a_log_as_large_as_is_read_comes_to_an_end(name):
    work.end(
        "import sys; import weighbridge; from tests.oom import test_oom_hostile as here\n"
        "piece = here.SLOW[sys.argv[1]]\n"
        "text = piece * ((here.MOST - 4096) // len(piece)) + '\\n' + here.saying('torch-2.1')\n"
        "assert weighbridge.explain_oom(text).cause is not None",
        name,
    )


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=40)
@given(st.text(max_size=100), st.sampled_from(range(145)), st.integers(0, 200))
def test_any_text_around_or_within_is_answered_or_refused(text, number, at):
    message = messages()[number]["message"]
    for pasted in (text, f"{text}\n{message}\n{text}", message[:at] + text + message[at:]):
        found = answered(pasted)
        assert found is None or str(found)
        sizes = {} if found is None else found.parsed
        assert all(v is None or v >= 0 for k, v in sizes.items() if k.endswith("_bytes"))


def answered(pasted):
    """The answer, or None where it is refused in one line."""
    try:
        return weighbridge.explain_oom(pasted)
    except WeighbridgeError:
        return None


@pytest.mark.slow
@given(st.binary(max_size=300))
def test_any_bytes(raw):
    found = answered(raw)
    assert found is None or found.wording


def test_control_codes_of_a_log_do_not_reach_the_terminal():
    text = saying("vllm-kv-bytes") + "\x1b]0;owned\x07"
    shown = str(weighbridge.explain_oom(text, {"model_type": "llama", "vocab_size": 32}))
    assert "\x1b" not in shown
    assert "\x07" not in shown


def test_a_log_of_powershell():
    raw = "﻿".encode("utf-16-le") + saying("torch-2.1").encode("utf-16-le")
    assert weighbridge.explain_oom(raw).wording == "torch-2.1"


def test_stdin():
    from weighbridge.faces.cli.menu import menu

    done = CliRunner().invoke(menu, ["fit", "--explain-oom", "-", "-q"], input=saying("kernel-oom"))
    assert done.output == "host_memory\n"


@pytest.mark.slow
def test_a_long_log_is_read_from_its_end(tmp_path):
    path = tmp_path / "long.log"
    path.write_bytes(b"step 1\n" * MOST + b"the last line\n")
    found = from_file(path)
    assert len(found) <= MOST
    assert found.startswith(b"step 1\n")
    assert found.endswith(b"the last line\n")
    path.write_bytes(b"first\n" + b"x" * (MOST - 6))
    assert from_file(path).startswith(b"first\n")


def test_a_text_that_is_too_long_is_said_to_be():
    """A file is read from its end; what is handed over as text is not cut."""
    with pytest.raises(WeighbridgeError, match="is longer than 4 MiB"):
        weighbridge.explain_oom(b"x" * (MOST + 1))
