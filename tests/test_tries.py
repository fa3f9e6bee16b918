"""A setting tried out, and two trials compared: in Python as in a notebook, and as commands."""

import pytest
from click.testing import CliRunner

from refit import paths
from refit.cli import main
from refit.errors import DeclarationError
from refit.run_directory.directory import RESULT
from refit.study import Study


def refit(*arguments):
    return CliRunner().invoke(main, arguments)


pytestmark = pytest.mark.usefixtures("runs_apart")


@pytest.fixture(scope="module")
def study():
    return Study.open("fmnist_zoo")


def results(folder):
    return sorted(folder.rglob(RESULT))


def test_variant_stands_beside_the_original_and_results_are_left_alone(study):
    before = results(study.runs)
    tried = study.try_out("lenet1", epochs=2, learning_rate=0.01)
    assert results(study.runs) == before
    table = tried.settings.set_index("setting")
    assert table.loc["epochs"].tolist() == [study.trial("lenet1").epochs, 2]
    assert table.loc["optimizer.learning_rate", "lenet1-changed"] == 0.01
    assert len(table) == 2, "nothing else differs"
    assert tried.metrics.set_index("metric").loc["epochs"].tolist() == [3.0, 2.0]
    assert tried.curves.columns.tolist() == ["epoch", "lenet1", "lenet1-changed"]
    assert tried.curves["lenet1-changed"].count() == 2
    html = tried._repr_html_()
    assert "data:image/png" in html
    assert "optimizer.learning_rate" in html
    assert tried.file.is_file()
    assert paths.runs() / "tries" in tried.file.parents

    told = refit("try", "fmnist_zoo", "lenet1", "epochs=2", "learning_rate=0.01")
    assert told.exit_code == 0, told.output
    assert "optimizer.learning_rate" in told.output
    assert str(tried.file) in told.output


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"epochs": 0}, "epochs"),
        ({"epochs": "many"}, "epochs"),
        ({"optimizer": "lbfgs"}, "optimizer"),
        ({"fine_tuning.after": 2}, "has no setting of this name"),
    ],
)
def test_change_that_cannot_be_is_told_before_anything_is_trained(study, changes, said):
    with pytest.raises(DeclarationError, match=said):
        study.try_out("lenet1", **changes)
    words = [f"{name}={value}" for name, value in changes.items()]
    assert said in refit("try", "fmnist_zoo", "lenet1", *words).stderr


def test_change_without_a_value_is_told():
    assert "write it as name=value" in refit("try", "fmnist_zoo", "lenet1", "epochs").stderr


def test_two_trials_side_by_side(study, tmp_path):
    missing = refit("diff", "fmnist_zoo", "lenet3", "lenet4")
    assert missing.exit_code == 1
    assert "no result of lenet3, lenet4" in missing.stderr
    from refit.running import runner

    trials = [study.trial(name) for name in ("lenet3", "lenet4")]
    runner.check(runner.run(trials, study.runs, describe=False))
    page = tmp_path / "two.html"
    told = refit("diff", "fmnist_zoo", "lenet3", "lenet4", "--page", str(page))
    assert told.exit_code == 0, told.output
    assert page.as_uri() in told.output
    html = page.read_text(encoding="utf-8")
    titles = [study.titles[name] for name in ("lenet3", "lenet4")]
    assert f"<h1>{' against '.join(titles)}</h1>" in html
    assert "data:image/png" in html
    assert ">val_accuracy<" in html or ">validation accuracy<" in html
    settings, metrics, curves = told.output.split("\n\n")[:3]
    assert "model.options" in settings or "optimizer" in settings
    assert "val_accuracy" in metrics
    assert curves.splitlines()[1].split() == ["epoch", "lenet3", "lenet4"]
