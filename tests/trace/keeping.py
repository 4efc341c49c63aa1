"""What people have in a folder, ways to harm it, and a run that is watched, without torch."""

import hashlib
import os
import sqlite3
import subprocess
import sys
from textwrap import dedent

OLD = 1_577_934_245_123_456_789  # ns: in 2020
HARNESS = """
import runpy, sys
from weighbridge_lab.trace.keeping import apart
if {kernel}:
    code = apart.apart()
    if code is not None:
        sys.exit(code)
    assert apart.Watched.here is not None
from weighbridge_lab.trace.patches import Notes
with apart.preserved(Notes(), network={network}):
    sys.argv = ["script.py"]
    runpy.run_path("script.py", run_name="__main__")
print("over")
"""
TREE = (
    "best.pt",
    "ckpt-1000.pt",
    "checkpoint-500/model.bin",
    "checkpoint-500/sub/state.json",
    "a.txt",
)

# Of Python itself
WAYS = {
    "replace": "os.rename('a.txt', 'b.txt'); open('new', 'w').write('x'); os.replace('new', 'best.pt')",
    "rename": "open('new', 'w').write('x'); os.rename('new', 'best.pt')",
    "Path.replace": "p = Path('new'); p.write_text('x'); p.replace('best.pt')",
    "shutil.move": "open('new', 'w').write('x'); shutil.move('new', 'best.pt')",
    "move a folder": "shutil.move('checkpoint-500', 'old'); os.listdir('old')",
    "rename a folder": "os.rename('checkpoint-500', 'old'); open('old/model.bin', 'ab').write(b'x')",
    "rename above": "os.rename('../work', '../elsewhere'); os.remove('../elsewhere/best.pt')",
    "back and forth": "os.rename('best.pt', 'b'); os.rename('b', 'best.pt'); os.remove('best.pt')",
    "in a circle": "os.rename('best.pt', 'x'); os.rename('a.txt', 'best.pt'); os.rename('x', 'a.txt')",
    "remove": "os.remove('best.pt'); os.unlink('ckpt-1000.pt')",
    "remove and make": "os.remove('best.pt'); os.mkdir('best.pt'); open('best.pt/x', 'w').close()",
    "rmtree": "shutil.rmtree('checkpoint-500'); assert not os.path.exists('checkpoint-500')",
    "rmtree and make": "shutil.rmtree('checkpoint-500'); shutil.copytree('empty', 'checkpoint-500')",
    "rmdir": "os.rmdir('empty')",
    "rotate": "shutil.rmtree('checkpoint-500'); os.makedirs('checkpoint-600/sub')",
    "open w": "open('best.pt', 'w').write('x')",
    "open wb": "with open('best.pt', 'wb') as f: pickle.dump([1], f)",
    "open a": "open('a.txt', 'a').write('more'); assert open('a.txt').read() == 'textmore'",
    "open r+b": "f = open('best.pt', 'r+b'); f.seek(3); f.write(b'x'); f.close()",
    "truncate": "os.truncate('best.pt', 1)",
    "O_TRUNC": "os.close(os.open('best.pt', os.O_RDWR | os.O_TRUNC))",
    "Path.touch": "Path('best.pt').touch(); os.utime('a.txt', (1, 1))",
    "mmap": "f = open('best.pt', 'r+b'); m = mmap.mmap(f.fileno(), 0); m[:2] = b'xx'; m.flush()",
    "copyfile": "shutil.copyfile('a.txt', 'best.pt')",
    "copy2": "shutil.copy2('a.txt', 'best.pt')",
    "copytree": "shutil.copytree('empty', 'checkpoint-500', dirs_exist_ok=True)",
    "over a tree": "os.mkdir('n'); open('n/model.bin', 'w').close();"
    "shutil.copytree('n', 'checkpoint-500', dirs_exist_ok=True)",
    "sqlite": "c = sqlite3.connect('db.sqlite'); c.execute('delete from t'); c.commit(); c.close()",
    "sqlite wal": "c = sqlite3.connect('db.sqlite'); c.execute('pragma journal_mode=wal');"
    "c.execute('insert into t values (2)'); c.commit()",
    "chmod": "os.chmod('best.pt', 0o444); os.chmod('checkpoint-500', 0o700)",
    "chmod what was renamed": "os.rename('best.pt', 'b'); os.chmod('b', 0o444)",
    "symlink over": "os.remove('best.pt'); os.symlink('a.txt', 'best.pt'); open('best.pt', 'w')",
    "link over": "os.link('a.txt', 'n'); os.replace('n', 'best.pt'); open('best.pt', 'w')",
    "through a link": "open('latest', 'w').write('x')",
    "a link": "os.remove('latest'); os.symlink('a.txt', 'latest')",
    "through a folder's link": "open('last/model.bin', 'w').write('x'); shutil.rmtree('last/sub')",
    "hard links": "open('twin', 'w').write('x'); os.remove('best.pt')",
    "by a folder's file": "d = os.open('checkpoint-500', os.O_RDONLY); os.remove('model.bin', dir_fd=d)",
    "from elsewhere": "os.chdir('checkpoint-500'); os.remove('../best.pt'); open('model.bin', 'w')",
    "fileinput": "for line in fileinput.input('a.txt', inplace=True): print('x')",
    "zip": "zipfile.ZipFile('best.pt', 'w').writestr('a', 'b')",
    "fork": "if not os.fork(): os.remove('best.pt'); os._exit(0)\nos.wait()",
    "a thread": "t = threading.Thread(target=os.remove, args=['best.pt']); t.start(); t.join()",
    "an error": "os.remove('best.pt'); raise ValueError",
    "exit": "shutil.rmtree('checkpoint-500'); sys.exit(3)",
}
# By other programs, or below Python
CHILDREN = {
    "subprocess": "subprocess.run([sys.executable, '-c', 'import os; os.remove(\"best.pt\")'], check=True)",
    "isolated": "subprocess.run([sys.executable, '-I', '-S', '-c', 'open(\"best.pt\", \"w\")'], check=True)",
    "os.system": "assert not os.system('rm best.pt && mv ckpt-1000.pt best.pt')",
    "shell": "subprocess.run('cp a.txt best.pt; echo x > a.txt; rm -r checkpoint-500', shell=True)",
    "append": "subprocess.run('echo x >> a.txt; chmod 600 best.pt; touch ckpt-1000.pt', shell=True)",
    "sed -i": "subprocess.run(['sed', '-i', 's/t/x/', 'a.txt'], check=True)",
    "cp -a": "subprocess.run('cp -a checkpoint-500/. empty/; cp -al best.pt l; echo >l', shell=True)",
    "mv a folder": "subprocess.run('mv checkpoint-500 old && rm -rf old', shell=True, check=True)",
    "ln -sf": "subprocess.run('ln -sf a.txt best.pt; echo > best.pt', shell=True, check=True)",
    "dd": "subprocess.run('dd if=/dev/zero of=best.pt bs=1 count=3 conv=notrunc', shell=True)",
    "truncate -s": "subprocess.run('truncate -s 0 best.pt', shell=True, check=True)",
    "spawn": "import multiprocessing as m; q = m.get_context('spawn').Process(target=os.remove,"
    " args=['best.pt']); q.start(); q.join(); assert not q.exitcode",
    "a daemon": "subprocess.Popen('sleep 0.3; rm best.pt; sleep 60', shell=True, start_new_session=True)",
    "libc": "import ctypes; assert not ctypes.CDLL(None).unlink(b'best.pt')",
    "libc truncates": "import ctypes; assert not ctypes.CDLL(None).truncate(b'best.pt', 1)",
    "libc exchanges": "import ctypes; assert ctypes.CDLL(None).renameat2(-100, b'best.pt', -100,"
    " b'a.txt', 2)",
    "os._exit": "os.remove('best.pt'); os._exit(0)",
    "os.execv": "os.execv('/bin/rm', ['rm', '-r', 'best.pt', 'checkpoint-500'])",
    "killed": "os.remove('best.pt'); os.kill(os.getpid(), 9)",
    "the keeper is killed": "os.remove('best.pt'); os.kill(os.getppid(), 9); time.sleep(60)",
}
IMPORTS = (
    "import fileinput, mmap, os, pickle, shutil, sqlite3, subprocess, sys, threading, time, zipfile\n"
    "from pathlib import Path\n"
)


def folder_of(path):
    """Make what people have."""
    work = path / "work"
    for name in TREE:
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_bytes(b"text" if name == "a.txt" else name.encode() * 1000)
    (work / "empty").mkdir()
    (work / "latest").symlink_to("ckpt-1000.pt")
    (work / "last").symlink_to("checkpoint-500")
    os.link(work / "best.pt", work / "twin")
    database = sqlite3.connect(work / "db.sqlite")
    database.execute("create table t (x)")
    database.execute("insert into t values (1)")
    database.commit()
    database.close()
    (work / "ckpt-1000.pt").chmod(0o640)
    for top, names, files in os.walk(work, topdown=False):
        for name in files + names:
            os.utime(os.path.join(top, name), ns=(OLD, OLD), follow_symlinks=False)
    return work


def seen(folder):
    """What is there: by name the kind, mode, times and content."""
    found = {}
    for top, names, files in os.walk(folder):
        for name in files + names:
            path = os.path.join(top, name)
            status = os.lstat(path)
            if os.path.islink(path):
                content = os.readlink(path)
            else:
                content = "" if os.path.isdir(path) else _digest(path)
            times = status.st_mtime_ns
            found[os.path.relpath(path, folder)] = (status.st_mode, times, status.st_ino, content)
    return found


def _digest(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def started(work, text, *, kernel=True, network=False):
    """Start a run of a script that is watched, in a folder."""
    (work / "script.py").write_text(IMPORTS + "if __name__ == '__main__':\n" + _within(text))
    environment = {**os.environ, "XDG_CACHE_HOME": str(work.parent / "cache")}
    return subprocess.Popen(
        [sys.executable, "-c", HARNESS.format(kernel=kernel, network=network)],
        cwd=work,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _within(text):
    return "".join(f"    {line}\n" for line in dedent(text).splitlines())


def has_filter():
    """Tell whether the kernel has the filter, for us."""
    code = "import sys; from weighbridge_lab.trace.keeping import apart as a; c = a.apart()\n"
    code += "sys.exit(c if c is not None else a.Watched.here is None)"
    return not subprocess.run([sys.executable, "-c", code], check=False).returncode


# Asking another machine: an address of the loopback that is not this machine's usual one stands in
ASKED = """
import errno, socket, sys
kind, family, address = socket.{kind}, socket.{family}, {address}
asks = socket.socket(family, kind)
try:
    {call}
except OSError as error:
    sys.exit(0 if error.errno == errno.ENETUNREACH else 3)
sys.exit(4)
"""
ADDRESS = {
    "connect": ("SOCK_STREAM", "AF_INET", "('127.0.0.2', 9)", "asks.connect(address)"),
    "connect_ex": (
        "SOCK_STREAM",
        "AF_INET",
        "('127.0.0.2', 9)",
        "raise OSError(asks.connect_ex(address), '')",
    ),
    "IPv6": ("SOCK_STREAM", "AF_INET6", "('::ffff:127.0.0.2', 9)", "asks.connect(address)"),
    "sendto": ("SOCK_DGRAM", "AF_INET", "('127.0.0.2', 9)", "asks.sendto(b'x', address)"),
    "sendmsg": (
        "SOCK_DGRAM",
        "AF_INET",
        "('127.0.0.2', 9)",
        "asks.sendmsg([b'x'], [], 0, address)",
    ),
    "a resolver": ("SOCK_DGRAM", "AF_INET", "('127.0.0.1', 53)", "asks.sendto(b'x', address)"),
    "its socket": ("SOCK_STREAM", "AF_UNIX", "'/run/systemd/resolve/io'", "asks.connect(address)"),
}
