"""A Slurm of one node in a temporary folder: no systemd, no cgroups, no database, no /etc/slurm.

For root, the node has process ids of its own, as another machine has. It has a GPU that is not
there.
"""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "srun")
SYSTEM = f"{os.environ['PATH']}{os.pathsep}/usr/sbin{os.pathsep}/usr/bin"
CONF = """\
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
MpiDefault=none
ReturnToService=2
EnforcePartLimits=ALL
MinJobAge=300
KillWait=5
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} Gres=gpu:1 State=UNKNOWN
PartitionName=other Nodes={host} MaxTime=INFINITE State=UP
PartitionName=main-part Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def lacking() -> list[str]:
    """The commands of Slurm that this machine does not have."""
    return [name for name in NEEDED if not shutil.which(name, path=SYSTEM)]


@contextmanager
def running() -> Iterator[dict[str, str]]:
    """The environment variables with which jobs can be submitted while the context lasts."""
    with ExitStack() as stack:
        # Not pytest's folder: munge wants one that everybody may enter.
        folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o755)
        _write(folder)
        own = {"SLURM_CONF": f"{folder}/slurm.conf", "PATH": f"{folder}/bin:{SYSTEM}"}
        for command in _daemons(folder):
            stack.callback(_end, _start(command, own, folder))
            time.sleep(0.2)
        for _ in range(100):
            if _said("sinfo --noheader --format=%T --partition=main-part", own) == "idle":
                break
            time.sleep(0.1)
        else:
            raise RuntimeError((folder / "log").read_text())
        yield own


def _write(folder: Path) -> None:
    for name in ("state", "spool", "bin"):
        (folder / name).mkdir(mode=0o755)
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(os.urandom(128))
    host = socket.gethostname().partition(".")[0]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20 - 1024
    user = subprocess.check_output(["id", "-un"], text=True).strip()
    about = {"host": host, "ports": _free_ports(2), "user": user, "folder": folder}
    about |= {"cpus": os.cpu_count(), "memory": memory}
    (folder / "slurm.conf").write_text(CONF.format(**about))
    # Any device file does: one GPU is scheduled like a real one.
    (folder / "gres.conf").write_text(f"NodeName={host} Name=gpu Count=1 File=/dev/null\n")
    # The plugin's job starts srun without SLURM_CONF; this one, first in the PATH, gives it back.
    srun = folder / "bin" / "srun"
    real = shutil.which("srun", path=SYSTEM)
    srun.write_text(f'#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {real} "$@"\n')
    srun.chmod(0o755)


def _free_ports(n: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _daemons(folder: Path) -> list[list[str]]:
    names = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munged.pid"}
    names |= {"log-file": "munged.log", "seed-file": "munge.seed"}
    munge = ["munged", "--foreground", *(f"--{key}={folder}/{file}" for key, file in names.items())]
    elsewhere = ["unshare", "--pid", "--fork", "--kill-child=TERM", "--mount-proc"]
    node = ["slurmd", "-D"]
    return [munge, ["slurmctld", "-D"], node if os.geteuid() else [*elsewhere, *node]]


def _start(command: list[str], own: dict[str, str], folder: Path) -> subprocess.Popen:
    with (folder / "log").open("a") as log:
        return subprocess.Popen(
            [shutil.which(command[0], path=SYSTEM), *command[1:]],
            env=os.environ | own,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _end(process: subprocess.Popen) -> None:
    """End a daemon; of `unshare`, which heeds no request, its only child, and with it the node."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    with suppress(OSError):
        inner = [int(pid) for pid in children.read_text().split()]
        for pid in inner if "unshare" in process.args[0] else ():
            os.kill(pid, 15)
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _said(command: str, own: dict[str, str]) -> str:
    asked = subprocess.run(command.split(), env=os.environ | own, capture_output=True, text=True)
    return asked.stdout.strip()
