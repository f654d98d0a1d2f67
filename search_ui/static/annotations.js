// Suggests names while they are typed, from all that there are. Without JavaScript the list has the most frequent ones.
"use strict";

const WAIT_MS = 150;

for (const input of document.querySelectorAll("input[data-suggest]")) {
  let timer = null;
  let latest = "";

  async function suggest() {
    const text = input.value.replaceAll("%", "").trim();
    if (!text || text === latest) return;
    latest = text;
    const answer = await fetch(`${input.dataset.suggest}&text=${encodeURIComponent(text)}`).catch(() => null);
    if (!answer?.ok) return;
    const { suggestions } = await answer.json();
    const known = new Set([...input.list.options].map((option) => option.value));
    for (const name of suggestions.filter((one) => !known.has(one))) {
      const option = document.createElement("option");
      option.value = name;
      input.list.append(option);
    }
  }

  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(suggest, WAIT_MS);
  });
}
