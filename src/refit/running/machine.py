"""What of this machine a job may use: cores and GPUs."""

import os
import shutil
import subprocess

VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"


def usable_cores() -> int:
    """The cores that this job may use: its affinity, the quota of its cgroup, and Slurm's word."""
    import joblib  # takes longer than all else that most commands do

    cores = joblib.cpu_count()
    granted = os.environ.get("SLURM_CPUS_PER_TASK", "")
    return min(cores, int(granted)) if granted.isdecimal() and int(granted) else cores


def local_gpus() -> list[str]:
    """The GPUs that this job may use, as `CUDA_VISIBLE_DEVICES` names them."""
    named = os.environ.get(VISIBLE_GPUS)
    if named is not None:
        return [one.strip() for one in named.split(",") if one.strip()]
    command = shutil.which("nvidia-smi")
    if command is None:
        return []
    try:
        listed = subprocess.run([command, "-L"], capture_output=True, timeout=60, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return []
    found = [line for line in listed.stdout.splitlines() if line.startswith(b"GPU ")]
    return [str(number) for number in range(len(found))]
