"""The command line: serve, check, ports, verify, migrate.

main      the commands
given     secrets that are typed or piped
options   what several commands are told, and the files that they find by themselves
verify    asking every open port for its health
show      tables for people, JSON for programs
"""

from sovren_edge.cli.main import main

__all__ = ["main"]
