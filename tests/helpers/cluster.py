"""A throw-away SLURM cluster on this machine: real slurmctld, slurmd and munged, several nodes, GPUs that are none.

    python tests/helpers/cluster.py                                        a shell in which sbatch, squeue … work
    python tests/helpers/cluster.py snakemake --profile slurm all          one command on the cluster

Everything runs in namespaces of its own (processes, network, mounts, host name), so that nothing else on the machine is
touched, ports cannot collide, and all processes end with the cluster. Needs root on Linux, and Debian's packages munge,
slurmctld, slurmd, slurm-client and iproute2.
"""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

NODES, CPUS, MEGABYTES, GPUS = 3, 4, 16000, 2  # CPUs, memory and GPUs of each node, as claimed, not as there
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "ip", "unshare", "nsenter")
NAMESPACES = ("--mount", "--uts", "--net", "--pid")
REAP = ("sh", "-c", "while :; do sleep 1; done")  # the first process, which has to bury the others
BACKSTOP = 30 * 60  # seconds after which something hangs, on any machine

# proctrack/pgid: without cgroups, kill by process group. jobacct_gather: memory is sampled from /proc each second, and
# a job above its limit is killed. config_overrides: what a node claims is believed. MinJobAge: squeue shows finished
# jobs for an hour.
CONFIGURATION = """\
ClusterName=test
SlurmctldHost=localhost(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
MailProg=/bin/true
MpiDefault=none
SwitchType=switch/none
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
SlurmdParameters=config_overrides
ReturnToService=2
SlurmctldTimeout=10
SlurmdTimeout=60
KillWait=2
MessageTimeout=10
InactiveLimit=0
MinJobAge=3600
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,sched_min_interval=10000,bf_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=500
GresTypes=gpu
JobCompType=jobcomp/none
AccountingStorageType=accounting_storage/none
{nodes}
PartitionName=cpu Nodes=n[1-{number}] Default=YES MaxTime=INFINITE DefaultTime=60 State=UP
PartitionName=gpu Nodes=n[1-{number}] MaxTime=INFINITE DefaultTime=60 State=UP
"""


def lacks() -> list[str]:
    """What this machine lacks for a cluster."""
    missing = [program for program in PROGRAMS if not shutil.which(program, path=search_path())]
    if os.geteuid() != 0:
        return [*missing, "root"]
    if missing:
        return missing
    if " " in sys.executable:
        return ["a path to Python without spaces (the executor plugin does not quote it)"]
    allowed = subprocess.run(["unshare", *NAMESPACES, "--fork", "true"], capture_output=True, text=True)
    return [] if allowed.returncode == 0 else [f"the right to make namespaces ({allowed.stderr.strip()})"]


def search_path() -> str:
    return os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def child_of(pid: int) -> int | None:
    """The process that a process such as nsenter or unshare has started, once it is there."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(children[0]) if children else None


class Job(NamedTuple):
    """number; state: PENDING, RUNNING, COMPLETED …; node; comment: as the executor plugin of Snakemake sets it."""

    number: int
    state: str
    node: str
    comment: str


class Cluster:
    """A running cluster; use as a context manager. ``run`` runs a command as on its login node."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-"))
        self.daemons = ["slurmctld", *(f"slurmd-n{i}" for i in range(1, NODES + 1))]

    def __enter__(self) -> "Cluster":
        self.folder.chmod(0o755)  # munged insists that nobody else can write
        (self.folder / "munge.key").write_bytes(secrets.token_bytes(1024))
        (self.folder / "munge.key").chmod(0o400)
        for name in ("state", "slurm", *(f"spool-n{i}" for i in range(1, NODES + 1))):
            (self.folder / name).mkdir()
        self._configure()
        unshare = ["unshare", *NAMESPACES, "--fork", "--kill-child", "--mount-proc", *REAP]
        self.init = subprocess.Popen(unshare, stdin=subprocess.DEVNULL)
        try:
            self._wait("its namespaces", lambda: self._first_process() == REAP[0])
            # SLURM binds to no interface where all have loopback addresses only. All look for their configuration in
            # /etc/slurm: the plugin removes SLURM_CONF from a job's environment. Without accounting there is no sacct.
            network = "hostname localhost && ip link set lo up && ip address add 10.0.0.1/32 dev lo"
            mounts = f"mount --bind {self.folder}/slurm /etc/slurm && mount --bind /dev/null {shutil.which('sacct')}"
            self.run("sh", "-c", f"{network} && {mounts}", check=True)
            files = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munge.pid"}
            files |= {"log-file": "munged.log", "seed-file": "munge.seed"}
            munge = [f"--{option}={self.folder / file}" for option, file in files.items()]
            self.run("munged", *munge, "--num-threads=4", check=True)
            for daemon in self.daemons:
                self.begin(daemon)
            self.wait_for_nodes()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.init.kill()  # and with it all other processes of the namespace
        self.init.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _first_process(self) -> str | None:
        """Its name, once it is there: what starts it has the name of ``unshare``."""
        child = child_of(self.init.pid)
        return Path(f"/proc/{child}/comm").read_text().strip() if child else None

    def _configure(self) -> None:
        slurm = self.folder / "slurm"
        claims = f"NodeHostname=localhost NodeAddr=127.0.0.1 CPUs={CPUS} RealMemory={MEGABYTES} Gres=gpu:none:{GPUS}"
        nodes = "\n".join(f"NodeName=n{i} Port={17000 + i} {claims}" for i in range(1, NODES + 1))
        (slurm / "slurm.conf").write_text(CONFIGURATION.format(folder=self.folder, nodes=nodes, number=NODES))
        # SLURM sets CUDA_VISIBLE_DEVICES where a GPU has a character device, and numbers it by the name's end.
        for i in range(GPUS):
            (self.folder / f"gpu{i}").symlink_to("/dev/null")
        files = f"File={self.folder}/gpu[0-{GPUS - 1}] Flags=nvidia_gpu_env"
        (slurm / "gres.conf").write_text(f"AutoDetect=off\nNodeName=n[1-{NODES}] Name=gpu Type=none {files}\n")
        (slurm / "cgroup.conf").write_text("CgroupAutomount=no\n")

    def inside(self, *command: str, folder: str | Path = "") -> list[str]:
        """The command line that runs a command in the cluster's namespaces and in a folder, the present one."""
        there = ["env", f"--chdir={folder or os.getcwd()}"]
        return ["nsenter", f"--target={child_of(self.init.pid)}", *NAMESPACES, "--", *there, *command]

    def run(self, *command: str, **options) -> subprocess.CompletedProcess:
        options = {"env": os.environ | {"PATH": search_path()}, "text": True, "stdin": subprocess.DEVNULL} | options
        return subprocess.run(self.inside(*command), **options)

    def ask(self, *command: str) -> str:
        return self.run(*command, check=True, capture_output=True).stdout

    # Daemons

    def begin(self, daemon: str) -> None:
        """Start ``slurmctld`` or ``slurmd-n1``, ``slurmd-n2`` …"""
        program, _, node = daemon.partition("-")
        said = len(self._log(daemon))

        def there() -> bool:
            if "fatal:" in self._log(daemon)[said:]:
                raise RuntimeError(f"{daemon} has ended: {self._log(daemon)[said:]}")
            return bool(self._pid(daemon)) and self.run("kill", "-0", self._pid(daemon)).returncode == 0

        self.run(program, *(["-N", node] if node else ["-i"]), check=True)
        self._wait(daemon, there)

    def kill(self, daemon: str) -> None:
        self.run("kill", "-KILL", self._pid(daemon), check=True)
        (self.folder / f"{daemon}.pid").unlink()

    def stop(self, daemon: str) -> None:
        """End a daemon as an administrator does: the controller saves its state, which a killed one loses in part."""
        pid = self._pid(daemon)
        self.run("kill", "-TERM", pid, check=True)
        self._wait(f"the end of {daemon}", lambda: self.run("kill", "-0", pid, capture_output=True).returncode)
        (self.folder / f"{daemon}.pid").unlink(missing_ok=True)

    def _pid(self, daemon: str) -> str:
        """The number of a daemon in its namespace; empty before it has told it."""
        file = self.folder / f"{daemon}.pid"
        return file.read_text().strip() if file.exists() else ""

    def _log(self, daemon: str) -> str:
        file = self.folder / f"{daemon}.log"
        return file.read_text() if file.exists() else ""

    def wait_for_commands_to_fail(self) -> None:
        """While the controller is away: wait until all commands that were asking it have given up, and one more has."""
        for _ in range(2):
            if self.run("squeue", capture_output=True).returncode == 0:
                raise RuntimeError("the controller is not away")

    def lose_processes(self, job: "Job") -> None:
        """Kill what a job consists of, as a node's crash does: SLURM's own processes of it first."""
        for environment in Path("/proc").glob("[0-9]*/environ"):
            try:
                step = environment.with_name("cmdline").read_text().startswith(f"slurmstepd: [{job.number}.")
                if step or f"SLURM_JOB_ID={job.number}" in environment.read_text().split("\0"):
                    os.kill(int(environment.parent.name), signal.SIGKILL)
            except (OSError, UnicodeDecodeError):
                continue  # it has ended by itself

    def wait_for_nodes(self) -> None:
        def ready() -> bool:
            asked = self.run("sinfo", "-h", "-N", "-p", "cpu", "-o", "%T", capture_output=True)
            states = asked.stdout.split()
            return len(states) == NODES and set(states) <= {"idle", "mixed", "allocated", "completing"}

        self._wait("its nodes", ready)

    def _wait(self, what: str, there) -> None:
        end = time.monotonic() + BACKSTOP
        while not there():
            if time.monotonic() > end:
                logs = [f"--- {log}\n{log.read_text()[-2000:]}" for log in sorted(self.folder.glob("*.log"))]
                raise TimeoutError("\n".join([f"the cluster waited in vain for {what}", *logs]))
            time.sleep(0.1)

    # Jobs

    def jobs(self) -> list[Job]:
        """All jobs that SLURM still knows, finished ones included, in the order in which they were submitted."""
        lines = self.ask("squeue", "-h", "--states=all", "-o", "%i|%T|%N|%k").splitlines()
        return sorted((Job(int(number), *rest) for number, *rest in (line.split("|") for line in lines)))

    def age(self, job: Job) -> int:
        """Seconds since a job started."""
        hours, minutes, seconds = self.describe(job)["RunTime"].split(":")
        return 3600 * int(hours) + 60 * int(minutes) + int(seconds)

    def describe(self, job: Job) -> dict[str, str]:
        """What ``scontrol show job`` says of a job."""
        words = self.ask("scontrol", "-d", "show", "job", str(job.number)).split()
        return dict(word.split("=", 1) for word in words if "=" in word)


def main(command: Sequence[str]) -> int:
    if missing := lacks():
        print(f"no cluster here, for want of {', '.join(missing)}", file=sys.stderr)
        return 1
    with Cluster() as cluster:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # for the command to deal with
        print(f"SLURM with {NODES} nodes; configuration and logs in {cluster.folder}", file=sys.stderr)
        return cluster.run(*(command or ["bash"]), stdin=None).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
