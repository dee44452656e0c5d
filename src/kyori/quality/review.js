// Decisions about labels: kept in the form, saved as corrections.csv, opened from such a file again.
{
  const cards = [...document.querySelectorAll(".review > li")];
  const status = document.getElementById("status");
  const known = new Set(document.getElementById("known").content.textContent.split("\n"));
  const foreign = new Map(); // decisions about items that are not on this page
  let saved = true;

  const fill = (text, fields) => text.replace(/\{(\w+)\}/g, (_, name) => fields[name]);
  const action = (card) => card.querySelector("input[type=radio]:checked")?.value;
  const label = (card) => card.querySelector("input[type=text]");
  const choose = (card, value) => (card.querySelector(`input[value=${value}]`).checked = true);

  const refresh = () => {
    for (const card of cards) {
      card.classList.toggle("decided", action(card) !== undefined);
      const wrong = action(card) === "relabel" && !known.has(label(card).value);
      label(card).setCustomValidity(wrong ? fill(status.dataset.unknown, { label: label(card).value }) : "");
    }
    const decided = cards.filter((card) => action(card) !== undefined).length;
    status.textContent = fill(status.dataset.count, { decided, all: cards.length });
    if (foreign.size) status.textContent += ` · ${fill(status.dataset.foreign, { count: foreign.size })}`;
  };

  const quote = (text) => (/[",\r\n]|^\s|\s$/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const rows = () => {
    const own = cards
      .filter((card) => action(card) !== undefined)
      .map((card) => [card.dataset.id, action(card), action(card) === "relabel" ? label(card).value : "", card.dataset.given]);
    return [["id", "action", "label", "given_label"], ...own, ...foreign.values()];
  };

  const save = () => {
    const wrong = cards.map(label).find((input) => !input.checkValidity());
    if (wrong) return wrong.reportValidity();
    const text = rows().map((row) => row.map(quote).join(",") + "\n").join("");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    link.download = "corrections.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    saved = true;
  };

  const parse = (text) => {
    const found = [[""]];
    let quoted = false;
    for (let i = 0; i < text.length; i++) {
      const row = found.at(-1);
      if (quoted && text[i] === '"' && text[i + 1] === '"') row[row.length - 1] += text[i++];
      else if (text[i] === '"') quoted = !quoted;
      else if (!quoted && text[i] === ",") row.push("");
      else if (!quoted && text[i] === "\n") found.push([""]);
      else if (quoted || text[i] !== "\r") row[row.length - 1] += text[i];
    }
    return found.filter((row) => row.length > 1);
  };

  const open = (text) => {
    const [head = [], ...lines] = parse(text.replace(/^\uFEFF/, ""));
    if (!head.includes("id") || !head.includes("action")) return (status.textContent = status.dataset.unreadable);
    for (const line of lines) {
      const row = Object.fromEntries(head.map((name, i) => [name, line[i] ?? ""]));
      const card = cards.find((one) => one.dataset.id === row.id);
      if (!card) foreign.set(row.id, [row.id, row.action, row.label ?? "", row.given_label ?? ""]);
      else if (["keep", "relabel", "drop"].includes(row.action)) {
        choose(card, row.action);
        if (row.action === "relabel") label(card).value = row.label ?? "";
      }
    }
    refresh();
  };

  for (const card of cards) {
    card.addEventListener("input", (event) => {
      if (event.target.type === "text") choose(card, "relabel");
      saved = false;
      refresh();
    });
  }
  document.getElementById("accept").addEventListener("click", () => {
    for (const card of cards) {
      if (action(card) === undefined && card.dataset.action !== "keep") choose(card, card.dataset.action);
    }
    saved = false;
    refresh();
  });
  document.getElementById("save").addEventListener("click", save);
  document.getElementById("open").addEventListener("change", async (event) => {
    const [file] = event.target.files;
    if (file) open(await file.text());
    event.target.value = ""; // so that the same file can be opened again
  });
  addEventListener("beforeunload", (event) => saved || event.preventDefault());
  refresh();
}
