"""Sample pictures: which images and frames are shown, and what the captions count."""

import numpy as np

from refit.figures import samples


class Recorder:
    """Clips that remember which of their frames were read."""

    def __init__(self, pixels):
        self.pixels, self.shape, self.read = pixels, pixels.shape, []

    def __getitem__(self, place):
        self.read.append(place)
        return self.pixels[place]


def shown(picture):
    """The first pixel of every image that is drawn, panel by panel."""
    return [int(np.ravel(panel.images[0].get_array())[0]) for panel in picture.axes if panel.images]


def test_every_class_has_a_row_of_its_first_images():
    pixels = np.arange(6, dtype=np.uint8).reshape(6, 1, 1, 1) * np.ones((1, 4, 4, 1), np.uint8)
    labels = np.array([1, 0, 1, 1, 0, 1])
    picture = samples.images(pixels, labels, ["cat", "a" * 40, "none"], "Pets: images", per_class=3)
    assert shown(picture) == [1, 4, 0, 2, 3]
    rows = [panel.get_ylabel() for panel in picture.axes[::3]]
    assert rows == ["cat", "a" * 21 + "…", "none"]
    assert [text.get_text() for panel in picture.axes for text in panel.texts] == ["no images"]
    assert picture.title == "Pets: images"
    assert picture.caption == (
        f"6 training images of 3 classes: most are of {'a' * 40} (4), fewest of none (0)."
    )


def test_frames_are_evenly_spaced_and_no_others_are_read():
    places, times = np.meshgrid(range(4), range(7), indexing="ij")
    pixels = (10 * places + times).astype(np.uint8)[..., None, None, None]
    clips = Recorder(pixels * np.ones((1, 1, 4, 4, 3), np.uint8))
    picture = samples.clips(clips, np.array([1, 1, 0, 0]), ["left", "right"], "Clips", frames=3)
    assert clips.read == [(2, 0), (2, 3), (2, 6), (0, 0), (0, 3), (0, 6)]
    assert [panel.get_title() for panel in picture.axes] == ["frame 1", "4", "7", "", "", ""]
    assert "Time runs from left to right: 3 of 7 frames." in picture.caption
    assert "Each of the 2 classes has 2 training clips." in picture.caption
