// Draws the sweeps to explore in place of their static pictures, once they come near the window:
// trials that can be coloured and filtered by a setting, above parallel coordinates to brush.
{
  const { plotly } = document.currentScript.dataset;
  const CONFIG = {
    displaylogo: false,
    responsive: true,
    // Saving needs more rights than the page has, and the picture is there to be saved.
    modeBarButtonsToRemove: ["toImage", "autoScale2d", "select2d", "lasso2d"],
  };
  const LETTER = 6.6; // pixels
  let loading;

  const load = () =>
    (loading ??= new Promise((done, failed) => {
      const onerror = () => failed(new Error(`${plotly} is not there`));
      document.head.append(Object.assign(document.createElement("script"), { src: plotly, onload: done, onerror }));
    }));

  const add = (parent, tag, properties = {}) => {
    const element = Object.assign(document.createElement(tag), properties);
    parent.append(element);
    return element;
  };

  function choose(parent, label, texts, onchange) {
    const select = add(add(parent, "label", { textContent: label }), "select");
    for (const [value, text] of texts) add(select, "option", { value, textContent: text });
    select.onchange = () => onchange(select.value);
    return select;
  }

  const escape = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;");
  const within = (ranges, value) => !ranges || ranges.some(([low, high]) => low <= value && value <= high);
  const asRanges = (range) => (range?.length ? (Array.isArray(range[0]) ? range : [range]) : null);

  async function draw(sweep) {
    const { settings, places, colours, symbols, titles, trials, parallel } = JSON.parse(sweep.querySelector("script").textContent);
    const ariaLabel = sweep.querySelector("img").alt; // what the picture said, the drawing keeps
    const box = Object.assign(document.createElement("div"), { className: "drawing", role: "group", ariaLabel });
    add(box, "strong", { textContent: titles[0] });
    const choices = add(box, "p");
    const upper = add(box, "div");
    const wide = add(box, "div", { className: "wide" });
    add(wide, "strong", { textContent: titles[1] });
    const lower = add(wide, "div");
    let [colour, ranges, brushes] = [0, settings.map(() => null), false];

    // Colours and hides the trials: those stay whose settings and metrics are in all chosen ranges.
    function show() {
      const values = parallel.data[0].dimensions.map((dimension) => dimension.values);
      const kept = places.map((_, trial) => ranges.every((range, axis) => within(range, values[axis][trial])));
      const at = places.map((place) => place[colour]);
      const known = new Set();
      const first = at.map((place, trial) => kept[trial] && !known.has(place) && known.add(place) && true);
      const hues = at.map((place) => colours[place % colours.length]);
      shown.textContent = `${kept.filter(Boolean).length} of ${kept.length} trials shown`;
      for (const [axis, { values }] of settings.entries()) {
        const inside = values.map((_, place) => place).filter((place) => within(ranges[axis], place));
        filters[axis].value = ranges[axis] && inside.length === 1 ? inside[0] : "";
      }
      return Plotly.restyle(upper, {
        visible: kept,
        "line.color": hues,
        "marker.color": hues,
        "marker.symbol": at.map((place) => symbols[Math.floor(place / colours.length) % symbols.length]),
        name: at.map((place) => escape(settings[colour].values[place])),
        legendgroup: at.map(String),
        legendrank: at.map((place) => 1000 + place),
        showlegend: first.map(Boolean),
      });
    }

    const labels = settings.map(({ label }, axis) => [axis, label]);
    choose(choices, "colour", labels, (axis) => show((colour = Number(axis))));
    const filters = settings.map(({ label, values }, axis) =>
      choose(choices, label, [["", "all"], ...values.map((value, place) => [place, value])], (place) => {
        ranges[axis] = place === "" ? null : [[place - 0.25, Number(place) + 0.25]];
        // What the brush says is taken over by the listener below.
        return brushes ? Plotly.restyle(lower, { [`dimensions[${axis}].constraintrange`]: [ranges[axis]?.[0] ?? null] }) : show();
      }),
    );
    const shown = add(choices, "output");

    try {
      await load();
      sweep.prepend(box);
      // A finger that drags over a figure wants to scroll the page.
      if (matchMedia("(pointer: coarse)").matches) trials.layout.dragmode = false;
      await Plotly.newPlot(upper, trials.data, trials.layout, CONFIG);
      await show();
    } catch (error) {
      box.remove(); // the picture stays
      console.warn(`A sweep cannot be explored: ${error.message}`);
      return;
    }
    sweep.classList.add("drawn");
    // Wider than the page where the names of the axes would else cover each other.
    const lengths = parallel.data[0].dimensions.map(({ label }) => label.length);
    const apart = Math.max(60, ...lengths.slice(1).map((length, place) => 14 + (LETTER * (length + lengths[place])) / 2));
    lower.style.minWidth = `${120 + apart * (lengths.length - 1)}px`;
    await Plotly.newPlot(lower, parallel.data, parallel.layout, CONFIG);
    if (lower.querySelector(".no-webgl")) return wide.remove();
    brushes = true;
    lower.on("plotly_restyle", () => {
      ranges = lower.data[0].dimensions.map(({ constraintrange }) => asRanges(constraintrange));
      show();
    });
  }

  const near = new IntersectionObserver(
    (entries) => {
      for (const { isIntersecting, target } of entries) {
        if (isIntersecting) near.unobserve(target);
        if (isIntersecting) draw(target);
      }
    },
    { rootMargin: "300px" },
  );
  document.querySelectorAll(".explorable").forEach((sweep) => near.observe(sweep));
}
