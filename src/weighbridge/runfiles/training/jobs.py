"""Kubernetes manifests that train: every container whose command launches a training, as the same
lines in a shell would: a Job, Kubeflow's PyTorchJob and TrainJob, a Pod.

    command: [torchrun, --nproc_per_node=8, train.py]       args: [--model_name_or_path, org/name]
    command: [bash, -c]                                     args: [a whole script]

A launcher that says no ranks has those of the cards that the container asks for. Masters and
workers of one job are one run.

Source: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/job-v1;
https://www.kubeflow.org/docs/components/trainer.
"""

import re
import shlex
from collections.abc import Iterator

from weighbridge.records import replace
from weighbridge.runfiles import segments
from weighbridge.runfiles.document import Document
from weighbridge.runfiles.kinds import Kind
from weighbridge.runfiles.record import PlannedRun
from weighbridge.runfiles.serving import kubernetes
from weighbridge.runfiles.serving.lines import Container, within
from weighbridge.runfiles.training import launch

KIND = Kind(
    name="kubernetes-job",
    title="Kubernetes job",
    syntaxes=("yaml",),
    source="https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/job-v1",
)
SHELL = re.compile(r"(?:.*/)?(?:ba|z|da)?sh")


def tells(document: Document) -> bool:
    """Tell whether a document is a manifest with a container that launches a training."""
    data = document.data
    if not isinstance(data, dict) or not {"apiVersion", "kind"} <= data.keys():
        return False
    return next(_launching(document), None) is not None


def read(document: Document) -> Iterator[PlannedRun]:
    """Yield the run of each container that launches a training, those alike once."""
    told: list[PlannedRun] = []
    for container, shell in _launching(document):
        for found in launch.read(shell):
            run = _placed(segments.told(found, shell.text, shell.syntax), container)
            if all((run.model, run.settings) != (one.model, one.settings) for one in told):
                told.append(run)
                yield run


def _launching(document: Document) -> Iterator[tuple[Container, Document]]:
    """Yield containers that launch a training, each with its command as a text of a shell."""
    for container in kubernetes.containers(document):
        text = _script(container)
        shell = replace(document, syntax="shell", text=text, data=text, places={}, remarks=())
        if next(launch.launched(shell), None) is not None:
            yield container, shell


def _script(container: Container) -> str:
    set_first = (f"export {name}={shlex.quote(value)}\n" for name, value in container.env.items())
    words = [*container.words]
    at = next((n for n, word in enumerate(words[:4]) if re.fullmatch(r"-\w*c", word)), None)
    if at is not None and SHELL.fullmatch(words[0]) and at + 1 < len(words):
        return "".join((*set_first, words[at + 1], "\n"))
    return "".join((*set_first, shlex.join(words), "\n"))


def _placed(run: PlannedRun, container: Container) -> PlannedRun:
    """Return a run with the lines of the manifest, and the cards and memory of its container."""
    at = container.line
    settings = dict(run.settings)
    if container.gpus and "data_parallel_size" not in settings and not run.cards:
        settings["data_parallel_size"] = container.gpus
    run = replace(
        run,
        name=container.name,
        settings=settings,
        understood=tuple(replace(one, line=at, start=0, end=0) for one in run.understood),
        unread=tuple(replace(one, line=at) for one in run.unread),
        cards=run.cards or container.gpus or 0,
        nodes=container.nodes,
    )
    return within(run, container.memory)
