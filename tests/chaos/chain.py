"""The chain from a task to its GPU, held to what it is to be."""

from __future__ import annotations

from rehearsal.containers import bundle, devices, running
from rehearsal.juju import Unit
from rehearsal.machine import Machine

_DOCKER = "chaos-docker"


def put_right(unit: Unit, hook: str = "config-changed") -> None:
    """Run the next hook and hold the machine to the promise."""
    machine = unit.machine
    run = unit.hook(hook)
    assert run.code == 0, run.trouble
    checks = unit.action("verify-gpu")
    assert checks.failure is None, (checks.results, run.log)
    head = machine.shell("head -c 4 /opt/concourse/bin/runc.real | tail -c 3")
    assert head == "ELF", "runc.real is no original"
    real = machine.shell("head -n 1 /usr/bin/nvidia-container-runtime.real").strip()
    assert real == "#!/usr/bin/python3", "nvidia-container-runtime.real is no original"
    assert docker_devices(machine) == ["nvidia0"]
    with running(machine, "chaos-task", task=True):
        assert "nvidia0" in devices(machine, "chaos-task")
    with running(machine, "chaos-check", task=False, env={"NVIDIA_VISIBLE_DEVICES": "all"}):
        assert devices(machine, "chaos-check") == ()


def docker_devices(machine: Machine) -> list[str] | None:
    """Return the GPUs of a container that is made as Docker makes them; None if it isn't made."""
    folder = bundle(machine, _DOCKER, task=False, env={"NVIDIA_VISIBLE_DEVICES": "all"})
    runtime = "timeout 20 /usr/bin/nvidia-container-runtime --root /run/docker-runc"
    script = (
        f"cd {folder}\nmv spec.json config.json\n"
        f"{runtime} create --bundle {folder} {_DOCKER} </dev/null >/dev/null 2>&1 || exit 9\n"
        f"{runtime} start {_DOCKER}\n"
        f"{runtime} exec {_DOCKER} /bin/ls /dev\n"
        f"{runtime} delete --force {_DOCKER}\n"
        f"rm -r {folder}"
    )
    done = machine.run(["sh", "-ec", script], timeout=120, check=False)
    if done.returncode == 9:
        return None
    assert done.returncode == 0, done.stderr
    return [name for name in done.stdout.split() if name in ("nvidia0", "nvidia1")]
