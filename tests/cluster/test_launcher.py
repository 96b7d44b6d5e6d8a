"""`ray up`, `ray submit`, `ray down` for real: sshd on two addresses, in namespaces of their own.

One machine plays laptop, head and worker. They share its disk and its processes, so this shows the
commands, the configuration, token auth, Ray on two nodes and the sweep; not that files reach a
second disk. There is no package index in there: the setup commands that install are replaced by
one that links this checkout's environment, everything else of cluster/config.yaml is used as it is.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import yaml

from analysis import analyze
from raysweep.store.files import Store

ROOT = Path(__file__).parents[2]
HEAD, WORKER = "10.99.0.1", "10.99.0.2"
VENV = Path(sys.prefix)
NAMESPACES = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]

MY_TASK = """
from torch import nn
from raysweep.tasks import Task
from raysweep.tasks.digits import load

task = Task(load, lambda trial, data: nn.Linear(64, 10))
"""

# 2 x 2 CPUs on nodes of 2 (below): the workers of a trial sit on different nodes.
MY_SWEEP = """
name: mine
task: my_task:task
base: {epochs: 2}
axes: {learning_rate: [0.01, 0.1]}
seeds: 1
resources: {workers: 2, cpus_per_worker: 2}
"""

# `ray up` returns when the head is there.
WAIT = """
import time, ray
ray.init("auto", log_to_driver=False)
until = time.monotonic() + 240
while sum(node["Alive"] for node in ray.nodes()) < 2:
    assert time.monotonic() < until, ray.nodes()
    time.sleep(0.5)
"""

SETUP = f"""
set -eux
ip link set lo up
ip addr add {HEAD}/32 dev lo
ip addr add {WORKER}/32 dev lo
mkdir -p /tmp/ray
mount -t tmpfs tmpfs /tmp/ray
mount -t tmpfs tmpfs /run
mkdir /run/sshd
mount --bind ~/passwd /etc/passwd
"$(command -v sshd)" -f ~/sshd_config
"""

COMMANDS = """
ray get-auth-token --generate > /dev/null
# Ray gives a head 30 s to start, which a busy machine may not manage at once.
ray up -y ~/config.yaml || ray up -y ~/config.yaml || ray up -y ~/config.yaml
ray exec ~/config.yaml 'python ~/wait.py'
ray rsync-up ~/config.yaml ~/mine/ '~/sweeps/'
ray submit ~/config.yaml raysweep/main.py -- run sweeps/my_sweep.yaml
! ray job list --address http://localhost:8265  # no token, no answer
export RAY_AUTH_MODE=token
ray job submit --address http://localhost:8265 --working-dir ~/mine -- \\
    raysweep run my_sweep.yaml --dry-run --store ~/results/mine --set 'axes.dropout=[0.0, 0.5, 0.6]'
ray rsync-down ~/config.yaml '~/results/' ~/fetched/
ray down -y ~/config.yaml
"""


def missing():
    """Why the test can't run here; None when it can."""
    if os.geteuid() != 0:
        return "namespaces and sshd need root"
    for tool in ("sshd", "ssh", "ssh-keygen", "rsync", "ip", "unshare"):
        if not shutil.which(tool, path=os.environ["PATH"] + ":/usr/sbin:/sbin"):
            return f"{tool} is not installed"
    if subprocess.run([*NAMESPACES, "true"], capture_output=True, check=False).returncode:
        return "this system does not allow new namespaces"
    return None


def private_home(home):
    """What laptop, head and worker find at home: a key, sshd's settings, the YAML, a sweep."""
    (home / ".ssh").mkdir(mode=0o700)
    key = home / ".ssh" / "id_ed25519"
    for file in (key, home / "host_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file], check=True)
    shutil.copy(key.with_suffix(".pub"), home / ".ssh" / "authorized_keys")
    sshd = [f"ListenAddress {HEAD}", f"ListenAddress {WORKER}", f"HostKey {home}/host_key"]
    sshd += ["PermitRootLogin prohibit-password", "StrictModes no", "UsePAM no", "MaxStartups 100"]
    sshd += ["PidFile /run/sshd.pid"]
    (home / "sshd_config").write_text("\n".join(sshd) + "\n")
    # Root's home is this one, in there: its own may hold the Python that runs this.
    users = [line.split(":") for line in Path("/etc/passwd").read_text().splitlines()]
    moved = [[*u[:5], str(home), "/bin/bash"] if u[0] == "root" else u for u in users]
    (home / "passwd").write_text("".join(":".join(user) + "\n" for user in moved))
    (home / "config.yaml").write_text(yaml.safe_dump(filled_in()))
    (home / "wait.py").write_text(WAIT)
    (home / "mine").mkdir()
    (home / "mine" / "my_task.py").write_text(MY_TASK)
    (home / "mine" / "my_sweep.yaml").write_text(MY_SWEEP)


def filled_in():
    """cluster/config.yaml with what is ours: addresses, user, key, environment, nodes of 2 CPUs."""
    config = yaml.safe_load((ROOT / "cluster" / "config.yaml").read_text())
    config["provider"] |= {"head_ip": HEAD, "worker_ips": [WORKER]}
    config["auth"] = {"ssh_user": "root", "ssh_private_key": "~/.ssh/id_ed25519"}
    make, install, *rest = config["setup_commands"]
    assert "-m venv" in make
    assert "pip install" in install
    # The environment may hold an editable install of another folder: what was copied comes first.
    link = f"ln -sfn {VENV} ~/venv && echo 'export PYTHONPATH=$HOME/raysweep' >> ~/.profile"
    config["setup_commands"] = [link, *rest]
    for role, address in (("head", HEAD), ("worker", WORKER)):
        stop, start = config[f"{role}_start_ray_commands"]
        assert stop == "ray stop"
        start += f" --node-ip-address={address} --num-cpus=2 --object-store-memory=200000000"
        # Both nodes see the same processes: stopping the worker's would stop the head's.
        config[f"{role}_start_ray_commands"] = [stop, start] if role == "head" else [start]
    return config


@pytest.mark.skipif(missing() is not None, reason=str(missing()))
@pytest.mark.usefixtures("own_ray")
def test_ray_up_submit_and_down_on_two_nodes(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    private_home(home)
    environment = {"PATH": f"{VENV}/bin:{os.environ['PATH']}:/usr/sbin:/sbin", "HOME": str(home)}
    environment["RAY_worker_niceness"] = "0"  # as in conftest.py
    done = subprocess.run(
        [*NAMESPACES, "bash", "-c", SETUP + COMMANDS],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    assert "Unauthorized: Missing authentication token" in done.stdout
    # The whole argument arrived, and the nodes are an autoscaler's.
    assert "(3)" in done.stdout
    assert "an autoscaler may add nodes" in done.stdout
    sweep = Store(home / "fetched" / "mine").sweeps()[-1]
    assert len(sweep.hardware["nodes"]) == 2
    trials = pl.DataFrame(Store(home / "fetched" / "mine").read("trials"))
    assert trials["status"].to_list() == ["completed"] * 2
    assert trials["world_size"].to_list() == [2, 2]
    assert analyze(home / "fetched" / "mine").trials.height == 2
    assert (home / "fetched" / "mine" / "report.html").exists()
