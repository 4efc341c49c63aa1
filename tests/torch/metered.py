"""Programs on a fake GPU in a process of their own, and traces beside records."""

from weighbridge_lab.measure import history
from weighbridge_lab.measure.record import FakeCard
from weighbridge_lab.measure.run import Target


def once(name, card="a100-80gb", events=False):
    from weighbridge_lab.measure import meter
    from weighbridge_lab.trace import guard

    guard.why_not = str  # its trial starts a process, and has a test of its own
    return meter.fake(Target(name=name), FakeCard(name=card), events)


def twice(name):
    return once(name, events=True), once(name, events=True)


def error(record, trace, level):
    predicted, measured = (getattr(run.peak, level) for run in (trace, record.measured))
    return (predicted - measured) / measured


def stream(folder, record):
    """What a real run asked for, where it was kept."""
    path = folder / record.machine.card / f"{record.target}.events.json.gz"
    return history.read(str(path)) if path.exists() else None


def same_stream(folder, record, trace):
    events = stream(folder, record)
    return events is not None and history.compare(events, trace.events)["equal"]
