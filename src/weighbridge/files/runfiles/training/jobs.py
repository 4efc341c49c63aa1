"""Kubernetes manifests that train: every container whose command launches a training, as the same
lines in a shell would: a Job, Kubeflow's PyTorchJob and TrainJob, a Pod.

    command: [torchrun, --nproc_per_node=8, train.py]       args: [--model_name_or_path, org/name]
    command: [bash, -c]                                     args: [a whole script]

A launcher that says no ranks has those of the cards that the container asks for. Pods that start
the same are one run where their command says on how many machines it trains, or where an operator
tells it: Kubeflow's set PET_NNODES to all replicas of a job, and its MPIJob hands mpirun the
workers. Else each pod trains by itself.

Sources: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/job-v1 (parallelism,
completions); https://jobset.sigs.k8s.io (replicas of a job);
kubeflow/training-operator @ 078ec30f pkg/controller.v1/pytorch/envvar.go; kubeflow/trainer
@ 85eed65a pkg/runtime/framework/plugins/torch/torch.go; kubeflow/mpi-operator v2beta1
(slotsPerWorker: 1).
"""

import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from weighbridge.base.records import NamedTuple, replace
from weighbridge.base.sentences import sentence
from weighbridge.base.wording import shown
from weighbridge.engines.launch.shell import given_shell
from weighbridge.files.runfiles import segments
from weighbridge.files.runfiles.document import Document, Path
from weighbridge.files.runfiles.record import FEW_CARDS, Kind, PlannedRun, Unread
from weighbridge.files.runfiles.serving import kubernetes
from weighbridge.files.runfiles.serving.card_parts import count
from weighbridge.files.runfiles.serving.lines import Container, given_part, within
from weighbridge.files.runfiles.training import launch
from weighbridge.files.runfiles.training.ranks import COUNTS as COUNTED
from weighbridge.files.runfiles.training.ranks import EACH, NODES, Start, number, ranks_of
from weighbridge.settings.ranks import SIZES

VARIABLE = re.compile(r"\$\((\w+)\)")
KUBEFLOW = "kubeflow.org/"  # part of an apiVersion: its operators tell torchrun the machines
TORCH, MPI = "pytorchReplicaSpecs", "mpiReplicaSpecs"
COUNTS = ("replicas", "parallelism", "numNodes")
NO_COUNT = "{}, and how many pods are started is not in the file: one is counted"
TAKEN = "the command's number of machines is not in the file: the {} pods of the job are taken"
OTHERS = "the command names {} machines, and the manifest starts {} pods: it does not start so"
GROUPS = "{} pods are started, and {} of them are one run, whose ranks are counted"
ALONE = (
    "{} pods are started, and the command trains on one machine (it has no --nnodes of more): each "
    "pod trains by itself, and takes what is said here"
)


class Pods(NamedTuple):
    """The number of pods that run a container at once, and notes on counts that are no numbers."""

    total: int = 1
    unread: tuple[Unread, ...] = ()


class Launching(NamedTuple):
    """A container that launches a training, with its command as a shell script."""

    container: Container
    shell: Document


def tells(document: Document) -> bool:
    """Return whether a document is a manifest with a container that launches a training."""
    data = document.data
    if not isinstance(data, dict) or not {"apiVersion", "kind"} <= data.keys():
        return False
    return next(_launching(document), None) is not None


def read(document: Document) -> Iterator[PlannedRun]:
    """Yield the run of each container that launches a training; identical ones only once."""
    launches: list[tuple[PlannedRun, Launching, launch.Launched, dict[Path, Pods]]] = []
    for each in _launching(document):
        path = each.container.path
        for launched_one in launch.launched(each.shell):
            run = launch.of_launched(each.shell, launched_one)
            alike = (
                pods
                for other, _, _, pods in launches
                if (run.model, run.settings) == (other.model, other.settings)
            )
            group = next(alike, None)
            if group is None:
                group = {}
                launches.append((run, each, launched_one, group))
            group[path] = _pods(document, path)
    for run, each, launched_one, group in launches:
        pods = Pods(
            max(1, sum(one.total for one in group.values())),
            tuple(unread for one in group.values() for unread in one.unread),
        )
        yield _placed(document, run, each, launched_one, pods)


def _launching(document: Document) -> Iterator[Launching]:
    """Yield containers that launch a training."""
    for container in kubernetes.containers(document):
        text = _script(document, container)
        shell = replace(document, syntax="shell", text=text, data=text, places={}, remarks=())
        if next(launch.launched(shell), None) is not None:
            yield Launching(_of_workers(document, container), shell)


def _script(document: Document, container: Container) -> str:
    env = {**container.env, **_kubeflow_torchrun_variables(document, container.path)}
    set_first = (f"export {name}={shlex.quote(value)}\n" for name, value in env.items())
    # Kubernetes puts in $(NAME) before any shell runs
    words = [VARIABLE.sub(lambda m: env.get(m[1], m[0]), word) for word in container.words]
    before, inner = given_shell(words)
    return "".join((*set_first, shlex.join(words) if before else inner, "\n"))


def _spec(document: Document) -> Mapping[str, Any]:
    spec = document.data.get("spec")
    return spec if isinstance(spec, dict) else {}


def _together(document: Document) -> bool:
    """Return whether the operator makes all pods of a manifest one run."""
    return str(document.data.get("apiVersion")).rpartition("/")[0].endswith(KUBEFLOW[:-1])


def _kubeflow_torchrun_variables(document: Document, path: Path) -> Mapping[str, str]:
    """Return the variables with which Kubeflow sets torchrun's number of machines and of processes
    per machine, if these are numbers."""
    spec = _spec(document)
    if not _together(document) or MPI in spec:
        return {}
    job, roles = _value_at(document, path), spec.get(TORCH)
    paths: list[Path] = [("spec", TORCH, role) for role in roles] if isinstance(roles, dict) else []
    counts = [_pods(document, each) for each in (paths or [path])]
    each = spec.get("nprocPerNode", job.get("numProcPerNode") if isinstance(job, dict) else None)
    processes = {"PET_NPROC_PER_NODE": str(each)} if str(each).isdigit() else {}
    if any(one.unread for one in counts):
        return processes
    return {"PET_NNODES": str(max(1, sum(one.total for one in counts))), **processes}


def _value_at(document: Document, path: Path) -> Any:
    value = document.data
    for key in path:
        value = value[key]
    return value


def _pods(document: Document, path: Path) -> Pods:
    """Return the pods that run the container at `path`: the replica count of every enclosing
    mapping multiplies them."""
    pods = Pods()
    for end in range(len(path) + 1):
        holder = _value_at(document, path[:end])
        for name in COUNTS if isinstance(holder, dict) else ():
            if name in holder:
                pods = _times(pods, holder, (*path[:end], name), document)
    policy = _spec(document).get("mlPolicy")
    if isinstance(policy, dict) and "numNodes" in policy:
        pods = _times(pods, policy, ("spec", "mlPolicy", "numNodes"), document)
    return pods


def _times(pods: Pods, spec: Mapping[str, Any], path: Path, document: Document) -> Pods:
    name = str(path[-1])
    replicas = _whole(spec[name])
    if replicas is None:
        line = document.place(path).line
        why = NO_COUNT.format(f"it is {shown(spec[name])}")
        unread = Unread(key=name, line=line, why=why, lowers=True, raises=True)
        return Pods(pods.total, (*pods.unread, unread))
    most = _whole(spec.get("completions")) if name == "parallelism" else None
    return Pods(pods.total * (replicas if most is None else min(replicas, most)), pods.unread)


def _whole(value: Any) -> int | None:
    text = str(value)
    return int(text) if text.isdigit() and len(text) < 7 else None


def _of_workers(document: Document, container: Container) -> Container:
    """Return MPI's launcher container with its workers' cards, memory and path, since these run
    what it launches."""
    roles = _spec(document).get(MPI)
    if not isinstance(roles, dict) or "Worker" not in roles:
        return container
    path: Path = ("spec", MPI, "Worker", "template", "spec", "containers", 0)
    try:
        resources = _value_at(document, path).get("resources")
    except (KeyError, IndexError, TypeError, AttributeError):
        return container
    return replace(
        container,
        gpus=count(resources) if isinstance(resources, dict) else container.gpus,
        memory=kubernetes.memory(resources, path, document),
        path=path,
    )


def _start_over_pods(
    document: Document, run: PlannedRun, start: Start, pods: Pods
) -> tuple[Start, tuple[Unread, ...], tuple[str, ...]]:
    """Return (start, unread keys, notes) over all pods of a run."""
    machines = start.machines if start.machines is not None else _by_config(run)
    if isinstance(machines, int) and machines > 0:
        return (start, *_pod_mismatch_notes(machines, pods, together=_together(document)))
    if machines is None and not _together(document):
        alone = pods.total > 1 and not any(one.missing for one in run.unread)
        return start, (), (ALONE.format(pods.total),) if alone else ()
    notes = () if machines is None or pods.unread else (TAKEN.format(pods.total),)
    slots = _spec(document).get("slotsPerWorker", 1) if MPI in _spec(document) else None
    each = start.each or (None if start.whole else _whole(slots))
    return start._replace(each=each, machines=pods.total), pods.unread, notes


def _by_config(run: PlannedRun) -> int | None:
    """Return the number of machines in an accelerate config, None without one."""
    inside, ranks = run.settings.get(EACH), ranks_of(run)
    return ranks // inside if isinstance(inside, int) and ranks else None


def _pod_mismatch_notes(
    machines: int, pods: Pods, *, together: bool
) -> tuple[tuple[Unread, ...], tuple[str, ...]]:
    """Return notes if the pods do not match the machines in the command; `together`: the operator
    makes all pods one run."""
    if pods.unread or pods.total == machines:
        return (), ()
    if machines == 1 or (pods.total % machines == 0 and not together):
        alone = ALONE.format(pods.total) if machines == 1 else GROUPS.format(pods.total, machines)
        return (), (alone,)
    why = OTHERS.format(machines, pods.total)
    return (Unread(key=FEW_CARDS, line=0, why=why, raises=True),), ()


def _placed(
    document: Document,
    alone: PlannedRun,
    launching: Launching,
    launched_one: launch.Launched,
    pods: Pods,
) -> PlannedRun:
    """Return a run at the manifest's lines, with its pods' cards and memory; `alone` is the run of
    its command."""
    container, shell = launching
    start, unread, notes = _start_over_pods(document, alone, launched_one.start, pods)
    run = launch.of_launched(shell, launched_one._replace(start=start))
    machines = number(start.machines) or _by_config(run) or 1
    if container.gpus and SIZES["data"] not in run.settings:
        run = launch.ranked(run, start._replace(each=container.gpus))
        counted = tuple(one for one in run.unread if one.key not in (NODES, *COUNTED))
        run = replace(run, unread=counted)
    run = segments.with_allocator(run, shell.text, shell.syntax)
    line_number = container.line
    run = replace(
        run,
        name=container.name,
        understood=tuple(replace(one, line=line_number, start=0, end=0) for one in run.understood),
        unread=(
            *(replace(one, line=line_number) for one in run.unread),
            *(replace(one, line=one.line or line_number) for one in unread),
        ),
        notes=(*run.notes, *notes),
        cards=(container.gpus or 0) * machines,
        nodes=container.nodes,
    )
    return given_part(within(run, container.memory), container.part)


KIND = Kind(
    name="kubernetes-job",
    title=sentence("title.job"),
    syntaxes=("yaml",),
    source="https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/job-v1",
    tells=tells,
    read=read,
)
