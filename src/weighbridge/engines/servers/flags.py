"""Flags and variables that vLLM and SGLang spell alike, and how both are read."""

from weighbridge.base.sentences import sentence
from weighbridge.engines.engine import Engine
from weighbridge.engines.format_choice import OF_THE_CHECKPOINT, SAID_OF_IT
from weighbridge.engines.launch.reading import CommandReading
from weighbridge.engines.launch.record import Obstacle

ENV = {  # variables that affect memory in any torch engine
    "PYTORCH_CUDA_ALLOC_CONF": "own_allocator",
    "PYTORCH_ALLOC_CONF": "own_allocator",
    "NCCL_BUFFSIZE": "nccl_size",
    "NCCL_MAX_NCHANNELS": "nccl_number",
    "CUDA_VISIBLE_DEVICES": "",
    "HIP_VISIBLE_DEVICES": "",
    "ROCR_VISIBLE_DEVICES": "",
}


def stages(reading: CommandReading, variable: str) -> None:
    """Read the layers per pipeline stage from an environment variable."""
    said = reading.program.env.get(variable)
    if said:
        reading.settings["pp_layer_partition"] = said


def model(reading: CommandReading) -> None:
    """Read the model: the flag, else the first word that belongs to no flag."""
    said = reading.last("model")
    if said is not None:
        reading.model = str(said[1])
    elif reading.words:
        reading.model = reading.words.pop(0)
    for word in reading.words:
        reading.warn(sentence("no_flag", word=word))
    revision = reading.last("revision")
    reading.revision = None if revision is None else str(revision[1])
    trust = reading.last("trust")
    if trust is not None and trust[1]:
        reading.warn(sentence("code_not_run"))
    elif trust is not None:
        reading.ignored.append(trust[0])
    if served := reading.last("served"):
        names = served[1] if isinstance(served[1], list) else [str(served[1])]
        reading.served["name"] = " ".join(names)
        reading.ignored.append(served[0])


def quantization(reading: CommandReading, engine: Engine) -> None:
    """Read the method: if it quantizes while loading, our format for it; or a warning."""
    said = reading.last("quantization")
    if said is None:
        return
    name, method = said[0], str(said[1]).lower()
    form = engine.makes(method)
    if form is not None:
        reading.settings["quantization"] = form
    elif method in OF_THE_CHECKPOINT:
        reading.ignored.append(name)
        reading.stored_as = f"{name} {method}" if method in SAID_OF_IT else ""
    else:
        reading.warn(why := sentence("method_stored", flag=name, method=method))
        reading.stops.append(Obstacle("either", why))
