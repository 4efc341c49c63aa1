"""Questions about models, in all forms: typed calls, lines of JSON, many at once.

question.py    a task and its settings, parsed and checked
opening.py     opens the model that was typed; errors name its file
estimator.py   the estimator of one question, for any changed settings, and what an answer says
               on top of the estimate
prepared.py    one model, read once: answers load, infer, train and fit
fit/           five questions at once about an accelerator, and solving for a number
requests.py    a line of JSON in, a report or an error out; models are cached between lines
jobs.py        many requests on several processes
echoes.py      a report's own workload, sent back as a question
"""
