"""The page: one protocol behind it, whoever carries the lines.

protocol.py    one line of JSON in, one object out: the same in the server, in a browser and
               on a Space (space/)
form.py        what can be asked, made from the tables of settings and the catalogues
screens.py     a screen as JSON            exports.py   an answer as a file
command.py     a request as a command      tables.py    cards, models, accuracy
dropped.py     files of which only the first bytes are here
server.py      the page on this machine    build.py     the page as a static site
archive.py     our package, as that has it
"""
