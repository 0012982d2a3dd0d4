"""snakemake, for tests: it looks at the state of its jobs every second, and an interrupt cancels all of them.

The executor plugin for SLURM waits ten seconds longer after each look at which no job has ended, and no option limits
that. An interrupt during a look finds the list of jobs empty and cancels none (docs/cluster.md): rare at one look in
ten seconds or more, and likely at one a second on a busy machine. Jobs themselves run the plain snakemake.
"""

import asyncio
import sys

from snakemake.cli import main
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor


async def sleep(self):
    await asyncio.sleep(min(1, self.next_seconds_between_status_checks))


def cancel(self):
    with self.lock:
        self.wait = False
    self.wait_thread.join()
    self.cancel_jobs(self.active_jobs)
    self.shutdown()


RemoteExecutor.sleep = sleep
RemoteExecutor.cancel = cancel
sys.exit(main())
