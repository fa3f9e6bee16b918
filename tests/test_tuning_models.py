"""The tuning report's network is the published one, and the bases for transfer are Keras's own."""

import keras
import pytest

from refit.errors import DeclarationError
from refit.experiments import expand
from refit.experiments.trial import Optimizer
from refit.models import networks
from refit.models.layers import layer_table, multiplications, parameter_counts
from refit.models.transfer import BASE
from refit.training import optimizers

# Kind, output shape and parameters of all 23 layers, as the report prints them.
HANDWRITTEN = """
    Conv2D 28x28x32 832, BatchNormalization 28x28x32 128, Activation 28x28x32 0,
    Conv2D 28x28x32 25632, BatchNormalization 28x28x32 128, Activation 28x28x32 0,
    MaxPooling2D 14x14x32 0, Dropout 14x14x32 0,
    Conv2D 14x14x64 18496, BatchNormalization 14x14x64 256, Activation 14x14x64 0,
    Conv2D 14x14x64 36928, BatchNormalization 14x14x64 256, Activation 14x14x64 0,
    MaxPooling2D 7x7x64 0, Dropout 7x7x64 0,
    Flatten 3136 0, Dense 1024 3212288, BatchNormalization 1024 4096,
    Dense 512 524800, BatchNormalization 512 2048, Dropout 512 0, Dense 10 5130"""


def handwritten(**options):
    return networks.build("handwritten", (28, 28, 1), 10, **options)


def test_handwritten_network_is_the_published_one_layer_by_layer():
    model = handwritten()
    found = [
        f"{row['type']} {'x'.join(map(str, row['output_shape']))} {row['parameters']}"
        for row in layer_table(model)
    ]
    assert found == [part.strip() for part in HANDWRITTEN.split(",")]
    assert parameter_counts(model) == {
        "total_params": 3_831_018, "trainable_params": 3_827_562, "non_trainable_params": 3_456,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("filters", "total", "trainable"),
    [
        ((32, 64, 64, 64), 3_875_210, 3_871_690),
        ((16, 16, 16, 16), 1_351_642, None),
        ((64, 64, 64, 64), 3_927_370, None),
    ],
)
def test_filters_give_the_computed_numbers_of_parameters(filters, total, trainable):
    options = {f"filters{number}": count for number, count in enumerate(filters, start=1)}
    counts = parameter_counts(handwritten(**options))
    assert counts["total_params"] == total
    assert trainable in (None, counts["trainable_params"])


def test_activations_go_to_their_layers_and_dense_layers_keep_relu():
    model = handwritten(activation1="selu", activation2="elu", activation4="selu")
    found = [
        layer.activation.__name__
        for layer in model.layers
        if isinstance(layer, keras.layers.Activation | keras.layers.Dense)
    ]
    assert found == ["selu", "elu", "relu", "selu", "relu", "relu", "softmax"]


def test_only_the_first_layer_starts_from_he_uniform():
    started = {
        layer.name: type(layer.kernel_initializer).__name__
        for layer in handwritten().layers
        if hasattr(layer, "kernel_initializer")
    }
    assert started.pop("block1_conv1") == "HeUniform"
    assert set(started.values()) == {"GlorotUniform"}


@pytest.mark.parametrize(
    ("name", "base", "layers", "features"),
    [
        ("mobilenet_v2", (2_257_984, 2_223_872, 34_112), 154, 1280),
        ("inception_v3", (21_802_784, 21_768_352, 34_432), 311, 2048),
    ],
)
def test_bases_are_those_of_keras_under_a_new_head(name, base, layers, features):
    model = networks.build(name, (96, 96, 3), 3)
    inner = model.get_layer(BASE)
    assert tuple(parameter_counts(inner).values()) == base
    assert (len(inner.layers), inner.output_shape[-1]) == (layers, features)
    assert [row["type"] for row in layer_table(model)] == [
        "RandomFlip", "RandomRotation", "Rescaling", "Functional", "GlobalAveragePooling2D",
        "Dropout", "Dense",
    ]  # fmt: skip
    assert model.get_layer("dropout").rate == 0.4
    assert model.count_params() == base[0] + features * 3 + 3
    assert multiplications(model) > features * 3 * 1000  # those of the base count too


def test_images_too_small_for_a_base_are_explained():
    with pytest.raises(DeclarationError, match=r"'inception_v3' .* cannot be built"):
        networks.build("inception_v3", (32, 32, 3), 2)


def test_eight_optimizers_have_the_defaults_of_their_time():
    trials = {
        trial.name: trial
        for trial in expand.expand(expand.load("fmnist_tuning"), "smoke")
        if trial.sweep == "optimizers"
    }
    assert set(trials) == {"nadam", "adam", "sgd"}
    for name, rate, kind in [
        ("adadelta", 0.001, "Adadelta"),
        ("adagrad", 0.001, "Adagrad"),
        ("adamax", 0.001, "Adamax"),
        ("ftrl", 0.001, "Ftrl"),
        ("nadam", 0.001, "Nadam"),
        ("rmsprop", 0.001, "RMSprop"),
        ("adam", 0.001, "Adam"),
        ("sgd", 0.01, "SGD"),
    ]:
        built = optimizers.build(Optimizer(name=name, learning_rate=rate))
        assert type(built).__name__ == kind
        assert float(built.learning_rate) == pytest.approx(rate)
        if name in trials:
            assert trials[name].optimizer.learning_rate == rate
