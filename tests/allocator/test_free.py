"""Free blocks are in the order of size and then of address, whatever came and went."""

from random import Random

import pytest

from weighbridge.machines.allocator.blocks import Block, Free, Pool

SIZES = (512, 1024, 1536, 8192, 8704)


def told(block):
    return block and (block.size, block.address)


@pytest.mark.parametrize("seed", range(20))
def test_as_one_sorted_list_does(seed):
    """The oracle is a list of all blocks that is searched from its beginning."""
    random, pool = Random(seed), Pool(small=True)
    free, plain = Free(), []
    for number in range(250):
        wanted = random.choice(SIZES) - random.randrange(2)
        what = random.random()
        if what < 0.55:
            block = Block(random.choice(SIZES), (number * 7919) % 401 * 16384, pool, 0)
            free.insert(block)
            plain = sorted([*plain, block], key=told)
        elif what < 0.8:
            first = next((b for b in plain if b.size >= wanted), None)
            assert told(free.take(wanted, 1 << 40)) == told(first)
            plain = [b for b in plain if b is not first]
        elif plain:
            gone = plain.pop(random.randrange(len(plain)))
            free.remove(gone)
        assert list(free.blocks()) == plain
        assert list(free.blocks(wanted)) == [b for b in plain if b.size >= wanted]
