"""Every model of a registry, asked the same questions: configs in, a Parquet dataset out.

    registry.py   a folder, a store, a list or a table of models -> their configs
    registered.py one of them, and what headers of its weights say besides
    hub.py        what a Hub lists, and the configs that it sends
    asking.py     the questions: requests in YAML, whose lists are multiplied out
    planning.py   one config for each key, in parts
    earlier.py    answers of the plan before, which are not asked again
    rules.py      what answers of one kind depend on, as a hash
    answers.py    one config, all questions -> rows; a refusal is a row
    weigher.py    a process of its own for that, with limits of time and memory
    running.py    parts that are not answered yet -> files
    on_ray.py     the same parts on Ray
    dataset.py    where files stand, and how they are written so that they are whole
    packing.py    all answers in one file, for queries
    checking.py   each question of each key once, checksums right
    query.py      SQL over the answers
    differing.py  which verdicts differ between two datasets, and why
    publishing.py a folder for readers: Parquet that the page reads by ranges
    card.py       what a Hub shows of it

docs/scan.md has the columns and the commands. The extra `scan` brings pyarrow, and DuckDB for SQL;
`scan-ray` brings Ray.
"""
