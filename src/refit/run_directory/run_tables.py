"""One row per run as CSV, in the columns of MLflow's and of Weights & Biases' own exports.

Who keeps such a file of the report's runs, or of their own, can lay this one beside it.
"""

import pandas as pd

from refit.experiments.metrics import METRICS
from refit.experiments.trial import is_setting

# A tool's column -> that of a log's results; empty where refit has nothing to say.
HEADS = {
    "mlflow": {
        "Start Time": "started", "Duration": "total_seconds", "Run ID": "digest", "Name": "title",
        "Source Type": "", "Source Name": "sweep", "User": "", "Status": "status",
    },
    "wandb": {
        "Name": "title", "State": "status", "Notes": "reason", "User": "", "Tags": "seed",
        "Created": "started", "Runtime": "total_seconds", "Sweep": "sweep",
    },
}  # fmt: skip
FILES = {tool: f"runs_{tool}.csv" for tool in HEADS}
# What each tool calls a run that ended well.
FINISHED = {"mlflow": "FINISHED", "wandb": "finished"}


def of(tool: str, results: pd.DataFrame) -> pd.DataFrame:
    """The finished runs of a log's `results`: the tool's columns, then settings, then metrics."""
    done = results[results["status"] == "done"].assign(status=FINISHED[tool])
    heads = {name: done.get(column, "") for name, column in HEADS[tool].items()}
    names = [name for name in done if is_setting(name)] + [n for n in done if n in METRICS]
    return pd.concat([pd.DataFrame(heads, index=done.index), done[names]], axis="columns")
