"""Records of `weighbridge measure`, read as they were written."""

from weighbridge_lab.measure.record import (
    Levels,
    MeasuredMachine,
    MeasuredPhase,
    MeasuredRun,
    Measurement,
)


def measurement(body):
    predicted = body["predicted"]
    return Measurement(
        target=body["target"],
        date=body["date"],
        version=body["version"],
        machine=MeasuredMachine(**body["machine"]),
        measured=_run(body["measured"]),
        predicted=_run(predicted) if predicted else None,
        note=body["note"],
        history=body["history"],
    )


def _run(body):
    phases = [
        MeasuredPhase(
            name=p["name"],
            peak=Levels(*(p[level] for level in Levels._fields)),
            **{end: Levels(**p[end]) for end in ("low", "high") if end in p},
        )
        for p in body["phases"]
    ]
    return MeasuredRun(
        outcome=body["outcome"],
        phases=tuple(phases),
        driver=body["driver_from"],
        seconds=body["seconds"],
    )
