"""Sweeps to explore: drawn by a browser once seen, pictures without one, harmless names."""

import itertools
import json
import re
import shutil
import subprocess

import nbformat
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from bs4 import BeautifulSoup

from refit.figures import explore
from refit.figures.picture import Picture
from refit.pages.page import render

HOSTILE = """</script><img src=x onerror="document.title='run'">'<b>&amp;%{x}"""
SETTINGS = {"batch_size": "batch size", "activation": "<i>activation</i>"}
METRICS = {"val_loss": "validation loss", "val_accuracy": "validation accuracy"}
# What pages had before there was anything to explore in them.
POLICY = r"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-[^' ]+'"
BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)

# Done by a script in a test's page: what a reader does with the mouse, and what is then shown.
DRIVE = """
addEventListener("load", async () => {
  const seen = {};
  const wait = (time = 200) => new Promise((done) => setTimeout(done, time));
  const drawn = () => document.querySelectorAll(".explorable.drawn").length;
  while (!document.querySelector(".explorable.drawn .parcoords")) await wait();
  seen.before = drawn();
  const [lines, parallel] = document.querySelectorAll(".explorable.drawn .js-plotly-plot");
  const [colour, size, activation] = document.querySelectorAll(".explorable.drawn select");
  const note = async (name) => {
    await wait();
    const visible = lines.data.filter((trace) => trace.visible);
    const trials = visible.map(({ hovertemplate }) => hovertemplate.match(/<b>(.*?)<.b>/)[1]);
    seen[name] = { trials, told: document.querySelector("output").textContent, size: size.value };
  };
  const choose = (select, value) => {
    select.value = value;
    select.dispatchEvent(new Event("change"));
  };
  await note("all");
  choose(size, "1");
  await note("filtered");
  seen.brush = parallel.data[0].dimensions[0].constraintrange;
  choose(size, "");
  await Plotly.restyle(parallel, { "dimensions[2].constraintrange": [[0.29, 0.35]] });
  await note("brushed");
  await Plotly.restyle(parallel, { "dimensions[2].constraintrange": [null] });
  choose(colour, "1");
  await note("cleared");
  seen.legend = [...lines.querySelectorAll(".legendtext")].map(({ textContent }) => textContent);
  Plotly.Fx.hover(lines, [{ curveNumber: 2, pointNumber: 1 }]);
  await wait();
  seen.hover = lines.querySelector(".hoverlayer").textContent;
  document.querySelector("#below").scrollIntoView();
  while (drawn() < 2) await wait();
  seen.after = drawn();
  document.body.dataset.seen = JSON.stringify(seen);
});
"""


def trials():
    """Six trials of two seeds, the first and one of the activations with a hostile name."""
    pairs = itertools.product([256.0, 16.0, 64.0], ["relu", HOSTILE])
    frame = pd.DataFrame(pairs, columns=["batch_size", "activation"])
    frame = frame.assign(
        trial=[HOSTILE, *(f"cnn{number}" for number in range(2, 7))],
        val_accuracy=np.linspace(0.8, 0.9, 6),
        val_loss=np.linspace(0.5, 0.3, 6),
        diverged=False,
    )
    return pd.concat([frame.assign(seed=1), frame.assign(seed=2)], ignore_index=True)


def curves():
    ends = trials()
    return pd.concat(
        [ends.assign(epoch=epoch, val_accuracy=ends.val_accuracy - 0.1 / epoch) for epoch in (1, 2)]
    )


def sweep(results=None, settings=SETTINGS, metrics=METRICS, **changes):
    picture = Picture(f"accuracy of {HOSTILE}", 1)
    results = trials() if results is None else results
    return explore.sweep(results, settings, metrics, f"Grid {HOSTILE}", picture, **changes).data


def content(html):
    """What is folded into some HTML, whose figures plotly itself takes for valid ones."""
    found = json.loads(BeautifulSoup(html, "html.parser").find("script").string)
    return found | {name: go.Figure(found[name]) for name in ("trials", "parallel")}


def make_page(folder, *outputs):
    """Render a notebook with these HTML outputs as folder/page.html."""
    cells = [nbformat.v4.new_markdown_cell("# A grid\n\n## Explore")]
    for output in outputs:
        shown = nbformat.v4.new_output("display_data", {"text/html": output})
        cells.append(nbformat.v4.new_code_cell("explore.sweep(...)", outputs=[shown]))
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / "executed.ipynb")
    render(folder / "executed.ipynb", folder / "page.html", "A grid")
    return folder / "page.html"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    far = '<div style="height: 9000px"></div><p id="below"></p>'
    return make_page(tmp_path_factory.mktemp("page"), sweep(curves=curves()), far, sweep())


@pytest.mark.skipif(not BROWSER, reason="neither Chromium nor Chrome is installed")
def test_browser_draws_filters_and_colours_what_is_scrolled_into_view(page, tmp_path):
    (tmp_path / "plotly.min.js").symlink_to(page.with_name("plotly.min.js"))
    driven = page.read_text(encoding="utf-8").replace("http-equiv", "data-policy")
    (tmp_path / "page.html").write_text(
        driven.replace("</body>", f"<script>{DRIVE}</script></body>"), encoding="utf-8"
    )
    shown, console = browse(tmp_path / "page.html", tmp_path / "profile")
    assert console == []
    assert shown.title.text == "A grid · refit"
    assert not shown.select("img[src=x], img[onerror]")
    seen = json.loads(shown.body["data-seen"])
    assert (seen["before"], seen["after"]) == (1, 2), "the second stands far below"
    assert len(seen["all"]["trials"]) == 6
    assert seen["filtered"] == {
        "trials": ["cnn5", "cnn6"], "told": "2 of 6 trials shown", "size": "1"
    }  # fmt: skip
    assert seen["brush"] == [0.75, 1.25], "the parallel coordinates are brushed as well"
    assert seen["brushed"]["trials"] == ["cnn5", "cnn6"]
    assert len(seen["cleared"]["trials"]) == 6
    assert seen["legend"] == [HOSTILE, "relu"], "once each, as it is written"
    assert seen["hover"].startswith("cnn3batch size: 16<i>activation</i>: relu")
    assert seen["hover"].endswith("mean of 2 seedsepoch 2: 0.7900")


@pytest.mark.skipif(not BROWSER, reason="neither Chromium nor Chrome is installed")
def test_page_draws_under_its_own_security_policy(page, tmp_path):
    shown, console = browse(page, tmp_path)
    assert console == []
    drawing = shown.select_one(".explorable.drawn .drawing")
    # Without WebGL or the right to compile its programs the axes would have no ticks.
    assert [tick.text for tick in drawing.select(".axis .tick text")][:3] == ["16", "64", "256"]
    assert f"Grid {HOSTILE}: settings and what they reach" in drawing.text


def browse(page, profile):
    """What a browser makes of a page: its final HTML, and the console's lines."""
    flags = "--headless --no-sandbox --use-angle=swiftshader --enable-unsafe-swiftshader"
    flags += " --no-first-run --enable-logging=stderr --v=0 --virtual-time-budget=120000 --dump-dom"
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


def test_page_shows_pictures_without_scripts_and_loads_nothing_but_plotly(page):
    text = page.read_text(encoding="utf-8")
    soup = BeautifulSoup(text, "html.parser")
    for found in soup.select(".explorable"):
        assert [tag.name for tag in found.find_all()] == ["figure", "img", "script"]
        assert found.img["alt"].startswith(f"accuracy of {HOSTILE}")
    assert HOSTILE not in text
    assert not re.search(r"(?i)(?:https?|wss?):|[\"'(]//", text)
    assert not soup.find_all("script", src=True), "plotly is loaded when it is needed"
    policy = soup.find("meta", {"http-equiv": "Content-Security-Policy"})["content"]
    assert re.fullmatch(POLICY + r" 'sha256-[^' ]+' 'self' 'unsafe-eval'", policy)
    assert b"plotly.js v" in page.with_name("plotly.min.js").read_bytes()[:100]


def test_page_without_a_sweep_to_explore_runs_only_its_own_script(tmp_path):
    page = make_page(tmp_path, "<figure><img alt=''></figure>")
    soup = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
    policy = soup.find("meta", {"http-equiv": "Content-Security-Policy"})["content"]
    assert re.fullmatch(POLICY, policy)
    assert len(soup.find_all("script")) == 1
    assert not (tmp_path / "plotly.min.js").exists()


def test_trials_are_dots_of_the_last_metric_against_the_first_or_lines_over_epochs():
    of_dots, of_lines = (content(sweep(curves=given)) for given in (None, curves()))
    dots, lines = of_dots["trials"], of_lines["trials"]
    assert [(dot.x[0], dot.y[0]) for dot in dots.data][::5] == [(0.5, 0.8), (0.3, 0.9)]
    assert dots.layout.xaxis.title.text == "validation loss"
    assert [list(line.x) for line in lines.data] == [[1, 2]] * 6
    assert lines.data[5].y == pytest.approx([0.8, 0.85])
    assert of_dots["titles"][0].endswith("validation accuracy by validation loss")
    assert of_lines["titles"][0].endswith("validation accuracy by epoch")


def test_parallel_coordinates_take_every_trial_through_every_axis():
    drawn = content(sweep())
    (lines,) = drawn["parallel"].data
    size, activation, loss, accuracy = lines.dimensions
    assert list(size.ticktext) == ["16", "64", "256"]
    assert list(size["values"]) == [2, 2, 0, 0, 1, 1]
    assert [place[1] for place in drawn["places"]] == list(activation["values"])
    assert (loss.label, accuracy.label) == ("validation loss", "validation accuracy")
    assert lines.line.color == accuracy["values"]


def test_diverged_trials_stand_above_all_others_and_unmeasured_ones_are_counted():
    results = trials()
    results.loc[results.trial == "cnn2", ["diverged", "val_loss"]] = [True, np.nan]
    results.loc[results.trial == "cnn3", "val_accuracy"] = np.nan
    shown = sweep(results)
    assert "Not among the trials to explore: 1 without a value." in shown
    loss = content(shown)["parallel"].data[0].dimensions[2]
    assert (max(loss["values"]), loss.ticktext[-1]) == (loss["values"][1], "infinite")
    assert len(loss["values"]) == 5


@pytest.mark.parametrize("results", [pd.DataFrame(), trials().head(1)])
def test_without_a_choice_only_the_picture_is_shown(results):
    shown = BeautifulSoup(sweep(results), "html.parser")
    assert [tag.name for tag in shown.find_all()] == ["figure", "img"]
