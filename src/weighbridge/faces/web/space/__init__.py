"""The server edition: a Gradio app that strangers use, on a Space or on this machine.

answering.py    what a stranger may ask; report and screen out no gradio
clerk.py        the process that answers, without secrets      no gradio
office.py       several of them, each answer with a deadline   no gradio
discussion.py   the answer as a discussion on the model's page no gradio
guard.py        rates, sizes and closed doors of the server
forms.py        the form, from the tables of settings
page.py         tabs, events, the address
endpoints.py    what programs and agents call
app.py          all of it, served
files.py        the folder that a Space is made of             no gradio
"""
