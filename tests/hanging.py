"""A stand-in for a training, which under no load of the machine takes long, or never ends."""

import shutil
import time


def train(trial, run_dir, finished, cache, **how):
    """Hang with the first seed; with any other, copy what a training left in `finished`."""
    if trial.seed == 1:
        time.sleep(3600)
    shutil.copytree(finished / trial.directory, run_dir, dirs_exist_ok=True)
