// A click, or Enter, on a column's heading sorts the table by it; a second one turns the order round.
document.querySelectorAll("table.sortable").forEach((table) => {
  const body = table.tBodies[0];
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    heading.tabIndex = 0;
    heading.title = "sort by this column";
    const sort = () => {
      const down = heading.getAttribute("aria-sort") === "ascending";
      const value = (row) => row.cells[column].dataset.value;
      const order = (one, other) => {
        const [a, b] = [value(one), value(other)];
        if (a === "" || b === "") return (a === "") - (b === ""); // what is missing stays last
        const compared = isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b;
        return down ? -compared : compared;
      };
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      body.append(...[...body.rows].sort(order));
    };
    heading.addEventListener("click", sort);
    heading.addEventListener("keydown", (event) => event.key === "Enter" && sort());
  });
  // What the table shows, in its present order, as a file.
  const save = document.createElement("a");
  const quoted = (cell) => `"${(cell.dataset.value ?? cell.textContent).replaceAll('"', '""')}"`;
  [save.textContent, save.download, save.href] = ["CSV", `${table.caption?.textContent ?? "table"}.csv`, "#"];
  save.addEventListener("click", () => {
    const rows = [...table.rows].map((row) => [...row.cells].map(quoted).join(","));
    save.href = `data:text/csv;charset=utf-8,${encodeURIComponent(rows.join("\n"))}`;
  });
  (table.caption ?? table.createCaption()).append(" ", save);
});
// A click on a figure, or Enter, opens it in full size; another one, or Escape, closes it.
document.querySelectorAll(".output_subarea img").forEach((picture) => {
  const open = () => {
    const dialog = document.createElement("dialog");
    const copy = dialog.appendChild(new Image());
    [copy.src, copy.alt] = [picture.src, picture.alt];
    dialog.addEventListener("click", () => dialog.close());
    dialog.addEventListener("close", () => dialog.remove());
    document.body.append(dialog);
    dialog.showModal();
  };
  const button = Object.assign(document.createElement("button"), { className: "zoom", ariaLabel: "Open in full size" });
  picture.replaceWith(button);
  button.append(picture);
  button.addEventListener("click", open);
});
// The contents show which part is being read.
const links = [...document.querySelectorAll("nav a[href^='#']")];
const parts = links.map((link) => document.getElementById(decodeURIComponent(link.hash.slice(1))));
const mark = () => {
  const read = parts.findLastIndex((part) => part && part.getBoundingClientRect().top < 120);
  links.forEach((link, place) => link.classList.toggle("here", place === Math.max(read, 0)));
};
addEventListener("scroll", mark, { passive: true });
mark();
