"""Scans of a registry, in which every model is asked the same questions: configs in, a Parquet
dataset out.

    registry.py   a folder, a store, a list or a table of models -> their configs
    registered.py one model, its config, and a hash of the headers of its weights
    hub.py        the models that a Hub lists, and the configs that it sends
    asking.py     the questions: requests in YAML, whose lists are multiplied out
    planning.py   one config per key, in parts
    earlier.py    answers of the previous plan, which are not asked again
    rules.py      a hash of the files that answers of one family depend on
    answers.py    one config, all questions -> rows; a refusal is a row
    weigher.py    the process that answers, with limits of time and memory
    running.py    parts that are not answered yet -> files
    on_ray.py     parts answered on Ray
    dataset.py    the places of files, and how they are written completely or not at all
    packing.py    all answers in one file, for queries
    checking.py   whether each question of each key is answered once, with right checksums
    query.py      SQL over the answers
    differing.py  the verdicts that differ between two datasets, and why
    publishing.py a folder for readers: Parquet that the page reads by ranges
    card.py       the dataset's card for a Hub

docs/scan.md has the columns and the commands. The extra `scan` brings pyarrow, and DuckDB for SQL;
`scan-ray` brings Ray.
"""
