"""What was there before a trace is there after it, byte for byte, with its mode and its time: a law,
over ways to harm it; both where the kernel tells of each call and where Python's hooks do."""

import os

import pytest

from tests.cases import some
from tests.trace.keeping import (
    ADDRESS,
    ASKED,
    CHILDREN,
    WAYS,
    folder_of,
    has_filter,
    seen,
    started,
)

KERNEL = has_filter()
needs_kernel = pytest.mark.skipif(not KERNEL, reason="no filter of system calls here")
PATIENCE = 120
ENDS = ("an error", "exit", "os._exit", "os.execv", "killed", "the keeper is killed")


def harmed(tmp_path, text, **options):
    """Run a script over a folder. Return what it said, what was there, and what is there now."""
    work = folder_of(tmp_path)
    before = seen(work)
    with started(work, text, **options) as running:
        said, _ = running.communicate(timeout=PATIENCE)
    after = {k: v for k, v in seen(work).items() if k != "script.py"}
    return said, before, after, work


def same(before, after):
    assert {name: after.get(name) for name in before} == before


@needs_kernel
@pytest.mark.parametrize("way", some(2, [*WAYS, *CHILDREN]))
def test_nothing_real_changes_where_the_kernel_tells(tmp_path, way):
    said, before, after, _ = harmed(tmp_path, {**WAYS, **CHILDREN}[way])
    same(before, after)
    assert ("\nover\n" in f"\n{said}") is (way not in ENDS), said
    assert "defect" not in said and "Keeping" not in said, said
    assert not list((tmp_path / "cache" / "weighbridge").glob("*kept*")), said


@pytest.mark.parametrize("way", some(4, list(WAYS)))
def test_nothing_real_changes_where_python_tells(tmp_path, way):
    said, before, after, _ = harmed(tmp_path, WAYS[way], kernel=False)
    same(before, after)
    assert ("\nover\n" in f"\n{said}") is (way not in ENDS), said


@pytest.mark.parametrize("way", [way for way in CHILDREN if "subprocess." in CHILDREN[way]])
def test_no_other_program_runs_where_nobody_could_tell(tmp_path, way):
    said, before, after, _ = harmed(tmp_path, CHILDREN[way], kernel=False)
    same(before, after)
    assert "starts no other program" in said


CHILD = (
    "code = subprocess.run([sys.executable, '-I', '-c', {code!r}]).returncode\nprint('code', code)"
)
HERE = """
import socket
server = socket.create_server(("127.0.0.1", 0))
socket.create_connection(server.getsockname()).sendall(b"x")
assert server.accept()[0].recv(1) == b"x"
a, b = socket.socketpair()
b.sendmsg([b"y"])
assert a.recv(1) == b"y"
"""


@needs_kernel
@pytest.mark.parametrize("way", ADDRESS)
def test_a_child_asks_no_other_machine(tmp_path, way):
    kind, family, address, call = ADDRESS[way]
    code = ASKED.format(kind=kind, family=family, address=address, call=call)
    assert "code 0" in harmed(tmp_path, CHILD.format(code=code))[0]


@needs_kernel
def test_but_where_it_is_allowed_to(tmp_path):
    code = ASKED.format(
        **dict(zip(("kind", "family", "address", "call"), ADDRESS["sendto"], strict=True))
    )
    assert "code 4" in harmed(tmp_path, CHILD.format(code=code), network=True)[0]


@needs_kernel
def test_and_this_one_is_always_there(tmp_path):
    assert "code 0" in harmed(tmp_path, CHILD.format(code=HERE))[0]


@needs_kernel
def test_what_is_large_is_moved_and_not_copied(tmp_path):
    """64 GiB with holes, renamed, removed, replaced and written to: the file that was moved comes back."""
    work = folder_of(tmp_path)
    os.truncate(work / "ckpt-1000.pt", 64 << 30)
    before = os.stat(work / "ckpt-1000.pt")
    text = "os.rename('ckpt-1000.pt', 'x'); os.rename('x', 'best.pt'); open('best.pt', 'r+b').write(b'1');"
    text += "assert os.path.getsize('best.pt') == 64 << 30; os.remove('best.pt')"
    with started(work, text) as running:
        said, _ = running.communicate(timeout=PATIENCE)
    assert "over" in said
    with open(work / "ckpt-1000.pt", "rb") as file:
        assert file.read(4) == b"ckpt" and os.path.getsize(file.fileno()) == 64 << 30
        after = os.fstat(file.fileno())
    assert (after.st_ino, after.st_blocks) == (before.st_ino, before.st_blocks)


def test_what_a_run_left_whose_keeper_is_gone_is_put_back_by_the_next(tmp_path, monkeypatch):
    """All of its processes were killed, or the machine went down."""
    from weighbridge_lab.trace.keeping import keeper as kept

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    work = folder_of(tmp_path)
    before = seen(work)
    keeper = kept.Keeper()
    keeper.removes(str(work / "best.pt"))
    os.remove(work / "best.pt")
    keeper.renames(str(work / "checkpoint-500"), str(work / "old"))
    os.rename(work / "checkpoint-500", work / "old")
    with open(keeper.journal, "ab") as file:
        file.write(b'{"path": "/torn')
    nobody = kept.journal_of(2**22 + 1)
    os.rename(keeper.journal, nobody)
    kept.swept()
    assert seen(work) == before and not os.path.exists(nobody)


def test_what_cannot_go_back_is_not_lost(tmp_path, monkeypatch):
    from weighbridge_lab.trace.keeping import keeper as kept

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    work = folder_of(tmp_path)
    keeper = kept.Keeper()
    keeper.removes(str(work / "checkpoint-500" / "model.bin"))
    os.rename(work / "checkpoint-500", tmp_path / "by-another-process")
    (work / "checkpoint-500").write_text("in its way")
    with pytest.raises((FileExistsError, NotADirectoryError)):
        kept.put_back(keeper.journal)
    (aside,) = (tmp_path / "cache/weighbridge").glob(".weighbridge-kept-*/*")
    assert aside.read_bytes().startswith(b"checkpoint-500/model.bin")
    (work / "checkpoint-500").unlink()
    kept.put_back(keeper.journal)
    assert (work / "checkpoint-500" / "model.bin").exists() and not aside.exists()
