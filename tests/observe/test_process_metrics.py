"""What a process says that it uses, beside what the system says."""

import os
import resource
import time

import psutil

from sovren_edge.observe.process_metrics import _read_descriptors, read_usage
from sovren_edge.observe.registry import Source, render


async def test_it_agrees_with_the_system() -> None:
    """Memory to a tenth, descriptors to the last one."""
    before = await read_usage()
    opened = [os.open("/dev/null", os.O_RDONLY) for _ in range(17)]
    try:
        after = await read_usage()
        assert after.descriptors == before.descriptors + 17
        assert after.descriptors == _read_descriptors() == psutil.Process().num_fds() - 1
    finally:
        for descriptor in opened:
            os.close(descriptor)
    system = psutil.Process().memory_info().rss
    assert 0.9 * system < after.resident_bytes < 1.1 * system
    assert after.max_descriptors == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert 0 < before.cpu_s <= after.cpu_s <= time.process_time()
    assert after.started_s == before.started_s < time.time()


async def test_its_series_have_the_names_that_are_known() -> None:
    """In plain decimals, and of a type that fits."""
    text = render([Source(await read_usage(), {"worker": "gateway"})]).decode()
    for name, kind in (
        ("process_resident_memory_bytes", "gauge"),
        ("process_open_fds", "gauge"),
        ("process_max_fds", "gauge"),
        ("process_cpu_seconds_total", "counter"),
        ("process_start_time_seconds", "gauge"),
    ):
        assert f'# TYPE {name} {kind}\n{name}{{worker="gateway"}} ' in text
    values = [line.split()[-1] for line in text.splitlines() if not line.startswith("#")]
    assert all(set(value) <= set("0123456789.") for value in values)
