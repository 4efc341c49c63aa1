"""One process of many: torch.distributed where the others are not there.

    world.py         which process, and what its launcher told it (torch-free)
    groups.py        process groups of any size, and what their collectives answer
    parallel.py      DistributedDataParallel's C++ on fake tensors, and sharded tensors

The other processes are not run: each is taken to do and to say what this one does.
"""
