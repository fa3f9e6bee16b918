"""The state of a group on disk, from which it goes on after it was interrupted."""

import hashlib
import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from refit import storage
from refit.trial import Trial

# Below an experiment's runs of one profile.
FOLDER = ".fused"
_UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, RuntimeError)


@dataclass(frozen=True)
class Saved:
    """A group's state after some epochs.

    `members` has a state per place, as the member's recorder tells it, by the directory of its
    trial, and an empty one where that has ended;
    `leaves` are the stacked variables of all places, and `own` their own numbers. `circumstances`
    are what the group must agree with to go on from it.
    """

    epoch: int
    circumstances: str
    members: dict[str, dict[str, Any]]
    leaves: list[np.ndarray]
    own: dict[str, np.ndarray]

    def of(self, trials: Sequence[Trial]) -> "Saved":
        """The part of some of the members."""
        names = [str(trial.directory) for trial in trials]
        places = [list(self.members).index(name) for name in names]
        return Saved(
            self.epoch,
            self.circumstances,
            {name: self.members[name] for name in names},
            [leaf[places] for leaf in self.leaves],
            {name: values[places] for name, values in self.own.items()},
        )


def path_of(folder: Path, members: Sequence[str]) -> Path:
    """Where the state of a group is, by the directories of its members."""
    name = hashlib.sha256(" ".join(members).encode()).hexdigest()[:16]
    return folder / FOLDER / f"{name}.npz"


def write(folder: Path, saved: Saved) -> Path:
    """Write a state in one step; returns its path."""
    state = {
        "epoch": saved.epoch,
        "circumstances": saved.circumstances,
        "members": saved.members,
        "leaves": len(saved.leaves),
    }
    arrays = {f"v{number}": leaf for number, leaf in enumerate(saved.leaves)}
    arrays |= {f"own {name}": values for name, values in saved.own.items()}
    buffer = io.BytesIO()
    np.savez(buffer, state=np.array(json.dumps(state)), **arrays)
    path = path_of(folder, list(saved.members))
    storage.write_bytes(path, buffer.getbuffer())
    return path


def read(path: Path) -> Saved | None:
    """A state as it was written; None where it is missing, damaged or of another kind."""
    try:
        with np.load(path, allow_pickle=False) as file:
            state = json.loads(str(file["state"]))
            return Saved(
                state["epoch"],
                state["circumstances"],
                state["members"],
                [file[f"v{number}"] for number in range(state["leaves"])],
                {n.removeprefix("own "): file[n] for n in file.files if n.startswith("own ")},
            )
    except (*_UNREADABLE, TypeError, AttributeError):
        return None


def found(folder: Path, circumstances: str) -> list[tuple[Path, Saved]]:
    """The states below `folder` that were made under these circumstances, the furthest first."""
    states = [(path, read(path)) for path in sorted((folder / FOLDER).glob("*.npz"))]
    fitting = [(path, one) for path, one in states if one and one.circumstances == circumstances]
    return sorted(fitting, key=lambda pair: -pair[1].epoch)
