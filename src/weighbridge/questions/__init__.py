"""Questions about models, however they are asked: typed calls, lines of JSON, many at once.

prepared.py    one model, read once: load, infer, train and fit are asked of it
requests.py    a line of JSON in, a report or an error out; models are kept between lines
jobs.py        many requests on several processes
echoes.py      a report's own workload, sent back as a question
"""
