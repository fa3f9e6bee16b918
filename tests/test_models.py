"""The networks are the published ones: counted layer by layer, and wired as printed."""

import functools
import json

import keras
import numpy as np
import pytest

from refit.errors import DeclarationError
from refit.experiments import factories
from refit.models import networks, torch_layers
from refit.models.layers import layer_table, parameter_counts

CLASSES = 5
SIDES = {"vgg": 48, "alexnet": 48}  # the others take 28x28

# Output shape and parameters of every layer with weights and every pooling, as the report prints
# them, with its misprints mended: 883072, 28485 and 2359888 stand for 803072, 20485 and 2359808.
CNN = """
    28x28x32 832, 28x28x32 25632, 14x14x32 0,
    14x14x64 18496, 14x14x64 36928, 7x7x64 0, 256 803072, 5 1285"""
CNN_NORMALIZED = """
    28x28x32 832, 28x28x32 128, 28x28x32 25632, 28x28x32 128, 14x14x32 0,
    14x14x64 18496, 14x14x64 256, 14x14x64 36928, 7x7x64 0, 7x7x64 256, 256 803072, 5 1285"""
VGG = """
    48x48x64 640, 48x48x64 36928, 24x24x64 0,
    24x24x128 73856, 24x24x128 147584, 12x12x128 0,
    12x12x256 295168, 12x12x256 590080, 12x12x256 590080, 6x6x256 0,
    6x6x512 1180160, 6x6x512 2359808, 6x6x512 2359808, 3x3x512 0,
    3x3x512 2359808, 3x3x512 2359808, 3x3x512 2359808, 1x1x512 0,
    4096 2101248, 4096 16781312, 5 20485"""
ALEXNET = """
    38x38x96 11712, 18x18x96 0, 18x18x256 614656, 8x8x256 0,
    8x8x384 885120, 8x8x384 1327488, 8x8x256 884992, 3x3x256 0,
    4096 9441280, 4096 16781312, 5 20485"""
LENET = """
    28x28x6 156, 27x27x6 0, 23x23x16 2416, 11x11x16 0, 120 232440, 84 10164, 5 425"""
LENET_WIDE = """
    28x28x32 832, 14x14x32 0, 10x10x48 38448, 5x5x48 0, 256 307456, 84 21588, 5 425"""
RESNET = """
    14x14x64 3200, 14x14x64 256,
    14x14x64 36928, 14x14x64 256, 14x14x64 36928, 14x14x64 256,
    14x14x64 36928, 14x14x64 256, 14x14x64 36928, 14x14x64 256,
    7x7x128 73856, 7x7x128 512, 7x7x128 147584, 7x7x128 8320, 7x7x128 512,
    7x7x128 147584, 7x7x128 512, 7x7x128 147584, 7x7x128 512,
    4x4x256 295168, 4x4x256 1024, 4x4x256 590080, 4x4x256 33024, 4x4x256 1024,
    4x4x256 590080, 4x4x256 1024, 4x4x256 590080, 4x4x256 1024,
    2x2x512 1180160, 2x2x512 2048, 2x2x512 2359808, 2x2x512 131584, 2x2x512 2048,
    2x2x512 2359808, 2x2x512 2048, 2x2x512 2359808, 2x2x512 2048,
    1x1x512 0, 5 2565"""
RESNET_POOLED = """
    14x14x64 3200, 14x14x64 256, 7x7x64 0,
    7x7x64 36928, 7x7x64 256, 7x7x64 36928, 7x7x64 256,
    7x7x64 36928, 7x7x64 256, 7x7x64 36928, 7x7x64 256,
    4x4x128 73856, 4x4x128 512, 4x4x128 147584, 4x4x128 8320, 4x4x128 512,
    4x4x128 147584, 4x4x128 512, 4x4x128 147584, 4x4x128 512,
    2x2x256 295168, 2x2x256 1024, 2x2x256 590080, 2x2x256 33024, 2x2x256 1024,
    2x2x256 590080, 2x2x256 1024, 2x2x256 590080, 2x2x256 1024,
    1x1x256 0, 5 1285"""
CONV_PAIR = """
    26x26x16 160, 24x24x16 2320, 100 921700, 5 505"""
MLP = "256 200960, 256 65792, 256 65792, 5 1285"
CIFAR_CNN = """
    30x30x256 6656, 15x15x256 0, 17x17x256 1638656, 8x8x256 0, 10x10x256 1638656, 5x5x256 0,
    7x7x256 1638656, 3x3x256 0, 5x5x256 1638656, 2x2x256 0, 128 131200, 64 8256, 5 325"""

# name, options, total parameters, trainable parameters, rows
FACTORIES = [
    ("cnn", {}, 886_245, 886_245, CNN),
    ("cnn", {"last_dropout": 0.5}, 886_245, 886_245, CNN),
    ("cnn", {"leaky_relu": "after_relu"}, 886_245, 886_245, CNN),
    ("cnn", {"batch_normalization": True}, 887_013, 886_629, CNN_NORMALIZED),
    ("vgg", {}, 33_616_581, 33_616_581, VGG),
    ("alexnet", {}, 29_967_045, 29_967_045, ALEXNET),
    ("lenet", {}, 245_601, 245_601, LENET),
    ("lenet_wide", {}, 368_749, 368_749, LENET_WIDE),
    ("resnet", {}, 11_183_621, 11_175_813, RESNET),
    ("resnet", {"max_pool": True}, 2_782_981, 2_779_269, RESNET_POOLED),
    ("conv_pair", {}, 924_685, 924_685, CONV_PAIR),
    ("mlp", {}, 333_829, 333_829, MLP),
    ("cifar_cnn", {}, 6_701_061, 6_701_061, CIFAR_CNN),
]


@functools.cache
def _cached(name: str, options: tuple) -> keras.Model:
    side = SIDES.get(name, 28)
    return networks.build(name, (side, side, 1), CLASSES, **dict(options))


def built(name: str, **options) -> keras.Model:
    return _cached(name, tuple(sorted(options.items())))


def printed_rows(table: str) -> list[tuple[list[int], int]]:
    pairs = (row.split() for row in table.split(","))
    return [([int(side) for side in shape.split("x")], int(count)) for shape, count in pairs]


@pytest.mark.parametrize(("name", "options", "total", "trainable", "rows"), FACTORIES)
def test_factory_builds_the_published_network(name, options, total, trainable, rows):
    model = built(name, **options)
    assert parameter_counts(model) == {
        "total_params": total,
        "trainable_params": trainable,
        "non_trainable_params": total - trainable,
    }
    table = layer_table(model)
    shown = [row for row in table if row["parameters"] or "Pooling" in row["type"]]
    assert [(row["output_shape"], row["parameters"]) for row in shown] == printed_rows(rows)
    assert json.loads(json.dumps(table)) == table
    assert not model.compiled
    assert model.layers[-1].name == "predictions"
    assert model.layers[-1].activation is keras.activations.softmax


# Networks that take other images; they have tests of their own.
ELSEWHERE = {"handwritten", "mobilenet_v2", "inception_v3", "conv3d", "conv2d_rnn"}


def test_every_registered_name_is_in_the_factory_table():
    assert set(networks.ARCHITECTURES) == {name for name, *_ in FACTORIES} | ELSEWHERE


def source_layers(model: keras.Model, name: str) -> list[str]:
    inputs = model.get_layer(name).input
    tensors = inputs if isinstance(inputs, list) else [inputs]
    return [tensor._keras_history.operation.name for tensor in tensors]


def test_resnet_shortcuts_share_the_residual_branch_input():
    model = built("resnet")
    # The first shortcut skips the stem's activation, which no dropout follows.
    assert source_layers(model, "block1_unit1_conv1") == ["stem_relu"]
    assert source_layers(model, "block1_unit1_add") == ["stem_relu", "block1_unit1_normalization2"]
    for block in (1, 2, 3, 4):
        dropout = f"block{block}_unit1_dropout2"
        normalization = f"block{block}_unit2_normalization2"
        assert source_layers(model, f"block{block}_unit2_conv1") == [dropout]
        assert source_layers(model, f"block{block}_unit2_add") == [dropout, normalization]
    for block in (2, 3, 4):
        shortcut, dropout = f"block{block}_shortcut", f"block{block - 1}_unit2_dropout2"
        normalization = f"block{block}_unit1_normalization2"
        assert source_layers(model, shortcut) == [dropout]
        assert source_layers(model, f"block{block}_unit1_conv1") == [dropout]
        # Straight into the addition: no batch normalization on the shortcut.
        assert source_layers(model, f"block{block}_unit1_add") == [shortcut, normalization]


def test_resnet_has_the_printed_number_of_each_layer():
    types = [row["type"] for row in layer_table(built("resnet"))]
    printed = {"Conv2D": 20, "BatchNormalization": 17, "Activation": 17, "Dropout": 16, "Add": 8}
    assert {kind: types.count(kind) for kind in printed} == printed


def test_resnet_penalizes_convolution_kernels_only():
    model = built("resnet", max_pool=True)
    kernels = [
        layer.kernel.numpy() for layer in model.layers if isinstance(layer, keras.layers.Conv2D)
    ]
    expected = 1e-4 * sum(float(np.square(kernel, dtype=np.float64).sum()) for kernel in kernels)
    assert sum(float(loss) for loss in model.losses) == pytest.approx(expected, rel=1e-4)


def test_batch_normalization_follows_activation_and_the_last_follows_dropout():
    model = built("cnn", batch_normalization=True)
    assert source_layers(model, "block1_normalization2") == ["block1_conv2"]
    assert model.get_layer("block1_conv2").activation is keras.activations.relu
    assert source_layers(model, "block2_pool") == ["block2_conv2"]
    assert source_layers(model, "block2_normalization2") == ["block2_dropout"]


def test_leaky_relu_after_relu_changes_nothing_and_instead_does():
    plain, after, instead = (
        built("cnn", leaky_relu=choice) for choice in (None, "after_relu", "instead")
    )
    for model in (after, instead):
        model.set_weights(plain.get_weights())
    images = np.random.default_rng(0).random((8, 28, 28, 1), dtype=np.float32)
    expected = plain.predict_on_batch(images)
    np.testing.assert_array_equal(after.predict_on_batch(images), expected)
    assert np.abs(instead.predict_on_batch(images) - expected).max() > 1e-4


def test_options_reach_the_layers():
    assert built("cnn", last_dropout=0.5).get_layer("dense1_dropout").rate == 0.5
    assert built("cnn", last_dropout=0.5).get_layer("block2_dropout").rate == 0.25
    assert built("lenet", activation="relu").layers[1].activation is keras.activations.relu
    small = built("cnn", kernel_sizes=(3, 3))
    assert small.get_layer("block1_conv1").kernel_size == (3, 3)
    assert factories.defaults("alexnet") == {"dropout": 0.5}


# --- the CIFAR-10 report's networks ----------------------------------------------------------

COLOUR = (32, 32, 3)
NORMALIZED = {"batch_normalization": True}


@functools.cache
def on_cifar10(name: str, normalized: bool = False) -> keras.Model:
    """The report's perceptron, or its CNN with an eighth of the filters, which it keeps small."""
    keras.utils.set_random_seed(1)
    options = NORMALIZED if normalized else {}
    options = options | ({"filters": 32} if name == "cifar_cnn" else {})
    return networks.build(name, COLOUR, 10, **options)


@pytest.mark.parametrize(
    ("name", "options", "trainable", "fixed"),
    [
        ("mlp", {}, 920_842, 0),
        # Scale and shift are trained, mean and variance are not: 3 x 256 units.
        ("mlp", NORMALIZED, 922_378, 1_536),
        ("cifar_cnn", {}, 6_714_186, 0),
        # 5 x 256 maps and 128 + 64 units.
        ("cifar_cnn", NORMALIZED, 6_717_130, 2_944),
    ],
)
def test_networks_on_cifar10_have_the_published_parameters(name, options, trainable, fixed):
    counts = parameter_counts(networks.build(name, COLOUR, 10, **options))
    assert (counts["trainable_params"], counts["non_trainable_params"]) == (trainable, fixed)


@pytest.mark.parametrize(
    ("options", "sides"),
    [
        ({"convolutions": 5}, [17, 9, 5, 3, 2]),
        ({"convolutions": 3}, [17, 9, 5]),
        ({"convolutions": 2}, [14, 5]),
    ],
)
def test_maps_of_the_cifar_cnn_grow_before_they_are_pooled(options, sides):
    model = networks.build("cifar_cnn", COLOUR, 10, filters=4, **options)
    pooled = [row for row in layer_table(model) if row["type"] == "MaxPooling2D"]
    assert [row["output_shape"] for row in pooled] == [[side, side, 4] for side in sides]
    assert model.get_layer("dense1").kernel.shape[0] == sides[-1] ** 2 * 4


@pytest.mark.parametrize("name", ["mlp", "cifar_cnn"])
@pytest.mark.parametrize("normalized", [False, True])
def test_weights_and_biases_start_as_pytorch_draws_them(name, normalized):
    """Uniform between ± 1 / sqrt(fan-in), of which the variance is a third of its square."""
    layers = [one for one in on_cifar10(name, normalized).layers if hasattr(one, "kernel")]
    assert len(layers) == {"mlp": 4, "cifar_cnn": 8}[name]
    for layer in layers:
        kernel, bias = layer.get_weights()
        bound = 1 / np.sqrt(np.prod(kernel.shape[:-1]))
        for values in (kernel, bias):
            # All of n numbers below 1 - 8 / n of the bound would be an accident of one in 3,000.
            assert 1 - 8 / values.size < np.abs(values).max() / bound <= 1 + 1e-6
        assert kernel.std() == pytest.approx(bound / np.sqrt(3), rel=0.1)


@pytest.mark.parametrize("name", ["mlp", "cifar_cnn"])
def test_normalization_has_pytorchs_constants_and_stands_before_relu(name):
    model = on_cifar10(name, normalized=True)
    found = [one for one in model.layers if isinstance(one, keras.layers.BatchNormalization)]
    assert len(found) == {"mlp": 3, "cifar_cnn": 7}[name]
    for layer in found:
        assert (layer.momentum, layer.epsilon) == (0.9, 1e-5)
        address = layer.name.removesuffix("_normalization")
        assert source_layers(model, layer.name) == [address]
        assert source_layers(model, f"{address}_relu") == [layer.name]
    assert not [one for one in on_cifar10(name).layers if "normalization" in one.name]


def test_normalization_averages_a_tenth_of_every_batch():
    layer = torch_layers.torch_normalization()
    images = np.random.default_rng(0).normal(3, 2, (64, 1)).astype(np.float32)
    shown = np.asarray(layer(images, training=True))
    np.testing.assert_allclose(
        shown, (images - images.mean()) / np.sqrt(images.var() + 1e-5), atol=1e-5
    )
    assert float(layer.moving_mean[0]) == pytest.approx(0.1 * images.mean(), rel=1e-5)
    assert float(layer.moving_variance[0]) == pytest.approx(0.9 + 0.1 * images.var(), rel=1e-5)


def test_pixels_are_stretched_to_both_sides_of_zero():
    for name in ("mlp", "cifar_cnn"):
        layer = on_cifar10(name).layers[1]
        stretched = layer(np.array([0.0, 0.5, 1.0], np.float32))
        assert np.asarray(stretched).tolist() == [-1.0, 0.0, 1.0]


def test_dropout_of_the_cifar_cnn_takes_whole_pooled_maps():
    model = networks.build("cifar_cnn", COLOUR, 10, convolutions=2, filters=32, dropout=0.5)
    for number in (1, 2):
        dropout = model.get_layer(f"pool{number}_dropout")
        assert source_layers(model, dropout.name) == [f"pool{number}"]
        assert dropout.rate == 0.5
        shape = (2, *dropout.output.shape[1:])
        maps = np.asarray(dropout(np.ones(shape, np.float32), training=True))
        sums = maps.sum(axis=(1, 2)) / np.prod(shape[1:3])
        assert set(sums.ravel()) == {0.0, 2.0}, "all of a map or nothing, the rest scaled up"
    for number in (1, 2):
        dropout = model.get_layer(f"dense{number}_dropout")
        assert source_layers(model, dropout.name) == [f"dense{number}_relu"]
        assert (type(dropout), dropout.rate) == (keras.layers.Dropout, 0.5)


def test_options_reach_the_layers_of_the_perceptron():
    model = networks.build("mlp", COLOUR, 10, hidden_layers=2, width=8, dropout=0.3)
    shown = [(row["output_shape"], row["parameters"]) for row in layer_table(model)]
    assert [pair for pair in shown if pair[1]] == [([8], 24_584), ([8], 72), ([10], 90)]
    rates = [one.rate for one in model.layers if isinstance(one, keras.layers.Dropout)]
    assert rates == [0.3, 0.3]


SMALL = {"filters1": 8, "filters2": 8}
LARGE = {"filters1": 64, "filters2": 64, "kernel1": 5, "kernel2": 5}


@pytest.mark.parametrize(
    ("options", "total"),
    [
        ({}, 925_190),
        ({"padding": "same"}, 1_257_990),
        (SMALL, 462_574),
        (SMALL | {"padding": "same"}, 628_974),
        (LARGE, 2_665_238),
        (LARGE | {"padding": "same"}, 5_122_838),
        # A convolution of 8 3x3 filters over 8 maps has 584 parameters, whatever the size.
        (SMALL | {"deeper_by": 3}, 462_574 + 3 * 584),
    ],
)
def test_conv_pair_has_as_many_parameters_as_the_grid_says(options, total):
    model = networks.build("conv_pair", (28, 28, 1), 10, **options)
    assert parameter_counts(model)["trainable_params"] == total == model.count_params()


@pytest.mark.parametrize(
    ("initializer", "limit"),
    [
        ("glorot_uniform", lambda fan_in, fan_out: np.sqrt(6 / (fan_in + fan_out))),
        ("he_uniform", lambda fan_in, fan_out: np.sqrt(6 / fan_in)),
        # Cut off at two standard deviations of a normal distribution that this makes 0.88 as wide.
        ("glorot_normal", lambda fan_in, fan_out: 2 * np.sqrt(2 / (fan_in + fan_out)) / 0.87962566),
    ],
)
def test_conv_pair_starts_with_the_declared_weights_and_no_biases(initializer, limit):
    keras.utils.set_random_seed(1)
    model = built("conv_pair", initializer=initializer)
    layers = [layer for layer in model.layers if layer.weights]
    assert [layer.name for layer in layers] == ["conv1", "conv2", "dense1", "predictions"]
    for layer in layers:
        kernel, bias = layer.get_weights()
        assert not bias.any()
        window = np.prod(kernel.shape[:-2])
        widest = limit(window * kernel.shape[-2], window * kernel.shape[-1])
        assert 0.9 * widest < np.abs(kernel).max() <= widest * (1 + 1e-6)
        assert np.abs(kernel.mean()) < 0.15 * widest


def test_conv_pair_grows_deeper_without_shrinking_its_maps():
    options = {"filters1": 4, "filters2": 6, "kernel2": 5}
    plain, deeper = (built("conv_pair", **options, deeper_by=depth) for depth in (0, 3))
    names = [layer.name for layer in deeper.layers if "conv" in layer.name]
    assert names == [f"conv{number}" for number in range(1, 6)]
    assert {deeper.get_layer(name).output.shape for name in names[1:]} == {
        plain.get_layer("conv2").output.shape
    }
    assert [deeper.get_layer(name).kernel_size for name in names] == [(3, 3), (5, 5)] + [(3, 3)] * 3
    assert all(deeper.get_layer(name).activation is keras.activations.relu for name in names)
    assert deeper.get_layer("dense1").kernel.shape == plain.get_layer("dense1").kernel.shape


@pytest.mark.parametrize(
    ("name", "side", "options", "sentence"),
    [
        ("vgg19", 48, {}, r"model 'vgg19' .* cannot be built"),
        ("alexnet", 48, {"rate": 0.1}, r"cannot be built: .*'rate'"),
        ("cnn", 28, {"leaky_relu": "before"}, r"'after_relu' or 'instead', not 'before'"),
        ("cnn", 28, {"kernel_sizes": 3}, r"kernel_sizes is a list of 2 sizes, not 3"),
        ("alexnet", 48, {"dropout": 2}, r"between 0 and 1"),
        ("conv_pair", 28, {"padding": "sam"}, r"'conv_pair' .* cannot be built: .*padding"),
        ("conv_pair", 28, {"initializer": "kaiming"}, r"cannot be built: .*kaiming"),
        ("mlp", 32, {"width": -1}, r"'mlp' .* cannot be built"),
        ("mlp", 32, {"dropout": 2}, r"'mlp' .* cannot be built: .*rate"),
        ("cifar_cnn", 8, {"convolutions": 2}, r"'cifar_cnn' .* cannot be built: .*output size"),
        # Nothing is left after the last pooling, which the fan-in divides by.
        ("cifar_cnn", 14, {"convolutions": 2}, "larger images"),
        ("mlp", 32, {"width": 0}, "cannot be built"),
        ("mlp", 32, {"hidden_layers": -1}, "cannot be built"),
        ("resnet", 8, {}, r"nothing is left after 'pool'; larger images are needed"),
    ],
)
def test_what_cannot_be_built_is_refused(name, side, options, sentence):
    with pytest.raises(DeclarationError, match=sentence):
        networks.build(name, (side, side, 1), CLASSES, **options)
