"""The program as a process: streams, terminals, signals, a full disk."""

import errno
import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from contextlib import suppress

import pytest

from tests.cli.test_process import weighbridge as process
from tests.contract.conftest import LISTED
from tests.hub import Hub
from tests.sparse import write_safetensors


# As a process: streams, terminals, signals
def shell(line, **env):
    """`line` in bash, where WB is the program."""
    script = f'set -o pipefail; WB="{sys.executable} -m weighbridge"; {line}'
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "WEIGH", "COLUMNS"))}
    return subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, timeout=60, env=clean | env
    )


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [f"load {LISTED}", f"load {LISTED} --json", "models"])
def test_a_reader_that_leaves_is_no_error(arguments):
    done = shell(f"$WB {arguments} | head -1")
    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 1)


@pytest.mark.slow
def test_closed_streams():
    assert shell(f"$WB load {LISTED} -q 2>&-").stdout.strip().isdigit()
    done = shell(f"$WB load {LISTED} -q >&-")
    assert (done.returncode, done.stderr) == (0, "")
    assert shell("$WB load ./nowhere >&- 2>&-").returncode == 2
    done = shell("$WB run - <&-")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
def test_a_full_disk_is_one_line():
    done = shell(f"$WB load {LISTED} -q > /dev/full")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert os.strerror(errno.ENOSPC) in done.stderr


@pytest.mark.slow
def test_an_encoding_without_our_signs():
    for encoding in ("ascii", "cp1252", "utf-8"):
        done = shell(f"$WB load {LISTED} >/dev/null", PYTHONIOENCODING=encoding, LC_ALL="C")
        assert (done.returncode, done.stderr) == (0, "")


def terminal(arguments, *, columns=100, env=None, interrupt=None):
    """Return the exit code and the output of the program on a terminal. It is sent SIGINT as soon as
    its output has `interrupt`."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    clean = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS", "TERM")}
    command = [sys.executable, "-m", "weighbridge", *arguments]
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
    with subprocess.Popen(command, env=clean | {"TERM": "xterm"} | (env or {}), **streams) as done:
        os.close(theirs)
        output = b""
        with suppress(OSError):  # the end of a terminal
            while piece := os.read(ours, 65536):
                output += piece
                if interrupt is not None and interrupt in output:
                    done.send_signal(signal.SIGINT)
                    interrupt = None
    os.close(ours)
    return done.returncode, output.decode()


@pytest.mark.slow
def test_colour_is_for_terminals_that_want_it():
    assert "\x1b[" in terminal(["load", LISTED])[1]
    for env in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        code, output = terminal(["load", LISTED], env=env)
        assert (code, "\x1b" in output) == (0, False)
    assert "\x1b" not in terminal(["load", "./nowhere"], env={"NO_COLOR": "1"})[1]
    assert "\x1b" not in terminal(["load", LISTED, "--json"])[1]


@pytest.mark.slow
@pytest.mark.parametrize("columns", [0, 20])
def test_a_terminal_of_any_width_shows_all(columns):
    """Consoles without a size report 0 columns."""
    code, output = terminal(["load", LISTED], columns=columns, env={"NO_COLOR": "1"})
    assert code == 0
    for size in ("29.92 GiB", "119.66 GiB", "5.61 GiB", "8,030,261,248"):
        assert size in output


@pytest.mark.slow
def test_an_interrupt_is_quiet(folder, tmp_path):
    with Hub(folder, latency=20) as hub:
        env = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path), "NO_COLOR": "1"}
        code, output = terminal(["load", "org/plain"], env=env, interrupt=b"reading org/plain")
    assert code == 130
    assert "Traceback" not in output


@pytest.mark.slow
def test_progress_is_silent_in_a_pipe(folder, tmp_path):
    with Hub(folder, latency=0.15) as hub:
        done = process(
            "load", "org/plain", "-q", env={"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path)}
        )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_a_gated_model_names_its_page_and_the_login(folder, tmp_path):
    with Hub(folder, gated={"org/plain": ["hf_good"]}) as hub:
        env = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path)}
        done = process("load", "org/plain", env=env)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (3, "", 1)
        assert f"{hub.endpoint}/org/plain" in done.stderr
        assert "hf auth login" in done.stderr
        assert process("load", "org/plain", "-q", env=env | {"HF_TOKEN": "hf_good"}).returncode == 0


@pytest.mark.slow
def test_headers_are_not_in_memory_twice_the_file(tmp_path):
    """A file of 64 GiB of zeros costs no memory: only its header is read."""
    path = tmp_path / "huge.safetensors"
    write_safetensors(path, {"a.weight": ("F32", (1 << 17, 1 << 17))})
    done = shell(f"ulimit -v 2000000; $WB load {path} --json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["model"]["stored_bytes"] == 1 << 36
