"""What holds of every report, whatever was asked: the laws of docs/report.md, said as sentences.

broken(report.to_dict()) -> ["devices[0].phases[1]: low 5 is above expected 3", ...]
"""

LEVELS = ("allocated", "reserved", "driver")
FITS = {"yes", "no", "unknown"}
FACTS = {
    "reference": str,
    "revision": (str, type(None)),
    "name": str,
    "architecture": str,
    "parameters": int,
    "active_parameters": int,
    "stored_bytes": (int, type(None)),
    "download_bytes": (int, type(None)),
    "read_from": list,
}
TOP = {
    "schema": str,
    "version": str,
    "task": str,
    "model": dict,
    "workload": dict,
    "devices": list,
    "derived": dict,
    "table": list,
    "remedies": list,
    "warnings": list,
}


def broken(report):
    """Each law that `report` breaks, in a sentence; nothing where all hold."""
    found = list(_types(report, TOP, "report"))
    if found:
        return found
    found += _types(report["model"], FACTS, "model")
    for name in ("parameters", "active_parameters"):
        if report["model"][name] < 0:
            found.append(f"model.{name} is {report['model'][name]}")
    if report["model"]["active_parameters"] > report["model"]["parameters"]:
        found.append("more parameters are active than there are")
    for device in report["devices"]:
        found += _device(device, f"devices[{device['index']}]")
    found += [f"a warning is {w!r:.80}" for w in report["warnings"] if not isinstance(w, str)]
    verdict = report.get("verdict")
    return found + ([] if verdict is None else list(_verdict(verdict)))


def _types(found, wanted, where):
    for key, kind in wanted.items():
        if key not in found:
            yield f"{where} has no {key}"
        elif not isinstance(found[key], kind) or isinstance(found[key], bool):
            yield f"{where}.{key} is a {type(found[key]).__name__}"


def _bytes(found, where):
    """Whole, none below zero, in order."""
    numbers = [found.get(key) for key in ("low", "expected", "high")]
    if not all(type(n) is int for n in numbers):
        yield f"{where}: {found} are not whole numbers of bytes"
    elif not 0 <= numbers[0] <= numbers[1] <= numbers[2]:
        yield f"{where}: {numbers} are not in order, or below zero"


def _device(device, where):
    for level in LEVELS:
        yield from _bytes(device["peak"][level], f"{where}.peak.{level}")
    for key in ("low", "expected", "high"):
        levels = [device["peak"][level][key] for level in LEVELS]
        if levels != sorted(levels):
            yield f"{where}.peak: {key} of a higher level is below that of a lower: {levels}"
    for phase in device["phases"]:
        yield from _phase(phase, f"{where}.{phase['name']}")
    sums = [phase["bytes"] for phase in device["phases"]]
    for key in ("low", "expected", "high"):
        most = max((s[key] for s in sums), default=0)
        if device["peak"]["driver"][key] != most:
            yield f"{where}: the {key} peak {device['peak']['driver'][key]} is not {most}"
    if sums and device["peak_phase"] not in {phase["name"] for phase in device["phases"]}:
        yield f"{where}: peak_phase {device['peak_phase']!r} is none of its phases"


def _phase(phase, where):
    yield from _bytes(phase["bytes"], where)
    for component in phase["components"]:
        yield from _bytes(component["bytes"], f"{where}.{component['name']}")
        if component["level"] not in LEVELS:
            yield f"{where}.{component['name']}: level {component['level']!r}"
    for key in ("low", "expected", "high"):
        total = sum(component["bytes"][key] for component in phase["components"])
        if total != phase["bytes"][key]:
            yield f"{where}: {key} {phase['bytes'][key]} is not the sum {total}"


def _verdict(verdict):
    if verdict["fits"] not in FITS:
        yield f"verdict.fits is {verdict['fits']!r}"
    if type(verdict["margin_bytes"]) is not int:
        yield f"verdict.margin_bytes is {verdict['margin_bytes']!r}"
    elif verdict["fits"] == "yes" and verdict["margin_bytes"] < 0:
        yield f"it fits with {verdict['margin_bytes']} to spare"
    if not verdict["reason"]:
        yield "a verdict without a reason"
