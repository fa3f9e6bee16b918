// Draws the figures to explore over their static pictures and links those of a group: trials that
// are chosen in one light up in all its scatter plots.
{
  const USES = {
    scatter:
      "Point at a dot to see its trial. Drag a box, or take the lasso from the menu, to light up the same trials in every panel; a double click clears.",
    parcoords:
      "Drag along an axis to keep only the lines that pass there, and to light up their trials in the scatter plots; drag an axis's name to move it. A double click clears.",
  };
  // In pixels. A panel is at least NARROWEST wide, its legend to the right of it not counted.
  const [NARROWEST, HEIGHT, GAP, LETTER] = [220, 250, { x: 62, y: 62 }, 6.6];
  const CONFIG = {
    displaylogo: false,
    // Saving needs more rights than the page has, and the picture is there to be saved.
    modeBarButtonsToRemove: ["toImage", "autoScale2d"],
  };
  const drawings = [];
  let linking = false; // while plots follow one another they do not answer

  const isParallel = ({ data }) => data[0].type === "parcoords";
  const fit = (figure, width) => (isParallel(figure) ? stretch : arrange)(figure, width);

  // The layout of parallel coordinates: wider than the page where the axes' labels need it.
  function stretch({ data, layout }, width) {
    const lengths = data[0].dimensions.map(({ label }) => label.length);
    const apart = Math.max(80, ...lengths.slice(1).map((length, place) => 14 + (LETTER * (length + lengths[place])) / 2));
    return { ...layout, width: Math.max(width, 210 + apart * (lengths.length - 1)) };
  }

  // The layout of scatter plots: its panels in as many columns as the width has room for.
  function arrange({ data, layout }, width) {
    const panels = Object.keys(layout).filter((name) => /^xaxis\d*$/.test(name)).length;
    const titles = Object.keys(layout).filter((name) => name.startsWith("legend"));
    const entries = [...data.map((trace) => trace.name), ...titles.map((name) => layout[name].title.text.slice(7, -4))];
    const legend = 40 + LETTER * Math.max(...entries.map((text) => text.length));
    const margin = { l: 66, r: 4, t: layout.title.text ? 46 : 30, b: 50 };
    const room = width - margin.l - margin.r;
    const most = Math.max(1, Math.min(3, Math.floor((room + GAP.x) / (NARROWEST + legend + GAP.x))));
    const rows = Math.ceil(panels / most);
    const columns = Math.ceil(panels / rows);
    const tall = rows * HEIGHT + (rows - 1) * GAP.y;
    const cell = (room - (columns - 1) * GAP.x) / columns;
    const arranged = { ...layout, margin, width, height: tall + margin.t + margin.b };
    for (let panel = 0; panel < panels; panel++) {
      const number = panel ? panel + 1 : "";
      const [row, column] = [Math.floor(panel / columns), panel % columns];
      const left = column * (cell + GAP.x);
      const right = left + Math.max(cell - legend, cell / 2);
      const above = row * (HEIGHT + GAP.y);
      arranged[`xaxis${number}`] = {
        ...layout[`xaxis${number}`],
        domain: [left / room, right / room],
        title: { text: panel + columns < panels ? "" : layout.meta[0], standoff: 8 },
      };
      arranged[`yaxis${number}`] = {
        ...layout[`yaxis${number}`],
        domain: [1 - (above + HEIGHT) / tall, 1 - above / tall],
        title: { text: column ? "" : layout.meta[1], standoff: 8 },
      };
      arranged[`legend${number}`] = { ...layout[`legend${number}`], x: (right + 4) / room, y: 1 - above / tall };
    }
    return arranged;
  }

  const group = (drawing) => drawings.filter((other) => other.parentNode.dataset.group === drawing.parentNode.dataset.group);

  // Lights up these trials in the scatter plots of the source's group; null stands for all trials.
  async function light(source, trials) {
    if (linking) return;
    linking = true;
    try {
      for (const drawing of group(source)) {
        if (!isParallel(drawing)) {
          const places = ({ ids }) => ids.flatMap((id, place) => (trials.has(id) ? [place] : []));
          const selectedpoints = drawing.data.map((trace) => trials && places(trace));
          const frames = drawing === source && trials ? {} : { selections: [] };
          await Plotly.update(drawing, { selectedpoints }, frames);
        } else if (drawing !== source || !trials) {
          const brushes = drawing.data[0].dimensions.map((_, axis) => [`dimensions[${axis}].constraintrange`, null]);
          await Plotly.restyle(drawing, Object.fromEntries(brushes));
        }
      }
    } finally {
      linking = false;
    }
  }

  // The trials whose lines pass all brushed parts of the axes; null where nothing is brushed.
  function brushed({ ids, dimensions }) {
    const axes = dimensions.filter(({ constraintrange }) => constraintrange?.length);
    const passes = ({ values, constraintrange }, place) =>
      [constraintrange].flat(constraintrange[0].length ? 1 : 0).some(([low, high]) => low <= values[place] && values[place] <= high);
    return axes.length ? new Set(ids.filter((_, place) => axes.every((axis) => passes(axis, place)))) : null;
  }

  function listen(drawing) {
    if (isParallel(drawing)) {
      drawing.on("plotly_restyle", ([change]) => {
        const brush = Object.keys(change).some((name) => name.endsWith("constraintrange"));
        if (brush) light(drawing, brushed(drawing.data[0]));
      });
      drawing.addEventListener("dblclick", () => light(drawing, null));
      return;
    }
    drawing.on("plotly_selected", (event) => {
      const ids = event?.points.map(({ curveNumber, pointNumber }) => drawing.data[curveNumber].ids[pointNumber]);
      light(drawing, ids?.length ? new Set(ids) : null);
    });
    for (const name of ["plotly_deselect", "plotly_doubleclick"]) drawing.on(name, () => light(drawing, null));
  }

  async function draw(figure) {
    const drawing = document.createElement("div");
    drawing.className = "drawing";
    try {
      const content = JSON.parse(figure.querySelector("script").textContent);
      // A finger that drags over a figure wants to scroll the page.
      if (matchMedia("(pointer: coarse)").matches) content.layout.dragmode = false;
      figure.append(drawing);
      await Plotly.newPlot(drawing, content.data, fit(content, figure.clientWidth), CONFIG);
      if (drawing.querySelector(".no-webgl")) throw new Error("parallel coordinates need WebGL");
    } catch (error) {
      drawing.remove(); // the picture stays
      console.warn(`A figure cannot be explored: ${error.message}`);
      return;
    }
    const use = document.createElement("figcaption");
    use.textContent = USES[drawing.data[0].type];
    figure.append(use);
    figure.classList.add("drawn");
    drawings.push(drawing);
    listen(drawing);
  }

  document.querySelectorAll("figure.explorable").forEach(draw);
  addEventListener("resize", () => {
    for (const drawing of drawings) {
      Plotly.react(drawing, drawing.data, fit(drawing, drawing.parentNode.clientWidth), CONFIG);
    }
  });
}
