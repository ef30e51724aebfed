"""Starts the command line; or, quickly and without it, a worker."""

import sys


def main() -> None:
    """Do what the arguments say."""
    if sys.argv[1:] == ["worker"]:
        from sovren_edge.process.worker import main as work  # noqa: PLC0415 - a worker needs no command line

        work()
        return
    from sovren_edge.cli import main as command  # noqa: PLC0415 - nor this one a worker

    command(prog_name="sovren-edge")


if __name__ == "__main__":
    main()
