"""Names of pipelines whose classes all have programs."""

from weighbridge.models.catalogue import pipelines
from weighbridge.pictures import components


def with_programs() -> list[str]:
    return [
        name
        for name in pipelines.names()
        if all(map(components.known, pipelines.find(name).parts.values()))
    ]
