"""The server edition: the page for strangers, on a Space or on this machine; programs and agents
ask the same server.

    answering.py    what a stranger may ask; the answer to it   no gradio
    clerk.py        the process that answers, without secrets   no gradio
    office.py       several of them, each answer with a deadline   no gradio
    discussion.py   the answer as a discussion on the model's page   no gradio
    guard.py        rate and size limits, and closed addresses   no gradio
    page_app.py     the page's files, and what it asks
    endpoints.py    what programs and agents call
    app.py          the server that runs all of it
    files.py        the folder that a Space is made of   no gradio
"""
