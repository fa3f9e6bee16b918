"""What tests of data sets share: reading them in a process whose locale is not UTF-8."""

import os
import subprocess
import sys
from pathlib import Path

READ = """
import json, sys
from pathlib import Path
from refit.data import sets
from refit.data.spec import DataSpec
spec = DataSpec(**json.loads(sys.argv[1]))
for folder in map(Path, sys.argv[2:] * 2):  # decoded, then from the cache
    dataset = sets.load(spec, folder, folder / "cache")
    print(ascii(dataset.class_names), len(dataset.train))
"""


def read_in_plain_locale(spec: str, *folders: Path) -> list[str]:
    """The classes and the number of training images, each data folder decoded and then cached."""
    plain = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    run = subprocess.run(
        [sys.executable, "-c", READ, spec, *folders],
        env={**os.environ, **plain}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return run.stdout.splitlines()
