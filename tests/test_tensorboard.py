"""TensorBoard's own reader shows of every experiment all columns, with the seeds of a trial as one.

Nothing is trained: each trial leaves the events with which a training begins and ends.
"""

import pytest
from click.testing import CliRunner
from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins import base_plugin
from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups

from refit.cli import main
from refit.experiments import expand, factories
from refit.run_directory import directory, events
from refit.running import runner

SEEDS = 2
METRIC = "test_accuracy"


def table(folder, groups):
    """Names of the columns in order, and the groups of trainings, as TensorBoard reads them."""
    multiplexer = plugin_event_multiplexer.EventMultiplexer()
    multiplexer.AddRunsFromDirectory(str(folder))
    multiplexer.Reload()
    provider = data_provider.MultiplexerDataProvider(multiplexer, str(folder))
    context = backend_context.Context(base_plugin.TBContext(data_provider=provider))
    metadata = context.hparams_metadata(RequestContext(), "experiment")
    found = context.experiment_from_metadata(RequestContext(), "experiment", True, metadata, [])
    names = [info.name for info in found.hparam_infos]
    shown = [api_pb2.ColParams(hparam=name, include_in_result=True) for name in names]
    shown += [
        api_pb2.ColParams(metric=info.name, include_in_result=True) for info in found.metric_infos
    ]
    request = api_pb2.ListSessionGroupsRequest(
        start_index=0, slice_size=groups + 1, col_params=shown, include_metrics=True,
        allowed_statuses=[api_pb2.STATUS_SUCCESS], aggregation_type=api_pb2.AGGREGATION_AVG,
    )  # fmt: skip
    handler = list_session_groups.Handler(RequestContext(), context, "experiment", request)
    return names, handler.run().session_groups


@pytest.mark.parametrize("name", expand.names())
def test_every_experiment_is_a_table_of_its_settings(name, tmp_path):
    trials = expand.expand(expand.load(name), "smoke", SEEDS)
    runner.describe_to_tensorboard(trials, tmp_path)
    for number, trial in enumerate(trials):
        log = events.EventWriter(tmp_path / trial.directory)
        log.summary(events.hparams_session(factories.columns(trial), factories.group(trial)))
        log.scalars({METRIC: float(number)}, 1)
        log.summary(events.hparams_session_end())
        log.close()
    first = {factories.group(trial): trial for trial in reversed(trials)}
    names, groups = table(tmp_path, len(first))
    assert sorted(group.name for group in groups) == sorted(first)
    assert {"model", "optimizer", "optimizer.learning_rate", "batch_size", "epochs"} <= set(names)
    values = {column: set() for column in names}
    for group in groups:
        trial = first[group.name]
        seeds = [n for n, each in enumerate(trials) if factories.group(each) == group.name]
        means = {value.name.tag: value.value for value in group.metric_values}
        assert means[METRIC] == pytest.approx(sum(seeds) / len(seeds)), "seeds are one row"
        assert group.hparams["model"].string_value == trial.model.name
        options = {f"model.{option}" for option in factories.defaults(trial.model.name)}
        assert options <= set(group.hparams), "an option that is not set has its default"
        for column, value in group.hparams.items():
            values[column].add(str(value))
    varies = [len(values[column]) > 1 for column in names]
    assert varies == sorted(varies, reverse=True), "what is the same for all stands last"


def test_real_training_is_in_the_table(make_tiny, tmp_path):
    trials = [make_tiny(name="one"), make_tiny(name="two", batch_size=16)]
    runner.check(runner.run(trials, tmp_path, 2))
    _, groups = table(tmp_path, 2)
    shown = {group.hparams["trial"].string_value: group for group in groups}
    for trial in trials:
        metrics = directory.result_of(trial, tmp_path)["metrics"]
        found = {value.name.tag: value.value for value in shown[trial.name].metric_values}
        assert found[METRIC] == pytest.approx(metrics["test_accuracy"])
        assert shown[trial.name].hparams["batch_size"].number_value == trial.batch_size


def test_without_an_experiment_it_says_which_to_choose(tmp_path, monkeypatch):
    monkeypatch.setenv("REFIT_RUNS", str(tmp_path))
    (tmp_path / "smoke" / "transfer").mkdir(parents=True)
    told = CliRunner().invoke(main, ["tensorboard"])
    assert told.exit_code == 1
    assert "choose one" in told.stderr
    assert "Trained there: transfer" in told.stderr
