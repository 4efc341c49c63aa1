"""The web page: one protocol for the local server, the browser and a Space.

protocol.py    one line of JSON in, one object out, in all three places
form.py        the fields of the form, from the tables of settings and the catalogues
screens.py     a screen as JSON            exports.py   an answer as a file
command.py     a request as a command      tables.py    cards, models, accuracy
dropped.py     files dropped on the page, of which only the first bytes are sent
server.py      the page on this machine    build.py     the page as a static site
archive.py     our package as an archive, for that site
"""
