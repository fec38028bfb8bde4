// The table of claims: sorted by its headings, filtered by paper, verdict and words.
// Without this script the table is there as it is.
(() => {
  const table = document.getElementById("findings");
  if (!table) return;
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const [paper, verdict, words] = ["by-paper", "by-verdict", "by-words"].map((id) =>
    document.getElementById(id)
  );

  const show = () => {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !(
        (!paper.value || row.dataset.paper === paper.value) &&
        (!verdict.value || row.dataset.verdict.split("|").includes(verdict.value)) &&
        wanted.every((word) => text.includes(word))
      );
      count += !row.hidden;
    }
    document.getElementById("shown").value = `${count} of ${rows.length} claims`;
  };

  const key = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.order ?? cell.textContent.trim();
  };
  const compare = new Intl.Collator("en", { numeric: true }).compare;
  [...table.tHead.rows[0].cells].forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = heading.textContent;
    heading.replaceChildren(button);
    button.addEventListener("click", () => {
      const down = heading.getAttribute("aria-sort") === "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      const sign = down ? -1 : 1;
      rows.sort((a, b) => sign * compare(key(a, column), key(b, column)));
      body.append(...rows);
    });
  });

  // results.html#paper=i0t shows one paper.
  const follow = () => {
    const named = /^#paper=(\w+)$/.exec(location.hash);
    const first = named && rows.find((row) => row.dataset.key === named[1]);
    if (first) [paper.value, verdict.value, words.value] = [first.dataset.paper, "", ""];
    show();
    // results.html#i0t-5 opens one claim.
    const one = rows.find((row) => `#${row.id}` === location.hash);
    if (one) {
      one.hidden = false;
      const more = one.querySelector("details");
      if (more) more.open = true;
      one.scrollIntoView();
    }
  };
  for (const control of [paper, verdict, words]) control.addEventListener("input", show);
  addEventListener("hashchange", follow);
  document.getElementById("filters").hidden = false;
  follow();
})();
