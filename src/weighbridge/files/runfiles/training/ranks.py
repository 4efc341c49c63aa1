"""How many processes a launcher of trainings starts, and on how many machines.

    torchrun --nnodes 2 --nproc_per_node 8                          16, on 2 machines
    accelerate launch --num_processes 16 --num_machines 2           the same: it counts all of them
    deepspeed --include "a:0,1@b:0,2" train.py                      4, on 2 machines
    mpirun -np 16 -npernode 8 python train.py                       16, on 2 machines
    mpirun -H h0:8,h1:8 python train.py                             the same: a process a slot

Sources: torch distributed/run.py (a flag goes before PET_NNODES and PET_NPROC_PER_NODE; --nnodes
1:4 is a range); https://docs.open-mpi.org, mpirun(1) (a host without slots has one);
accelerate 1.12 utils/launch.py (prepare_multi_gpu_env: with one machine --num_processes is
torchrun's --nproc_per_node); DeepSpeed @ edaa7221 launcher/runner.py (main,
parse_resource_filter, _parse_hostfile); LLaMA-Factory @ ff6d4d12 launcher.py and ms-swift
cli/main.py (NNODES, NPROC_PER_NODE).
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from weighbridge.base.errors import BadFileError
from weighbridge.base.records import NamedTuple
from weighbridge.base.wording import shown
from weighbridge.engines.launch.programs import visible
from weighbridge.files.runfiles.beside import beside, missing
from weighbridge.files.runfiles.document import Document
from weighbridge.files.runfiles.record import FEW_CARDS, PlannedRun, Unread
from weighbridge.files.runfiles.training import flags
from weighbridge.settings.ranks import ORDER, SETTINGS, SIZES, Ranks

TORCHRUN = ("torch.distributed.launch", "torch.distributed.run")  # torchrun's modules
COUNTS = ("nproc_per_node", "num_processes", "num_gpus", "num_accelerators")
WHOLE = "num_processes"  # over all machines
MACHINES = ("nnodes", "num_nodes", "num_machines")
PET: Mapping[str, str] = {"PET_NNODES": "nnodes", "PET_NPROC_PER_NODE": "nproc_per_node"}
# Variables of programs that start torchrun by themselves, and of torchtitan's script; the last goes
# before the others
NGPU, NODES = "NGPU", "NNODES"
VARIABLES: Mapping[str, str] = {NGPU: "nproc_per_node", "NPROC_PER_NODE": "nproc_per_node"}
SPELLED: Mapping[str, str] = {"nproc_per_node": "NPROC_PER_NODE", "nnodes": NODES}
EACH = SETTINGS["per_machine"]
MPI = ("mpirun", "mpiexec", "mpiexec.hydra")
OF_MPI: Mapping[str, str] = {
    "np": WHOLE,
    "n": WHOLE,
    "npernode": "each",
    "N": "each",
    "ppn": "each",
}
BELOW = "{} {}: a launcher starts 1 or more"
SHORT: Mapping[str, str] = {"i": "include", "e": "exclude", "H": "hostfile"}  # of deepspeed
BOTH = "deepspeed takes --include or --exclude, not both: leave one of them out"
COUNTED_TOO = (
    "deepspeed takes no --num_gpus and no --num_nodes beside --include or --exclude: leave them out"
)
NO_FILTER = "{} {}: deepspeed reads names of machines with their cards, as worker-0:0,1@worker-1"
NO_HOST = "{} is not in {}, and deepspeed does not start: name one of its machines"
NO_CARD = "{} has {} slots in {}, and deepspeed does not start with card {}"
NO_HOSTS = "{}: {} is no line of a hostfile, and deepspeed does not start: write it as NAME slots=8"
NOT_SAID = "on how many cards it runs is not said: --gpu says it"
RANGE = re.compile(r"(\d+):\d+")  # a range of machines, for torchrun
AT_LEAST = "of {} machines the least are counted"
UNKNOWN = "its value is not in the file: one machine is counted"
EACH_UNSAID = (
    "it starts {} machines, and how many cards of each is not in the file: --gpu NAME:COUNT says "
    "those of all"
)
FEW_SEEN = (
    "{} processes are started on a machine, and CUDA_VISIBLE_DEVICES shows {} cards: it does not "
    "start so"
)
SLOTS = re.compile(r"[\w.-]+(?::(\d+))?")
HOST = re.compile(r"(\S+)\s+slots=(\d+)")
CARDS = re.compile(r"\d+(,\d+)*")


class Start(NamedTuple):
    """The processes that a launcher starts: `each` per machine, `whole` on all machines, and the
    number of `machines`, which may be a variable. `refused`: why it starts nothing; `elsewhere`:
    whether the surrounding job or its reader knows the machines behind a variable."""

    each: int | None = None
    whole: int | None = None
    machines: Any = None
    refused: str = ""
    unread: tuple[Unread, ...] = ()
    elsewhere: bool = False

    @property
    def ranks(self) -> int | None:
        """Return the number of processes on all machines, None if not stated."""
        if self.whole is not None or self.each is None or (self.elsewhere and self._variable):
            return self.whole
        return self.each * self._number_of_machines

    @property
    def inside(self) -> int | None:
        """Return the processes per machine if there are several machines; None for one machine, or
        if not stated."""
        machines, ranks = self._number_of_machines, self.ranks
        return None if ranks is None or machines == 1 else max(1, ranks // machines)

    @property
    def _variable(self) -> bool:
        """Return whether the number of machines is stated, but not as a number."""
        return self.machines is not None and number(self.machines) is None

    @property
    def _number_of_machines(self) -> int:
        """Return the number of machines; the least of a range, 1 for a variable."""
        least = RANGE.fullmatch(str(self.machines))
        return number(least[1] if least else self.machines) or 1

    @property
    def not_read(self) -> tuple[Unread, ...]:
        """Return the start's notes, and one if its number of machines is only partly known."""
        if self.elsewhere:
            return tuple(one for one in self.unread if one.key not in (NODES, *COUNTS))
        if not self._variable or self.refused:
            return self.unread
        ranged = RANGE.fullmatch(str(self.machines))
        why = AT_LEAST.format(shown(self.machines)) if ranged else UNKNOWN
        alone = self.ranks == 1 and not ranged  # which sends nothing, and several do
        doubt = Unread(key="nnodes", line=1, why=why, lowers=not ranged, raises=alone)
        return (*self.unread, doubt)


def number(value: Any) -> int | None:
    """Return a count of at least 1, None for anything else."""
    text = str(value)
    return int(text) if text.isdigit() and int(text) else None


def ranks_of(run: PlannedRun) -> int:
    """Return the ranks that a training's settings state; 0 if none do."""
    says_ranks = any(run.settings.get(SIZES[kind]) for kind in ORDER)
    trains = run.task in ("train", "train_image")
    return Ranks.of(run.settings).cards if trains and says_ranks else 0


def of_launcher(
    launcher: str,
    words: Sequence[str],
    env: Mapping[str, str],
    before: Sequence[str] = (),
    document: Document | None = None,
) -> Start:
    """Return what a launcher starts; `before` are the words before it, and its hostfile may be next
    to `document`."""
    flags_given = flags.mapping(words)
    if launcher == "deepspeed":  # DeepSpeed ignores the variable if it has counts
        return _of_deepspeed({SHORT.get(n, n): v for n, v in flags_given.items()}, env, document)
    start = _of_words(launcher, flags_given, words, env, before)
    return start if flags_given.get("gpu_ids") else _with_too_few_cards_note(start, env)


def _of_words(
    launcher: str,
    flags_given: Mapping[str, Any],
    words: Sequence[str],
    env: Mapping[str, str],
    before: Sequence[str],
) -> Start:
    mpi = next((n for n, word in enumerate(before) if word.rpartition("/")[2] in MPI), None)
    if mpi is not None:
        return _of_mpi(before[mpi + 1 :])
    if launcher == "accelerate":
        return _of_accelerate(flags_given, env)
    torch = (
        {}
        if launcher.startswith("python") and not (any(word in TORCHRUN for word in words))
        else _of_pet(env)
    )
    return counted({**torch, **flags_given})


def _by_environment(env: Mapping[str, str]) -> dict[str, Any]:
    """Return the counts in environment variables, under the launchers' flag names."""
    named = {flag: env[name] for name, flag in VARIABLES.items() if env.get(name)}
    if env.get(NODES) and NGPU not in env:
        named["nnodes"] = env[NODES]
    return {name: flags.plain(value) for name, value in named.items()}


def of_program(
    program: str, before: Sequence[str], env: Mapping[str, str], each_card: str
) -> Start:
    """Return what a program starts that launches its own processes; `each_card` is the program that
    uses all visible cards."""
    known = _by_environment(env)
    refused = below({flag: known[name] for name, flag in SPELLED.items() if name in known}, "")
    if not known:
        flags_given = flags.mapping(before)
        known = {name: flags_given[name] for name in (*COUNTS, *MACHINES) if name in flags_given}
    if program == each_card and "nproc_per_node" not in known and (seen := visible(env)):
        known["nproc_per_node"] = seen
    start = counted(known)
    if start.each is None and (number(start.machines) or 1) > 1:
        start = start._replace(
            unread=(Unread(key=NODES, line=1, why=EACH_UNSAID.format(start.machines)),)
        )
    return _with_too_few_cards_note(start._replace(refused=refused or start.refused), env)


def _with_too_few_cards_note(start: Start, env: Mapping[str, str]) -> Start:
    """Return a start, with a note if it has more processes per machine than visible cards."""
    seen, each = visible(env), start.inside or start.ranks
    if not seen or not each or each <= seen:
        return start
    why = FEW_SEEN.format(each, seen)
    return start._replace(unread=(Unread(key=FEW_CARDS, line=1, why=why, raises=True),))


def _of_accelerate(flags_given: Mapping[str, Any], env: Mapping[str, str]) -> Start:
    """Return what accelerate starts; the processes of one machine are torchrun's."""
    torch = _of_pet(env)
    if not torch or (number(flags_given.get("num_machines")) or 1) > 1:
        return counted(flags_given)
    start = counted({name: v for name, v in flags_given.items() if name != "num_machines"})
    each = start.whole or number(torch.get("nproc_per_node"))
    return start._replace(each=each, whole=None, machines=torch.get("nnodes"))


def _of_pet(env: Mapping[str, str]) -> dict[str, Any]:
    return {flag: flags.plain(env[name]) for name, flag in PET.items() if env.get(name)}


def counted(counts: Mapping[str, Any]) -> Start:
    """Return the start for counts named as in torchrun's and accelerate's flags."""
    name = next((name for name in COUNTS if number(counts.get(name))), "")
    machines = next((counts[name] for name in MACHINES if name in counts), None)
    count = number(counts.get(name))
    unsaid = () if name else tuple(each for each in COUNTS if each in counts)
    return Start(
        each=None if name == WHOLE else count,
        whole=count if name == WHOLE else None,
        machines=machines,
        unread=tuple(Unread(key=each, line=1, why=NOT_SAID) for each in unsaid),
        refused=below({n: counts[n] for n in (*COUNTS, *MACHINES) if n in counts}),
    )


def below(counts: Mapping[str, Any], sign: str = "--", unsaid: int | None = None) -> str:
    """Return a sentence on an invalid count; "" if none is. `unsaid`: the value that stands for a
    missing flag."""
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or value == unsaid:
            continue
        if value < 1 or value != int(value):
            return BELOW.format(f"{sign}{name}", value)
    return ""


def _of_mpi(words: Sequence[str]) -> Start:
    """Return what mpirun starts: by default one process per slot of its hosts."""
    spelled_flags = flags.mapping(words)
    spelled = {name: v for name, v in spelled_flags.items() if name in OF_MPI}
    flags_given = {OF_MPI[name]: v for name, v in spelled.items()}
    whole, each = number(flags_given.get(WHOLE)), number(flags_given.get("each"))
    slots = _slots(str(spelled_flags.get("H", spelled_flags.get("host", ""))))
    if whole is None and slots:
        whole = each * len(slots) if each else sum(slots)
    machines = whole // each if whole and each and whole % each == 0 else None
    if each is None and whole == sum(slots) and len(set(slots)) == 1:
        machines = len(slots)
    return Start(each=each, whole=whole, machines=machines, refused=below(spelled, "-"))


def _slots(hosts: str) -> list[int]:
    """Return the slots of each host in mpirun's list h0:8,h1:8; [] if it is invalid."""
    slots: dict[str, int] = {}
    for host in filter(None, hosts.split(",")):
        match = SLOTS.fullmatch(host)
        if match is None:
            return []
        name = host.partition(":")[0]
        slots[name] = slots.get(name, 0) + int(match[1] or 1)
    return list(slots.values())


# DeepSpeed


def _of_deepspeed(
    flags_given: Mapping[str, Any], env: Mapping[str, str], document: Document | None
) -> Start:
    """Return what DeepSpeed's launcher starts."""
    counted = any((number(flags_given.get(name)) or 0) > 0 for name in ("num_gpus", "num_nodes"))
    among = [name for name in ("include", "exclude") if flags_given.get(name) not in (None, "")]
    refused = below(
        {n: flags_given[n] for n in (*COUNTS, *MACHINES) if n in flags_given}, unsaid=-1
    )
    refused = refused or (BOTH if len(among) == 2 else COUNTED_TOO if among and counted else "")
    if refused:
        return Start(refused=refused)
    try:
        hosts = _hosts(flags_given, document)
        if among:
            return _filtered(
                among[0],
                str(flags_given[among[0]]),
                hosts,
                _missing_hostfile_note(flags_given, hosts),
            )
    except BadFileError as error:
        return Start(refused=error.line)
    return _by_counts(flags_given, env, hosts)


def _missing_hostfile_note(
    flags_given: Mapping[str, Any], hosts: Mapping[str, int]
) -> tuple[Unread, ...]:
    """Return a note on a missing hostfile; () if it is there."""
    named = flags_given.get("hostfile")
    if hosts or not isinstance(named, str):
        return (Unread(key="deepspeed", line=1, why=NOT_SAID),)
    return (missing(named, "--hostfile", 1),)


def _by_counts(
    flags_given: Mapping[str, Any], env: Mapping[str, str], hosts: Mapping[str, int]
) -> Start:
    """Return what is started on all machines or the first ones, and on all cards of each or the
    first ones."""
    each = number(flags_given.get("num_gpus")) or number(flags_given.get("num_accelerators"))
    machines = number(flags_given.get("num_nodes"))
    if hosts:
        first = list(hosts.values())[:machines]
        return _of_machines([each or slots for slots in first])
    named = "hostfile" in flags_given
    if each is None and not named and machines is None:
        seen = visible(env)
        return Start(each=seen or None)
    known = each is not None and (machines is not None or not named)
    return Start(
        each=each,
        machines=machines,
        unread=() if known else _missing_hostfile_note(flags_given, hosts),
    )


def _of_machines(counts: Sequence[int]) -> Start:
    """Return the start of `counts` processes on each machine; if they differ, only with their
    sum."""
    alike = len(set(counts)) == 1
    return Start(whole=sum(counts), machines=len(counts) if alike else None)


def _without(asked: Mapping[str, Any], hosts: Mapping[str, int]) -> list[int]:
    """Return the cards per machine that an exclude filter leaves."""
    left = {host: slots for host, slots in hosts.items() if asked.get(host) != set()}
    return [slots - len(asked.get(host, ())) for host, slots in left.items()]


def _filtered(name: str, text: str, hosts: Mapping[str, int], unsaid: tuple[Unread, ...]) -> Start:
    """Return the start on the machines and cards that --include or --exclude leaves. Raises
    BadFileError for unknown ones."""
    if "$" in text:
        return Start(unread=unsaid)
    asked = _asked(name, text)
    for host, cards in asked.items():
        if hosts and host not in hosts:
            raise BadFileError(NO_HOST.format(shown(host), "the hostfile"))
        strange = next((card for card in sorted(cards) if hosts and card >= hosts[host]), None)
        if strange is not None:
            raise BadFileError(NO_CARD.format(shown(host), hosts[host], "the hostfile", strange))
    counts = [len(cards) or hosts.get(host, 0) for host, cards in asked.items()]
    counts = _without(asked, hosts) if name == "exclude" else counts
    if not hosts and (name == "exclude" or 0 in counts):
        return Start(unread=unsaid)
    return _of_machines([count for count in counts if count])


def _asked(name: str, text: str) -> dict[str, set[int]]:
    """Return the cards that a filter names, by machine; an empty set means all."""
    asked: dict[str, set[int]] = {}
    for part in text.split("@"):
        host, colon, cards = part.partition(":")
        if not host or (colon and not CARDS.fullmatch(cards)):
            raise BadFileError(NO_FILTER.format(f"--{name}", shown(text)))
        asked.setdefault(host, set()).update(map(int, cards.split(",") if colon else ()))
    return asked


def _hosts(flags_given: Mapping[str, Any], document: Document | None) -> dict[str, int]:
    """Return the cards per machine in a command's hostfile; {} if it is missing. Raises
    BadFileError if it is malformed."""
    named = flags_given.get("hostfile")
    if document is None or not isinstance(named, str):
        return {}
    hostfile = beside(document, named, ("text",))
    hosts: dict[str, int] = {}
    for line in map(str.strip, (hostfile.text if hostfile is not None else "").splitlines()):
        match = HOST.match(line)
        if match is not None and match[1] not in hosts:
            hosts[match[1]] = int(match[2])
        elif line and not line.startswith("#"):
            raise BadFileError(NO_HOSTS.format(f"{named:.80}", shown(line)))
    return hosts
