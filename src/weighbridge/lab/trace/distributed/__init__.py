"""One process of many: torch.distributed where the others are not there.

    world.py         which process, and what its launcher told it (torch-free)
    groups.py        process groups of any size; collectives.py what they answer
    replicas.py      DistributedDataParallel's C++ on fake tensors
    sharding.py      DTensor: what it computes about shapes is no memory of the program's

The other processes are not run: each is taken to do and to say what this one does.
"""
