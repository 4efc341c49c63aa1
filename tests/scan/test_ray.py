"""Ray answers the same parts: the same files, from its own cluster of this machine."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.scan import small
from tests.scan.conftest import files, make
from tests.scan.test_running import children, run, until
from weighbridge.base.errors import HubError, UsageError
from weighbridge.faces.scan import on_ray, running
from weighbridge.faces.scan.checking import check
from weighbridge.faces.scan.weigher import ScanLimits

pytestmark = pytest.mark.slow


@pytest.fixture
def there():
    return pytest.importorskip("ray", reason="it is in the extra scan-ray")


def test_the_same_files_from_ray(there, planned, folder, tmp_path):
    out, plan = planned
    run(out, plan)
    other, _ = make(folder, tmp_path / "ray")
    command = [sys.executable, "-m", "weighbridge", "scan", "run", other, "--ray", "local"]
    environment = {**os.environ, "HF_TOKEN": "hf_somebodys"}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        started, heard = set(), set()

        def looked():
            started.update(children(process.pid))
            heard.update(listening({process.pid, *started}))
            return process.poll() is not None

        assert until(looked, 200)
    assert process.returncode == 0
    assert len(heard) >= 4
    assert {address for address, _ in heard} <= {"0100007F", MAPPED}
    assert until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in started), 20)
    assert check(other, plan).code == 0
    assert files(other) == files(out)


MAPPED = "0000000000000000FFFF00000100007F"  # 127.0.0.1 as IPv6 writes it
LISTENS = "0A"  # a state of /proc/net/tcp


def listening(processes):
    """(address, port) of each socket on which one of these processes takes connections."""
    own = set()
    for pid in processes:
        with contextlib.suppress(OSError):
            for handle in Path(f"/proc/{pid}/fd").iterdir():
                own.add(os.readlink(handle))
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            words = line.split()
            local, state = words[1], words[3]
            if state == LISTENS and f"socket:[{words[9]}]" in own:
                yield tuple(local.split(":"))


def test_a_ray_that_listens_elsewhere_is_not_used(monkeypatch):
    told = SimpleNamespace(
        init=lambda **_: None,
        shutdown=lambda: gone.append(True),
        util=SimpleNamespace(get_node_ip_address=lambda: "192.0.2.7"),
    )
    gone = []
    with pytest.raises(HubError, match="other addresses"):
        on_ray._joined(told, on_ray.RayRun("local", 1))
    assert gone
    on_ray._joined(told, on_ray.RayRun("192.0.2.7:6379", 1))  # whose cluster is not ours


TWO_NODES = """
import sys
from pathlib import Path
from ray.cluster_utils import Cluster
from weighbridge.faces.scan import on_ray, running
from weighbridge.faces.scan.dataset import plan_of
from weighbridge.faces.scan.weigher import ScanLimits

if __name__ == "__main__":
    out = Path(sys.argv[1])
    plan = plan_of(out)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    asked = on_ray.RayRun(cluster.address, 2, 120)
    for number, _ in enumerate(on_ray.run(out, plan, range(plan.parts), asked, ScanLimits())):
        if number == 5:
            cluster.remove_node(nodes[1], allow_graceful=False)
    cluster.shutdown()
"""


@pytest.mark.nightly
def test_a_node_that_is_killed_loses_nothing(there, tmp_path):
    """Parts of it are asked again elsewhere: the files are those of one process."""
    source = tmp_path / "models.jsonl"
    models = [{"id": f"m{n}", "config": {**small.LLAMA, "num_hidden_layers": n}} for n in range(40)]
    source.write_text("\n".join(map(json.dumps, models[1:])))
    out, plan = make(source, tmp_path / "one", parts=30)
    run(out, plan)
    other, _ = make(source, tmp_path / "two", parts=30)
    subprocess.run([sys.executable, "-c", TWO_NODES, other], check=True, timeout=300)
    assert check(other, plan).code == 0
    assert files(other) == files(out)


def test_without_ray_it_is_told(planned, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"weighbridge\[scan-ray\]"):
        list(on_ray.run(*planned, [0], on_ray.RayRun("local", 1), ScanLimits()))


def test_an_actor_tells_what_it_wrote_and_what_it_could_not(planned, monkeypatch):
    out, plan = planned
    weighing = on_ray.Weighing(str(out), tuple(ScanLimits()))
    (note,) = weighing({"part": [1]})["note"]
    assert running.left(out, plan, 1) == ()
    told = on_ray.Queue()
    told.put(note)
    told.put(None)
    (done,) = on_ray._parts(told, 1)
    assert (done.number, done.rows > 0) == (1, True)
    monkeypatch.setattr(on_ray, "do_part", full)
    told.put(weighing({"part": [2]})["note"][0])
    with pytest.raises(UsageError, match=r"part 2: .*No space left.*run it again"):
        list(on_ray._parts(told, 1))


def full(*_):
    raise OSError(28, "No space left on device")


def test_silence_ends_the_run():
    with pytest.raises(HubError, match=r"for 0\.01 seconds"):
        list(on_ray._parts(on_ray.Queue(), 0.01))
    told = on_ray.Queue()
    told.put(RuntimeError("the actors died"))
    with pytest.raises(HubError, match="the actors died"):
        list(on_ray._parts(told, 1))


def test_a_cluster_of_our_own_has_a_token_of_its_own(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    seen = set()
    for _ in range(2):
        with on_ray.locked("local"):
            assert os.environ["RAY_AUTH_MODE"] == "token"
            seen.add(os.environ["RAY_AUTH_TOKEN"])
    assert len(seen) == 2
    with on_ray.locked("auto"):
        assert os.environ["RAY_AUTH_MODE"] == "disabled"
    assert os.environ["RAY_AUTH_MODE"] == "disabled"
    assert "RAY_AUTH_TOKEN" not in os.environ
