"""A sweep that stands still says why, goes on when it can, and ends when it never will."""

import subprocess
import sys
from typing import Any

import ray

from raysweep.cluster import ray_internals, watchdog
from raysweep.recording.pace import Standing
from raysweep.recording.state import Progress
from raysweep.running.sweep import run_sweep
from raysweep.spec import Resources
from tests.support.commands import run, wait_for

HOG = """
import sys, time, ray
ray.init(address=sys.argv[1], log_to_driver=False)
@ray.remote(num_cpus=float(sys.argv[2]))
class Hog:
    def sit(self): return "sits"
hog = Hog.remote()
print(ray.get(hog.sit.remote()), flush=True)
time.sleep(600)
"""

GROUPS = """
name: none
task: digits
base: {epochs: 1}
axes: {learning_rate: [0.01, 0.1]}
seeds: 1
resources: {workers: 2}
"""


@ray.remote(num_cpus=0)
class Controller:
    """Makes a placement group, as Ray Train's controller does before it tells anyone."""

    def hold(self):
        group = ray.util.placement_group([{"CPU": 1}])
        ray.get(group.ready())
        return group.id.hex()


def test_what_a_killed_controller_had_taken_is_free_again(local_ray):
    controllers: list[Any] = [Controller.remote() for _ in range(2)]
    killed, living = ray.get([controller.hold.remote() for controller in controllers])
    ray.kill(controllers[0])
    wait_for(lambda: killed in ray_internals.orphaned_groups())
    assert living not in ray_internals.orphaned_groups()
    times = iter([0.0, 1000.0])
    looking = watchdog.Watchdog(
        Resources(), local_ray.nodes, "m", growing=False, clock=lambda: next(times)
    )
    looking.look(Progress(1, 0, 0, 0, 0, (), None, 0.0, 0))
    groups = ray.util.placement_group_table()
    assert (groups[killed]["state"], groups[living]["state"]) == ("REMOVED", "CREATED")
    ray_internals.remove_group(living)
    ray.kill(controllers[1])


def test_a_trial_that_stands_still_is_named_once_with_its_process(local_ray):
    looking = watchdog.Watchdog(Resources(), local_ray.nodes, "m", growing=False)
    moving = Progress(2, 0, 2, 0, 0, (), None, 0.0, 0)
    assert looking.look(moving) is None
    stands = [Standing("aa", "pid 77 on vm", seconds, 1.5) for seconds in (60.0, 65.0)]
    said = looking.look(moving._replace(standing=(stands[0],)))
    assert said is not None
    assert "trial aa has sent no row for 60 s; an epoch takes 1.5 s. It trains in pid 77" in said
    assert "kill 77" in said
    assert looking.look(moving._replace(standing=(stands[1],))) == said
    assert looking.look(moving) is None


def test_a_group_that_never_starts_ends_the_sweep_with_the_reason(nodes, tmp_path):
    nodes.add_node(num_cpus=2, env_vars={"GLOO_SOCKET_IFNAME": "nosuch0"})  # workers can't meet
    (tmp_path / "sweep.yaml").write_text(GROUPS)
    done = run("run", "sweep.yaml", "--address", nodes.address, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    last = done.stderr.splitlines()[-1]
    assert "a group of 2 workers failed 3 times before any trial began: RuntimeError: " in last
    assert last.endswith("Unable to find address for: nosuch0 (while the group was set up)")


def test_cpus_that_another_job_holds_are_named_and_the_sweep_goes_on_when_they_are_free(
    local_ray, make_spec, tmp_path, monkeypatch
):
    monkeypatch.setattr(watchdog, "QUIET_S", 2.0)
    cpus = ray.cluster_resources()["CPU"]
    command = [sys.executable, "-c", HOG, local_ray.address, str(cpus)]
    notices: list[str] = []

    def show(progress: Progress) -> None:
        if progress.notice and not notices:
            notices.append(progress.notice)
            hog.kill()

    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as hog:
        try:
            assert hog.stdout is not None
            assert hog.stdout.readline().strip() == "sits"
            result = run_sweep(make_spec(), tmp_path, show=show)
        finally:
            hog.kill()
    assert result.trained == 4
    (notice,) = notices
    assert "4 trials wait for 1 x (1 CPU)" in notice
    assert f"0 of {cpus:g} CPUs free" in notice
    assert f"(process {hog.pid} on " in notice
