"""snakemake, for tests: it looks at the state of its jobs every second.

The executor plugin for SLURM waits ten seconds longer after each look at which no job has ended, and no option limits
that. Jobs themselves run the plain snakemake.
"""

import asyncio
import sys

from snakemake.cli import main
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor


async def sleep(self):
    await asyncio.sleep(min(1, self.next_seconds_between_status_checks))


RemoteExecutor.sleep = sleep
sys.exit(main())
