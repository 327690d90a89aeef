"""Independent pieces of work side by side: in processes of this machine, or on a Dask cluster.

UNSIR_WORKERS=n: so many processes here, each with as many threads as this one; all on one GPU where there is one.
UNSIR_SCHEDULER=tcp://host:port: the workers of that Dask cluster. They and the scheduler have the project installed; the
workers share the folders of results and models (UNSIR_RESULTS, UNSIR_MODELS).
"""

from __future__ import annotations

import contextlib
import operator
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from joblib import Parallel, delayed, parallel_config
from joblib.externals.loky import BrokenProcessPool, ProcessPoolExecutor

from .cards import workers
from .progress import progress
from .provenance import machine


def each(work: Callable[[Any], Any], items: list, label: str) -> list:
    """[work(item) for item in items], in this order, wherever each was done.

    A worker that dies costs what it was doing, which another does again; that dies twice over the same item raises
    RuntimeError. Raises ValueError where a worker's machine would give other numbers than this one.
    """
    scheduler = os.environ.get("UNSIR_SCHEDULER")
    if len(items) < 2 or (workers() == 1 and not scheduler):
        return [work(item) for item in progress(items, label)]
    with _cluster(scheduler) if scheduler else _processes() as (do, options):
        about = (torch.get_num_threads(), machine())
        jobs = (delayed(do)(_numbered, number, work, item, *about) for number, item in enumerate(items))
        done = Parallel(return_as="generator_unordered", pre_dispatch="all", batch_size=1, **options)(jobs)
        found = dict(progress(done, label, total=len(items)))
    return [found[number] for number in range(len(items))]


def _numbered(number: int, work: Callable[[Any], Any], item: Any, threads: int, expected: str) -> tuple[int, Any]:
    torch.set_num_threads(threads)  # another number would give other last digits
    if machine() != expected:
        raise ValueError(f"a worker computes on {machine()}, this notebook on {expected}: their numbers would differ")
    return number, work(item)


@contextlib.contextmanager
def _cluster(scheduler: str) -> Iterator[tuple[Callable, dict]]:
    """Of a Dask cluster, whose scheduler gives the work of a dead worker to another."""
    try:
        from distributed import Client
    except ImportError:
        raise ImportError(
            "UNSIR_SCHEDULER needs Dask: pip install 'unsir-reproduction[cluster]', here and at the workers"
        ) from None
    with Client(scheduler, set_as_default=False) as client, parallel_config("dask", client=client):
        yield operator.call, {}


@contextlib.contextmanager
def _processes() -> Iterator[tuple[Callable, dict]]:
    """Of this machine: a thread for each process, so that one that dies takes no other with it."""
    pools: dict[int, ProcessPoolExecutor] = {}
    over = threading.Event()

    def in_own_process(work: Callable, *arguments: Any) -> Any:
        for last in (False, True):
            me = threading.get_ident()
            pools[me] = pools.get(me) or ProcessPoolExecutor(max_workers=1)
            try:
                return pools[me].submit(work, *arguments).result()
            except BrokenProcessPool as error:
                del pools[me]
                if last or over.is_set():
                    raise RuntimeError(DIED) from error

    try:
        with warnings.catch_warnings():  # loky replaces a process that has grown, between two pieces of work, and would warn
            warnings.filterwarnings("ignore", "A worker stopped", UserWarning)
            yield in_own_process, {"n_jobs": workers(), "backend": "threading"}
    finally:
        over.set()
        for pool in list(pools.values()):
            pool.shutdown(wait=True, kill_workers=True)


DIED = (
    "a worker died twice over the same piece of work, as for want of memory: set UNSIR_WORKERS to fewer; what is finished "
    "is kept"
)
