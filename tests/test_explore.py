"""Figures to explore: drawn and linked by a browser, pictures without one, harmless names."""

import itertools
import json
import os
import re
import shutil
import subprocess

import nbformat
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from bs4 import BeautifulSoup
from PIL import Image

from refit.errors import ReportError
from refit.figures import explore
from refit.figures.old_picture import Picture
from refit.pages.report import render

HOSTILE = """</script><img src=x onerror="document.title='run'">'<b>&amp;"""
AXES = {"batch_size": "batch size", "activation": "<i>activation</i>"}
LABELS = {"seconds": "training time (s)", "val_accuracy": "validation accuracy"}
METRICS = {"val_loss": "loss", "val_accuracy": "accuracy"}
# What pages had before there was anything to explore in them.
POLICY = r"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-[^' ]+'"
BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
needs_browser = pytest.mark.skipif(not BROWSER, reason="neither Chromium nor Chrome is installed")

# Done by a script in a test's page: what a reader does with the mouse, and what lights up.
DRIVE = """
addEventListener("load", async () => {
  const seen = {};
  const wait = () => new Promise((done) => setTimeout(done, 200));
  while (document.querySelectorAll(".explorable.drawn").length < 2) await wait();
  const [scatter, parallel] = document.querySelectorAll(".js-plotly-plot");
  const note = async (name) => {
    await wait();
    const lit = ({ ids, selectedpoints }) => selectedpoints?.map((place) => ids[place]) ?? null;
    seen[name] = scatter.data.map(lit);
  };
  scatter.emit("plotly_selected", { points: [{ curveNumber: 0, pointNumber: 1 }] });
  await note("selected");
  await Plotly.restyle(parallel, { "dimensions[0].constraintrange": [[0.9, 1.1]] });
  await note("brushed");
  await Plotly.restyle(parallel, { "dimensions[1].constraintrange": [[[-0.1, 0.1], [0.9, 1.1]]] });
  await note("brushed twice");
  parallel.dispatchEvent(new MouseEvent("dblclick"));
  await note("cleared");
  seen.constraints = parallel.data[0].dimensions.filter((axis) => axis.constraintrange).length;
  scatter.emit("plotly_selected", { points: [{ curveNumber: 0, pointNumber: 1 }] });
  await wait();
  scatter.emit("plotly_deselect");
  await note("deselected");
  Plotly.Fx.hover(scatter, [{ curveNumber: 0, pointNumber: 0 }]);
  await wait();
  seen.hover = scatter.querySelector(".hoverlayer").textContent;
  document.body.dataset.seen = JSON.stringify(seen);
});
"""


def trials():
    """Six trials, the first and one of the activations with a hostile name."""
    pairs = itertools.product([256.0, 16.0, 64.0], ["relu", HOSTILE])
    frame = pd.DataFrame(pairs, columns=["batch_size", "activation"])
    return frame.assign(
        trial=[HOSTILE, *(f"cnn{number}" for number in range(2, 7))],
        seconds=np.linspace(10.5, 60, 6),
        val_accuracy=np.linspace(0.8, 0.9, 6),
        val_loss=np.linspace(0.5, 0.3, 6),
    )


def static():
    return Picture(3, 1, f"accuracy of {HOSTILE}")


def scatter(folder, results=None, **changes):
    given = {"x": "seconds", "y": "val_accuracy", "axes": AXES, "labels": LABELS, "group": "grid"}
    results = trials() if results is None else results
    return explore.scatter(results, **given | changes, static=static(), folder=folder).data


def parallel(folder, results=None, **changes):
    given = {"axes": AXES, "metrics": METRICS, "group": "grid"}
    results = trials() if results is None else results
    return explore.parallel(results, **given | changes, static=static(), folder=folder).data


def content(text):
    """The plotly figure in some HTML, which plotly itself takes for a valid one."""
    return go.Figure(json.loads(BeautifulSoup(text, "html.parser").find("script").string))


def make_page(folder, *outputs):
    """Render a notebook with these HTML outputs as folder/page.html."""
    cells = [nbformat.v4.new_markdown_cell("# A grid\n\n## Explore")]
    for output in outputs:
        shown = nbformat.v4.new_output("display_data", {"text/html": output})
        cells.append(nbformat.v4.new_code_cell("explore.scatter(...)", outputs=[shown]))
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / "executed.ipynb")
    render(folder / "executed.ipynb", folder / "page.html", "A grid")
    return folder / "page.html"


def browse(page, profile):
    """What a browser makes of a page: its final HTML, and the console's lines."""
    flags = "--headless --no-sandbox --use-angle=swiftshader --enable-unsafe-swiftshader"
    flags += " --no-first-run --enable-logging=stderr --v=0 --virtual-time-budget=20000 --dump-dom"
    done = subprocess.run(
        [BROWSER, *flags.split(), f"--user-data-dir={profile}", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=180,
        check=True,
    )
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    # Drivers remark on their speed there.
    return BeautifulSoup(done.stdout, "html.parser"), [
        line for line in console if "GL Driver Message" not in line
    ]


def texts(shown, pattern):
    """The texts that plotly has written in elements of such a class."""
    return [text.text for text in shown.find_all("text", class_=re.compile(f"^{pattern}$"))]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    return make_page(folder, scatter(folder / "figures"), parallel(folder / "figures"))


@pytest.fixture(scope="module")
def browsed(page, tmp_path_factory):
    return browse(page, tmp_path_factory.mktemp("profile"))


@needs_browser
def test_browser_draws_both_figures_over_their_pictures_without_a_complaint(browsed):
    shown, console = browsed
    assert console == []
    figures = shown.select("figure.explorable")
    assert ["drawn" in figure["class"] for figure in figures] == [True, True]
    assert [len(figure.select(".js-plotly-plot")) for figure in figures] == [1, 1]
    assert [bool(figure.figcaption.text) for figure in figures] == [True, True]
    assert len(figures[0].select(".points path")) == 12
    # Without WebGL or the right to compile its programs the axes would have no ticks.
    ticks = [tick.text for tick in figures[1].select(".axis .tick text")]
    assert ticks[:3] == ["16", "64", "256"]
    style = shown.style.string
    assert "@media screen { .explorable.drawn > img { display: none; } }" in style
    assert "@media print { .explorable > :not(img) { display: none; } }" in style


@needs_browser
def test_hostile_names_are_shown_as_text(browsed):
    shown, _ = browsed
    assert shown.title.text == "A grid · refit"
    assert not shown.select("img[src=x], img[onerror]")
    short = HOSTILE[: explore.LEGEND_LENGTH - 1] + "…"
    assert texts(shown, r"legend\d*text") == ["16", "64", "256", "relu", short]
    assert texts(shown, r"legend\d*titletext") == ["batch size", "<i>activation</i>"]
    assert texts(shown, "axis-title") == ["batch size", "<i>activation</i>", "loss", "accuracy"]
    assert short in [text.text for text in shown.select(".axis .tick text")]


@needs_browser
def test_figures_of_a_group_light_up_the_same_trials(page, tmp_path):
    (tmp_path / "plotly.min.js").symlink_to(page.with_name("plotly.min.js"))
    driven = page.read_text().replace("http-equiv", "data-policy")
    (tmp_path / "page.html").write_text(
        driven.replace("</body>", f"<script>{DRIVE}</script></body>")
    )
    shown, console = browse(tmp_path / "page.html", tmp_path / "profile")
    assert console == []
    seen = json.loads(shown.body["data-seen"])
    # By trace: batch sizes 16, 64 and 256, then the two activations.
    assert seen["selected"] == [["cnn4"], [], [], [], ["cnn4"]]
    assert seen["brushed"] == [[], ["cnn5", "cnn6"], [], ["cnn5"], ["cnn6"]]
    assert seen["brushed twice"] == seen["brushed"], "two ranges that leave nothing out"
    assert seen["cleared"] == seen["deselected"] == [None] * 5
    assert seen["constraints"] == 0
    assert seen["hover"].startswith("cnn3training time (s): 30.3validation accuracy: 0.84")
    assert "<i>activation</i>: relu" in seen["hover"]


def test_without_scripts_the_pictures_are_there(page):
    soup = BeautifulSoup(page.read_text(), "html.parser")
    figures = soup.select("figure.explorable[data-group=grid]")
    assert len(figures) == 2
    for figure in figures:
        assert figure.img["src"].startswith("data:image/png;base64,")
        assert figure.img["alt"] == f"accuracy of {HOSTILE}"
        assert [tag.name for tag in figure.find_all()] == ["img", "script"]
        assert "style" not in figure.img.attrs


def test_page_loads_nothing_but_plotly_from_its_own_folder(page):
    text = page.read_text()
    soup = BeautifulSoup(text, "html.parser")
    assert HOSTILE not in text
    assert not re.search(r"(?i)(?:https?|wss?):|[\"'(]//", text)
    assert [script.get("src") for script in soup.find_all("script", src=True)] == ["plotly.min.js"]
    policy = soup.find("meta", {"http-equiv": "Content-Security-Policy"})["content"]
    assert re.fullmatch(POLICY + r" 'sha256-[^' ]+' 'self' 'unsafe-eval'", policy)


def test_plotly_lies_beside_the_page_as_installed(page):
    script = page.with_name("plotly.min.js")
    installed = script.read_bytes()
    assert b"plotly.js v" in installed[:100]
    os.utime(script, (1, 1))
    render(page.with_name("executed.ipynb"), page, "A grid")
    assert script.stat().st_mtime == 1, "it is the same: nothing to copy"
    script.write_bytes(b"of an older version")
    render(page.with_name("executed.ipynb"), page, "A grid")
    assert script.read_bytes() == installed


def test_page_without_figures_to_explore_runs_only_its_own_script(tmp_path):
    page = make_page(tmp_path, "<figure><img alt=''></figure>")
    soup = BeautifulSoup(page.read_text(), "html.parser")
    policy = soup.find("meta", {"http-equiv": "Content-Security-Policy"})["content"]
    assert re.fullmatch(POLICY, policy)
    assert len(soup.find_all("script")) == 1
    assert "explorable" not in page.read_text()
    assert not (tmp_path / "plotly.min.js").exists()


def test_panels_share_their_trials_and_differ_in_colours(tmp_path):
    figure = content(scatter(tmp_path))
    panels = {axis: [t for t in figure.data if t.xaxis == axis] for axis in ("x", "x2")}
    assert [trace.name for trace in panels["x"]] == ["16", "64", "256"]
    points = [
        sorted(point for trace in traces for point in zip(trace.ids, trace.x, trace.y, strict=True))
        for traces in panels.values()
    ]
    assert points[0] == points[1]
    assert len(points[0]) == 6
    assert [len({trace.marker.color for trace in traces}) for traces in panels.values()] == [3, 2]
    assert {trace.legend for trace in panels["x2"]} == {"legend2"}
    assert (figure.layout.xaxis2.matches, figure.layout.yaxis2.matches) == ("x", "y")


def test_values_are_written_as_a_reader_would_and_ordered(tmp_path):
    results = trials().assign(rate=[1e-2, None, 1e-4, 0.5, np.inf, 1e-2], flag=[True, False] * 3)
    figure = content(scatter(tmp_path, results, axes={"rate": "rate", "flag": "flag"}))
    names = [trace.name for trace in figure.data]
    assert names == ["0.0001", "0.01", "0.5", "inf", "–", "no", "yes"]


def test_many_values_differ_in_symbols_where_colours_repeat(tmp_path):
    results = pd.DataFrame({"trial": range(20), "a": range(20), "x": 1.0, "y": np.arange(20.0)})
    figure = content(scatter(tmp_path, results, x="x", y="y", axes={"a": "a"}))
    assert len({(trace.marker.color, trace.marker.symbol) for trace in figure.data}) == 20


def test_parallel_coordinates_take_every_trial_through_every_axis(tmp_path):
    figure = content(parallel(tmp_path))
    (lines,) = figure.data
    size, activation, loss, accuracy = lines.dimensions
    assert list(size.ticktext) == ["16", "64", "256"]
    assert list(size.values) == [2, 2, 0, 0, 1, 1]
    assert list(activation.values) == [0, 1] * 3
    assert (loss.label, accuracy.label) == ("loss", "accuracy")
    assert lines.line.color == accuracy["values"]
    assert figure.layout.title.text in (None, "")


@pytest.mark.parametrize("draw", [scatter, parallel])
def test_title_says_how_many_trials_are_left_out(tmp_path, draw):
    results = trials()
    results.loc[0, "val_accuracy"] = np.nan
    figure = content(draw(tmp_path, results))
    assert figure.layout.title.text == "1 trial is left out: a value is infinite or missing"
    assert HOSTILE not in {name for trace in figure.data for name in trace.ids}
    results.loc[3, "val_accuracy"] = np.inf
    assert "2 trials are" in content(draw(tmp_path, results)).layout.title.text
    assert "<script" not in draw(tmp_path, results.assign(val_accuracy=np.inf))


@pytest.mark.parametrize("draw", [scatter, parallel])
def test_without_trials_only_the_picture_is_shown(tmp_path, draw):
    shown = BeautifulSoup(draw(tmp_path, pd.DataFrame()), "html.parser")
    assert [tag.name for tag in shown.find_all()] == ["figure", "img"]
    assert "class" not in shown.figure.attrs


def test_pictures_are_kept_as_files(tmp_path):
    scatter(tmp_path)
    parallel(tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["grid_parallel.png", "grid_seconds_val_accuracy.png"]
    for name in names:
        with Image.open(tmp_path / name) as picture:
            assert picture.format == "PNG"


@pytest.mark.parametrize("draw", [scatter, parallel])
@pytest.mark.parametrize(
    ("results", "changes", "message"),
    [
        (trials().drop(columns=["batch_size", "trial"]), {}, "lacks the columns batch_size, trial"),
        (trials().drop(columns="val_accuracy"), {}, "lacks the columns val_accuracy"),
        (trials().assign(val_accuracy="high"), {}, "val_accuracy holds no numbers"),
        (pd.concat([trials(), trials()]), {}, "has several rows"),
        (trials(), {"axes": {}}, "needs a hyper-parameter"),
        (trials(), {"group": "a b"}, "group 'a b'"),
    ],
)
def test_what_cannot_be_drawn_is_refused(tmp_path, draw, results, changes, message):
    with pytest.raises(ReportError, match=message):
        draw(tmp_path, results, **changes)


def test_parallel_coordinates_need_a_metric(tmp_path):
    with pytest.raises(ReportError, match="need a metric"):
        parallel(tmp_path, metrics={})
