"""The longest sequences with which a set of changes still fits: the search tries a half, a quarter
and an eighth; the result is the length found between two of these."""

from weighbridge.answers.remedies import prices
from weighbridge.answers.remedies.case import Move
from weighbridge.answers.remedies.sets import MoveSet, asked, counted
from weighbridge.base.records import replace

KIND = "seq_len"
STEP = 64  # tokens: usual lengths, which kernels take without padding (assumed)
TRIES = 2  # lengths that are estimated


def longest(root: MoveSet, node: MoveSet) -> MoveSet:
    """Return the set with the longest sequences found to fit, each length estimated in full; `node`
    itself if it has no shorter ones, or no longer ones fit.

    Between two lengths memory is at most on a straight line, since attention scores grow with the
    square. The first line ends at a lower bound for the longer one, which may be too low; the
    second at an answer.
    """
    shorter = next((move for move in node.moves if move.kind == KIND), None)
    room = node.case.budget
    if shorter is None or room is None:
        return node
    whole, length = int(root.case.effective[KIND]), int(shorter.change[KIND])
    above = min(2 * length, whole)
    count = counted(root, with_length(node.moves, above, whole))
    if count is None:
        return node
    ends = above, count.case.verdict.per_device.high
    for _ in range(TRIES):
        between = _between((length, node.case.verdict.per_device.high), ends, room.usable.low)
        if not length < between < above:
            break
        nearer = asked(root, with_length(node.moves, between, whole))
        if nearer is None:
            break
        if nearer.fits == "yes":
            return nearer
        ends = above, _ = between, nearer.case.verdict.per_device.high
    return node


def with_length(moves: tuple[Move, ...], tokens: int, whole: int) -> tuple[Move, ...]:
    """Return the changes with sequences of `tokens`; without a shorter length if that is
    `whole`."""
    others = tuple(move for move in moves if move.kind != KIND)
    if tokens == whole:
        return others
    shorter = next(move for move in moves if move.kind == KIND)
    cost = prices.shorter(whole, tokens, "tokens of a sequence")
    return (*others, replace(shorter, change={KIND: tokens}, cost=cost))


def _between(short: tuple[int, int], long: tuple[int, int], room: int) -> int:
    """Return the tokens at which a line through two points, (tokens, bytes) each, reaches `room`
    bytes; a multiple of STEP, and at least one STEP below the longer."""
    (tokens, needs), (more, above) = short, long
    if above <= needs:
        return more - STEP
    reached = tokens + (more - tokens) * (room - needs) // (above - needs)
    return min(int(reached) // STEP * STEP, more - STEP)
