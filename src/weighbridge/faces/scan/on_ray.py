"""Parts of a scan answered by actors of Ray, on this machine or on an existing cluster.

Ray carries only numbers of parts and counts: configs are read from, and answers written to, the
folder of the dataset, which every node must see. A config that breaks its process breaks one that
belongs to an actor, so an actor ends only with its node; then Ray retries its parts elsewhere.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, Queue
from secrets import token_hex
from threading import Thread
from typing import Any

from weighbridge.base.errors import HubError, UsageError
from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import sentence
from weighbridge.base.wording import one_line
from weighbridge.faces.scan.dataset import ScanPlan, needed, plan_of
from weighbridge.faces.scan.running import PartDone, do_part
from weighbridge.faces.scan.weigher import ScanLimits, Weigher

LOCAL = "local"  # a new cluster for this run; "auto" and addresses mean an existing one
# Retries of a part whose node was lost. Six passed before Ray 2.60 noticed the loss; without a
# bound it would retry for ever
RETRIES = 20
PATIENCE = 3600.0  # seconds without a finished part, after which the run ends
# If it is 0, Ray runs on one machine and listens on no other address: as on Windows and macOS
# (ray/_private/services.py get_node_ip_address). `_node_ip_address` does not do it.
ALONE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
LOOPBACK = ("127.0.0.1", "::1")
# No actor asks the Hub for anything, so none gets a token
ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "HF_TOKEN": "", "HUGGING_FACE_HUB_TOKEN": ""}


class RayRun(NamedTuple):
    """The address of a Ray cluster, and how many actors it may have. `patience`: seconds without a
    finished part."""

    address: str
    actors: int
    patience: float = PATIENCE


class Weighing:
    """An actor of Ray that answers complete parts, with one answering process."""

    def __init__(self, out: str, limits: Sequence[float]) -> None:
        self._out, self._plan = Path(out), plan_of(Path(out))
        self._weigher = Weigher(ScanLimits(float(limits[0]), int(limits[1])))

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[str]]:
        return {"note": [self._result_text(int(number)) for number in batch["part"]]}

    def _result_text(self, number: int) -> str:
        """Return the result of a part as JSON; for an error (a full disk) a text, so that Ray does
        not retry."""
        try:
            return json.dumps(do_part(self._out, self._plan, number, self._weigher))
        except Exception as error:
            return json.dumps(one_line(f"part {number}: {type(error).__name__}: {error}"))


def run(
    out: Path, plan: ScanPlan, parts: Sequence[int], ray_run: RayRun, limits: ScanLimits
) -> Iterator[PartDone]:
    """Answer parts on Ray, and yield each when it is written.

    Raises:
        weighbridge.HubError: no cluster answers at the address, or it goes silent.
        weighbridge.UsageError: Ray is not installed, or a part could not be written.
    """
    needed("ray", extra="scan-ray")
    if not parts:
        return
    with locked(ray_run.address):
        import ray

        _joined(ray, ray_run)
        queue: Queue[str | BaseException | None] = Queue()
        rows = _part_results(ray, out, parts, ray_run, limits)
        Thread(target=_enqueue, args=(rows, queue), daemon=True).start()
        try:
            yield from _parts(queue, ray_run.patience)
        finally:
            ray.shutdown()


@contextmanager
def locked(address: str) -> Iterator[None]:
    """Close a local cluster to other users inside this block. Ray, which reads these variables at
    import, listens on 127.0.0.1 only, and requires a token made for this run."""
    if address != LOCAL:
        yield
        return
    before = dict(os.environ)
    variables = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token_hex(32), ALONE: "0"}
    os.environ |= variables
    try:
        yield
    finally:
        for name in variables:
            os.environ.pop(name)
            if name in before:
                os.environ[name] = before[name]


def _joined(ray: Any, ray_run: RayRun) -> None:
    """Join the cluster at the address. `local` starts a new one and never joins one left over."""
    options: dict[str, Any] = {}
    if ray_run.address == LOCAL:
        options = {"include_dashboard": False, "num_cpus": ray_run.actors}
    try:
        ray.init(
            address=ray_run.address,
            log_to_driver=False,
            logging_level="ERROR",
            runtime_env={"env_vars": ENVIRONMENT},
            **options,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise HubError(f"--ray {ray_run.address}: {one_line(str(error))}") from None
    if options and ray.util.get_node_ip_address() not in LOOPBACK:
        ray.shutdown()
        raise HubError(sentence("ray.listens"), where="--ray local")


def _part_results(
    ray: Any, out: Path, parts: Sequence[int], ray_run: RayRun, limits: ScanLimits
) -> Iterator[Mapping[str, str]]:
    """Return the result of each part as a row with the key "note", as parts are done, in any
    order."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    actors = ray.data.ActorPoolStrategy(
        min_size=1, max_size=ray_run.actors, max_tasks_in_flight_per_actor=2
    )
    asked = ray.data.from_items([{"part": n} for n in parts], override_num_blocks=len(parts))
    notes = asked.map_batches(
        Weighing,
        batch_size=1,
        num_cpus=1,
        fn_constructor_args=(str(out.resolve()), tuple(limits)),
        compute=actors,
        max_restarts=RETRIES,
        max_task_retries=RETRIES,
    )
    rows: Iterator[Mapping[str, str]] = notes.iter_rows()
    return rows


def _enqueue(rows: Iterator[Mapping[str, str]], queue: "Queue[str | BaseException | None]") -> None:
    """Put the results into a queue, so that its reader can notice silence."""
    try:
        for row in rows:
            queue.put(row["note"])
    except BaseException as error:
        queue.put(error)
    else:
        queue.put(None)


def _parts(queue: "Queue[str | BaseException | None]", patience: float) -> Iterator[PartDone]:
    while True:
        try:
            note = queue.get(timeout=patience)
        except Empty:
            raise HubError(sentence("ray.silent", seconds=patience)) from None
        if note is None:
            return
        if isinstance(note, BaseException):
            why = sentence("ray.gave_up", why=one_line(str(note)))
            raise HubError(why, then=sentence("run_again")) from None
        note_fields = json.loads(note)
        if isinstance(note_fields, str):
            raise UsageError(note_fields, then=sentence("run_again"))
        yield PartDone(*note_fields)
