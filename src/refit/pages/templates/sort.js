// A click on a column's heading sorts the table by it; a second click turns the order round.
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
});
