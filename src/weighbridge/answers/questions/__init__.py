"""Questions about models, however they are asked: typed calls, lines of JSON, many at once.

question.py    a task and its settings, read and checked
opening.py     what was typed, opened; errors name its file
estimator.py   the estimator of one question, asked as often as settings change, and what an
               answer says beside the estimate
prepared.py    one model, read once: load, infer, train and fit are asked of it
fit/           five questions at once about an accelerator, and what can be solved for
requests.py    a line of JSON in, a report or an error out; models are kept between lines
jobs.py        many requests on several processes
echoes.py      a report's own workload, sent back as a question
"""
