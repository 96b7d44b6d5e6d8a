"""cluster/: what can be known of its files without a cluster."""

import copy
import re
import shlex
from importlib import metadata
from pathlib import Path

import pytest
import yaml

CLUSTER = Path(__file__).parents[2] / "cluster"
README = (CLUSTER / "README.md").read_text()

# The fields of KubeRay 1.6's resources that a sweep may use, as its API reference names them. Not
# checked here: the pods' own fields beyond their names, and whatever the operator decides.
RAY_JOB = {
    "entrypoint",
    "runtimeEnvYAML",
    "submissionMode",
    "backoffLimit",
    "activeDeadlineSeconds",
    "shutdownAfterJobFinishes",
    "ttlSecondsAfterFinished",
    "rayClusterSpec",
    "submitterPodTemplate",
}
RAY_CLUSTER = {
    "rayVersion",
    "authOptions",
    "enableInTreeAutoscaling",
    "autoscalerOptions",
    "headGroupSpec",
    "workerGroupSpecs",
}
HEAD_GROUP = {"serviceType", "rayStartParams", "template"}
WORKER_GROUP = {
    "groupName",
    "replicas",
    "minReplicas",
    "maxReplicas",
    "rayStartParams",
    "template",
}
POD = {
    "containers",
    "volumes",
    "serviceAccountName",
    "automountServiceAccountToken",
    "terminationGracePeriodSeconds",
    "nodeSelector",
    "tolerations",
}
CONTAINER = {"name", "image", "resources", "volumeMounts", "env", "envFrom"}


def read(name):
    return yaml.safe_load((CLUSTER / name).read_text())


@pytest.mark.parametrize("name", ["config.yaml", "aws.yaml"])
def test_ray_takes_the_file_and_refuses_a_misspelt_one(name):
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = read(name)
    validate_config(prepare_config(copy.deepcopy(config)))
    with pytest.raises(Exception, match="workers_max"):
        validate_config(prepare_config(config | {"workers_max": 2}))


@pytest.mark.parametrize("name", ["config.yaml", "aws.yaml"])
def test_every_node_gets_the_package_and_the_token_and_asks_for_it(name):
    config = read(name)
    assert config["file_mounts"]["~/raysweep"] == "."
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    install = "-c ~/raysweep/constraints.txt ~/'raysweep[run]'"
    assert any(install in command for command in config["setup_commands"])
    for role in ("head", "worker"):
        (start,) = [c for c in config[f"{role}_start_ray_commands"] if "ray start" in c]
        assert "RAY_AUTH_MODE=token ray start" in start
        dashboard = re.findall(r"--dashboard-host=(\S+)", start)
        assert dashboard == (["127.0.0.1"] if role == "head" else [])


def test_on_machines_that_one_has_the_first_autoscaler_runs():
    (start,) = [c for c in read("config.yaml")["head_start_ray_commands"] if "ray start" in c]
    assert start.startswith("RAY_enable_autoscaler_v2=0 ")


def test_aws_trains_on_spot_gpus_from_none_to_eight_and_holds_no_keys():
    config = read("aws.yaml")
    gpu = config["available_node_types"]["gpu"]
    assert (gpu["min_workers"], gpu["max_workers"], config["max_workers"]) == (0, 8, 8)
    assert gpu["resources"]["GPU"] == 1
    assert gpu["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    head = config["available_node_types"]["head"]
    assert head["resources"] == {"CPU": 0, "GPU": 0}
    assert "InstanceMarketOptions" not in head["node_config"]
    for kind in (head, gpu):
        assert kind["node_config"]["IamInstanceProfile"]["Name"]
    assert not re.search(r"(?i)secret_?access|aws_access|AKIA", (CLUSTER / "aws.yaml").read_text())


def test_the_rayjob_has_the_fields_that_kuberay_knows():
    job = read("rayjob.yaml")
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert set(job) == {"apiVersion", "kind", "metadata", "spec"}
    spec = job["spec"]
    cluster = spec["rayClusterSpec"]
    head, (workers,) = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    for place, known in (
        (spec, RAY_JOB),
        (cluster, RAY_CLUSTER),
        (head, HEAD_GROUP),
        (workers, WORKER_GROUP),
        (head["template"]["spec"], POD),
        (workers["template"]["spec"], POD),
    ):
        assert set(place) <= known, set(place) - known
    for group in (head, workers):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        pod = group["template"]["spec"]
        names = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert set(container) <= CONTAINER
            mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
            assert set(mounted) == names
            assert mounted["shm"] == "/dev/shm"
            for amounts in container["resources"].values():
                assert all(isinstance(amount, str) for amount in amounts.values())
        (shm,) = [volume for volume in pod["volumes"] if volume["name"] == "shm"]
        assert shm["emptyDir"]["medium"] == "Memory"


def test_the_rayjob_keeps_trials_off_the_head_wants_a_token_and_runs_again():
    spec = read("rayjob.yaml")["spec"]
    cluster = spec["rayClusterSpec"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["rayVersion"] == metadata.version("ray")
    assert spec["backoffLimit"] > 0
    # Run again on a new cluster, it goes on in a store that outlives the pods.
    entry = shlex.split(spec["entrypoint"])
    assert entry[:2] == ["raysweep", "run"]
    place = entry[entry.index("--store") + 1]
    mounts = cluster["headGroupSpec"]["template"]["spec"]["containers"][0]["volumeMounts"]
    (results,) = [mount for mount in mounts if place.startswith(mount["mountPath"] + "/")]
    volumes = cluster["headGroupSpec"]["template"]["spec"]["volumes"]
    (volume,) = [volume for volume in volumes if volume["name"] == results["name"]]
    assert "persistentVolumeClaim" in volume


def test_every_ray_command_of_the_readme_exists():
    from ray.scripts.scripts import cli

    lines = [
        line.partition(" #")[0].strip()
        for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
        for line in block.splitlines()
    ]
    used = {shlex.split(line)[1] for line in lines if line.startswith("ray ")}
    assert {"up", "submit", "rsync-up", "rsync-down", "down", "job", "dashboard"} <= used
    assert used <= set(cli.commands), used - set(cli.commands)
    for line in lines:
        for option in re.findall(r"(--[a-z-]+)", line.partition(" -- ")[0]):
            if line.startswith("ray ") and not line.startswith("ray job"):
                command = cli.commands[shlex.split(line)[1]]
                known = {name for parameter in command.params for name in parameter.opts}
                assert option in known, line


def test_the_files_name_only_recipes_and_places_that_exist():
    for name in ("config.yaml", "aws.yaml", "rayjob.yaml"):
        text = (CLUSTER / name).read_text()
        for path in re.findall(r"(?<![\w/])(?:cluster|raysweep)/[\w.]+\.\w+", text):
            assert (CLUSTER.parent / path).exists(), path
