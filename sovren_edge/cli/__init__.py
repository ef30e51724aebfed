"""The command line: serve, check, ports, verify, migrate, reload, top.

main      the commands
running   asking the running program, through its admin socket
described the shapes in which it describes itself
top       watching it
given     secrets that are typed or piped
options   what several commands are told, and the files that they find by themselves
verify    asking every open port for its health
show      tables for people, JSON for programs
"""

from sovren_edge.cli.main import main

__all__ = ["main"]
