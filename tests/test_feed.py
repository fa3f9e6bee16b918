"""Batches from memory and from disk: the same values in the same order, and never much at once."""

import threading
import time

import numpy as np
import psutil
import pytest
import tensorflow as tf

from refit.data.arrays import Part
from refit.training import feed

IMAGES, CLIPS = (11, 6, 5, 3), (11, 4, 6, 5, 3)


def make_part(shape: tuple[int, ...]) -> Part:
    generator = np.random.default_rng(0)
    return Part(
        images=generator.integers(0, 256, shape, np.uint8),
        labels=generator.integers(0, 5, shape[0]).astype(np.int32),
        ids=np.arange(shape[0]),
    )


def mapped(folder, part: Part) -> Part:
    """The same part, its images in a file."""
    np.save(folder / "images.npy", part.images)
    return Part(np.load(folder / "images.npy", mmap_mode="r"), part.labels, part.ids)


def collect(batches: tf.data.Dataset) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(images.numpy(), labels.numpy()) for images, labels in batches]


def check(found: list, part: Part, order: np.ndarray, batch_size: int) -> None:
    starts = range(0, len(part), batch_size)
    assert len(found) == len(starts)
    for start, (images, labels) in zip(starts, found, strict=True):
        chosen = order[start : start + batch_size]
        assert (images.dtype, labels.dtype) == (np.float32, np.int32)
        np.testing.assert_array_equal(images, part.images[chosen].astype(np.float32) / 255)
        np.testing.assert_array_equal(labels, part.labels[chosen])


@pytest.mark.parametrize("shape", [IMAGES, CLIPS], ids=["images", "clips"])
@pytest.mark.parametrize("most", [2**30, 0], ids=["usual limit", "nothing in memory"])
def test_batches_come_in_the_order_of_the_part_or_in_the_one_given(
    tmp_path, monkeypatch, shape, most
):
    monkeypatch.setattr(feed, "MOST_IN_MEMORY", most)
    part = mapped(tmp_path, make_part(shape))
    in_order = feed.batches(part, 4)
    assert in_order.cardinality() == 3
    assert in_order.element_spec[0].shape.as_list() == [None, *shape[1:]]
    check(collect(in_order), part, np.arange(len(part)), 4)
    order = tf.Variable(np.arange(len(part), dtype=np.int32))
    ordered = feed.batches(part, 4, order)
    for seed in range(2):
        drawn = np.random.default_rng(seed).permutation(len(part)).astype(np.int32)
        order.assign(drawn)
        check(collect(ordered), part, drawn, 4)


def test_both_ways_give_the_same_bits(tmp_path, monkeypatch):
    part = mapped(tmp_path, make_part(IMAGES))
    order = tf.Variable(np.random.default_rng(1).permutation(len(part)).astype(np.int32))
    for given in (None, order):
        held = collect(feed.batches(part, 3, given))
        with monkeypatch.context() as patch:
            patch.setattr(feed, "MOST_IN_MEMORY", part.images.nbytes - 1)
            streamed = collect(feed.batches(part, 3, given))
        for one, other in zip(held, streamed, strict=True):
            assert [array.tobytes() for array in one] == [array.tobytes() for array in other]


class Watched:
    """Clips that note how many of them were asked for, and when."""

    def __init__(self, images: np.ndarray) -> None:
        self.images, self.shape, self.ndim = images, images.shape, images.ndim
        self.asked: list[int] = []
        self.more = threading.Event()

    def __getitem__(self, chosen: np.ndarray) -> np.ndarray:
        self.asked.append(len(chosen))
        if len(self.asked) == 3:
            self.more.set()
        return self.images[chosen]


def test_two_batches_are_read_ahead_and_no_more():
    part = make_part((40, *CLIPS[1:]))
    watched = Watched(part.images)
    rows = iter(feed.batches(Part(watched, part.labels, part.ids), 2))
    next(rows)
    assert watched.more.wait(10), "nothing is read ahead"
    time.sleep(0.2)  # what reads too far ahead has the time to show it
    assert watched.asked in ([2] * 3, [2] * 4), "the batch in use, two ahead, perhaps one in hand"


def test_images_that_are_too_many_stay_on_disk(tmp_path):
    side = 2**9
    shape = (2**30 // (side * side) + 1, side, side, 1)
    # A file with holes: it takes no space on the disk, yet has the size that a map shows.
    images = np.lib.format.open_memmap(tmp_path / "images.npy", "w+", np.uint8, shape)
    part = Part(images, np.zeros(shape[0], np.int32), np.arange(shape[0]))
    before = psutil.Process().memory_info().rss
    taken = collect(feed.batches(part, 2).take(3))
    assert [len(labels) for _, labels in taken] == [2, 2, 2]
    assert psutil.Process().memory_info().rss - before < 2**28
