"""Sweeps to explore: drawn by a browser once seen, pictures without one, harmless names."""

import itertools
import json
import re
from functools import partial

import nbformat
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from bs4 import BeautifulSoup
from selenium.webdriver.support.select import Select
from selenium.webdriver.support.wait import WebDriverWait

from conftest import PATIENCE
from refit.figures import explore
from refit.figures.picture import Picture
from refit.pages.page import render

HOSTILE = """</script><img src=x onerror="document.title='run'">'<b>&amp;%{x}"""
SETTINGS = {"batch_size": "batch size", "activation": "<i>activation</i>"}
METRICS = {"val_loss": "validation loss", "val_accuracy": "validation accuracy"}
# What pages had before there was anything to explore in them.
POLICY = r"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-[^' ]+'"
# What the curves on the page show, as a reader sees it.
SHOWN = """
const visible = arguments[0].data.filter((trace) => trace.visible);
return visible.map(({ hovertemplate }) => hovertemplate.match(/<b>(.*?)<.b>/)[1]);
"""
BRUSH = """
Plotly.restyle(arguments[0], { "dimensions[2].constraintrange": [arguments[1]] });
"""
HOVER = "Plotly.Fx.hover(arguments[0], [{ curveNumber: 2, pointNumber: 1 }]);"


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


@pytest.fixture
def seen(page, browser):
    """The page in a browser, the first of its sweeps drawn; functions to find and to wait with."""
    browser.get_log("browser")
    browser.get(page.as_uri())
    find = partial(browser.find_elements, "css selector")
    until = WebDriverWait(browser, PATIENCE).until
    until(lambda _: find(".explorable.drawn .parcoords .axis .tick text"))
    yield browser, find, until
    # Drivers remark on their speed in the console.
    console = [line["message"] for line in browser.get_log("browser")]
    assert [line for line in console if "GL Driver Message" not in line] == []


def test_browser_draws_what_is_scrolled_into_view_under_its_own_security_policy(seen):
    browser, find, until = seen
    assert browser.title == "A grid · refit"
    assert not find("img[src=x], img[onerror]")
    # Without WebGL or the right to compile its programs the axes would have no ticks.
    ticks = find(".explorable.drawn .parcoords .axis .tick text")
    assert [tick.text for tick in ticks][:3] == ["16", "64", "256"]
    drawing = browser.execute_script("return arguments[0].textContent", find(".drawing")[0])
    assert f"Grid {HOSTILE}: settings and what they reach" in drawing
    assert len(find(".explorable.drawn")) == 1, "the second stands far below"
    browser.execute_script("document.querySelector('#below').scrollIntoView()")
    until(lambda _: len(find(".explorable.drawn")) == 2)


def test_reader_filters_brushes_colours_and_hovers(seen):
    browser, find, until = seen
    lines, parallel = find(".explorable.drawn .js-plotly-plot")
    colour, size, _ = map(Select, find(".explorable.drawn select"))

    def shows(*expected):
        until(lambda _: tuple(browser.execute_script(SHOWN, lines)) == expected)

    everything = browser.execute_script(SHOWN, lines)
    assert len(everything) == 6
    size.select_by_value("1")
    shows("cnn5", "cnn6")
    assert find("output")[0].text == "2 of 6 trials shown"
    script = "return arguments[0].data[0].dimensions[0].constraintrange"
    until(lambda _: browser.execute_script(script, parallel) == [0.75, 1.25])
    size.select_by_value("")
    shows(*everything)
    browser.execute_script(BRUSH, parallel, [0.29, 0.35])
    shows("cnn5", "cnn6")
    browser.execute_script(BRUSH, parallel, None)
    colour.select_by_value("1")
    shows(*everything)
    until(lambda _: len(find(".legendtext")) == 2)
    legend = [text.get_attribute("textContent") for text in find(".legendtext")]
    assert legend == [HOSTILE, "relu"], "once each, as it is written"
    browser.execute_script(HOVER, lines)
    hover = until(lambda _: find(".hoverlayer")[0].get_attribute("textContent"))
    assert hover.startswith("cnn3batch size: 16<i>activation</i>: relu")
    assert hover.endswith("mean of 2 seedsepoch 2: 0.7900")


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
