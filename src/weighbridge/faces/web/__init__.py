"""The web page: one protocol for the local server, the browser and a Space.

protocol.py    one line of JSON in, one object out: the same in the server, in a browser and
               on a Space (space/)
form.py        what can be asked, made from the tables of settings and the catalogues
screens.py     a screen as JSON            exports.py   an answer as a file
command.py     a request as a command      tables.py    cards, models, accuracy
dropped.py     files dropped on the page: only their first bytes are sent
server.py      the page on this machine    build.py     the page as a static site
archive.py     our package as an archive, for that site
"""
