"""What tools printed on machines of others: outputs.jsonl, each record with where it was published.

Outputs are cut to the lines that tell of a device; ids in them are made up. `tells` is what each
is to be understood as, in bytes.
"""

import json
from pathlib import Path

RECORDS = {
    record["name"]: record
    for record in map(
        json.loads, Path(__file__).with_name("outputs.jsonl").read_text("utf-8").splitlines()
    )
}


def text(name):
    return RECORDS[name]["text"]
