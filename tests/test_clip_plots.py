"""Figures of clips: which frames are shown, of which clips, and that no others are read."""

from types import SimpleNamespace

import numpy as np
import pytest

from refit.data.arrays import Dataset, Part
from refit.errors import ReportError
from refit.figures import clip_plots

NAMES = ("left", "right", "up")


class Recorder:
    """Clips that remember which of them were read, and which of their frames."""

    def __init__(self, images):
        self.images, self.shape, self.read = images, images.shape, []

    def __len__(self):
        return len(self.images)

    def __getitem__(self, place):
        self.read.append(place)
        return self.images[place]


def dataset(labels, length=7, height=4, width=4):
    """Clips whose pixels are ten times their position plus the number of the frame, from 0."""
    values = 10 * np.arange(len(labels))[:, None] + np.arange(length)
    images = np.broadcast_to(
        values[..., None, None, None], (len(labels), length, height, width, 3)
    ).astype(np.uint8)
    ids = np.arange(len(labels))
    part = Part(Recorder(images), np.array(labels, np.int32), ids)
    return Dataset(part, part, part, NAMES, "clips", "", False)


def shown(figure):
    """The value of each panel's frame, in the panels' order; None where there is none."""
    return [
        int(panel.images[0].get_array()[0, 0, 0]) if panel.images else None for panel in figure.axes
    ]


def test_a_row_per_class_runs_from_the_first_frame_to_the_last():
    figure = clip_plots.frames(dataset([2, 0, 0, 1]), frames=3)
    assert shown(figure) == [10, 13, 16, 30, 33, 36, 0, 3, 6]
    assert [panel.get_ylabel() for panel in figure.axes[::3]] == list(NAMES)
    assert [panel.get_title() for panel in figure.axes[:3]] == ["frame 1", "4", "7"]
    assert figure.get_supxlabel() == "time →   3 of 7 frames, evenly spaced"
    assert figure.description == (
        "frames of training clips: left, right, up. time →   3 of 7 frames, evenly spaced"
    )
    figure.png()


def test_only_what_is_shown_is_read():
    data = dataset([2, 0, 0, 1, 1, 2])
    clip_plots.frames(data, frames=2)
    assert data.train.images.read == [(1, 0), (1, 6), (3, 0), (3, 6), (0, 0), (0, 6)]


def test_several_clips_of_a_class_have_its_name_once_and_a_missing_one_says_so():
    figure = clip_plots.frames(dataset([0, 0, 2, 0]), frames=1, per_class=2)
    assert shown(figure) == [3, 13, None, 23]
    assert [panel.get_ylabel() for panel in figure.axes] == ["left", "", "right", "up"]
    assert [text.get_text() for text in figure.axes[2].texts] == ["no clip"]
    assert [panel.get_title() for panel in figure.axes] == ["frame 4", "", "", ""]
    figure.png()


def test_a_short_clip_has_all_its_frames_and_the_picture_fits_the_page():
    figure = clip_plots.frames(dataset([0, 1, 2], length=2), frames=6)
    assert shown(figure) == [0, 1, 10, 11, 20, 21]
    wide = clip_plots.frames(dataset([0, 1, 2], length=30, width=8), frames=30)
    assert wide.get_figwidth() <= 11
    assert len(wide.axes) == 90


def test_nothing_to_show_and_what_are_no_clips():
    empty = clip_plots.frames(dataset([]))
    assert empty.description == "frames of the training clips: no finished trials"
    stills = SimpleNamespace(images=np.zeros((3, 4, 4, 3)), labels=np.zeros(3))
    with pytest.raises(ReportError, match="are no clips"):
        clip_plots.frames(SimpleNamespace(train=stills, class_names=NAMES))
    with pytest.raises(ReportError, match="0 frames of 1 clips"):
        clip_plots.frames(dataset([0]), frames=0)
