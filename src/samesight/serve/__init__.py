"""A bundle behind HTTP: the Open Inference Protocol v2 for programs, `POST /classify` and a page for people.

settings.py   everything that may be chosen, and its default
refusal.py    every answer that is not 200, with its status
protocol.py   the inference protocol's requests and answers, JSON and binary, as bytes; knows no HTTP
shelf.py      the bundles that are served, by name and version: proved first, replaced while serving
work.py       the bounded queue and the threads that decode photos and run networks
turns.py      how soon the event loop gets a core that those threads keep busy
body.py       what a client sends: limits, time, compression, multipart
app.py        the routes
guard.py      tokens, cross-origin rules, slow readers, and the log and metrics of each request
metrics.py    Prometheus;  logs.py  one JSON line an event;  openapi.py  the description;  pages/  two pages
connection.py the connections themselves: how many, and how long one may take to ask
processes.py  the listening socket, and one or several processes behind it
client.py     another server's answers, as a runner: for `samesight verify --runner server`

Needs the core, starlette, uvicorn (httptools, uvloop), python-multipart and prometheus-client; no torch.
"""
