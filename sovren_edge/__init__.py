"""The front door of the SOVREN AI backend.

Rooms, each importing only those below it:

cli         the command line, one file for each family of commands
process     the tree of processes: the supervisor and its workers; what a worker is made of
config      config.toml, its faults, the port map; composes the settings that live beside what they configure
local       what `--local` runs beside the edge: PostgreSQL and speech engines, each a process of its own
application an aiohttp application on a bound socket, behind the port's own pages
listener    what every port answers itself: /health, /ready, /metrics
speech      what is special about speech: reading, dividing and joining it, equal requests, kept answers
gateway     requests of subscribers to external APIs: judged, counted, recorded, sent
relay       the balancer's data path: downstream, exchange, fetch, upstream
handler     the plug-in contract of business services, and its door
http        HTTP/1.1 without IO: message heads, framing, header rules
auth        which networks are trusted, and whom tokens name
observe     counters, Prometheus text, logs
store       PostgreSQL and migrations
errors      every error that the edge answers with, and its JSON
secret      settings that are written as references, never as values

`pools`, beside this package, decides which endpoint serves a request, and when.
"""
