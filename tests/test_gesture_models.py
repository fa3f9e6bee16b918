"""The gesture report's two networks have as many layers as it says, and read clips."""

import keras
import numpy as np
import pytest

from refit.errors import DeclarationError
from refit.models import networks
from refit.models.layers import multiplications, parameter_counts

CLIP = (10, 32, 32, 3)


def layers(model: keras.Model) -> list[keras.layers.Layer]:
    return [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]


@pytest.mark.parametrize(
    ("name", "count", "total"), [("conv3d", 21, 140_645), ("conv2d_rnn", 4, 233_637)]
)
def test_networks_have_the_published_number_of_layers(name, count, total):
    model = networks.build(name, CLIP, 5)
    assert len(layers(model)) == count
    assert model.output_shape == (None, 5)
    assert model.layers[-1].name == "predictions"
    assert parameter_counts(model)["total_params"] == total


def test_weight_penalty_is_on_every_kernel_of_conv3d():
    model = networks.build("conv3d", CLIP, 5)
    kernels = [layer.kernel for layer in layers(model) if hasattr(layer, "kernel")]
    assert len(kernels) == 6
    expected = 0.01 * sum(float(np.square(kernel, dtype=np.float64).sum()) for kernel in kernels)
    assert sum(float(loss) for loss in model.losses) == pytest.approx(expected, rel=1e-4)


def test_multiplications_count_every_frame_and_the_recurrent_weights():
    model = networks.build("conv2d_rnn", CLIP, 5, filters=(4,), units=6)
    convolution = 32 * 32 * 3 * 3 * 3 * 4
    recurrent = 3 * 6 * (16 * 16 * 4 + 6)
    biases = 2 * 3 * 6  # GRU keeps its two rows of biases as one matrix
    assert multiplications(model) == 10 * (convolution + recurrent + biases) + 6 * 5
    model = networks.build("conv3d", CLIP, 5, filters=(4,), units=6)
    assert multiplications(model) == 10 * 32 * 32 * 27 * 3 * 4 + 10 * 16 * 16 * 4 * 6 + 6 * 5


def test_order_of_the_frames_matters_to_both():
    clip = np.random.default_rng(0).random((1, *CLIP), dtype=np.float32)
    for name in ("conv3d", "conv2d_rnn"):
        model = networks.build(name, CLIP, 5)
        forward, backward = (model(frames, training=False) for frames in (clip, clip[:, ::-1]))
        assert not np.allclose(forward, backward, atol=1e-6)


def test_single_images_are_refused():
    with pytest.raises(DeclarationError, match=r"'conv3d' .* cannot be built"):
        networks.build("conv3d", CLIP[1:], 5)
