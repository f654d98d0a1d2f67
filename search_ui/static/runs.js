// Updates the page of runs in place, and shows when it was last updated. Without JavaScript a reload does it.
"use strict";

const board = document.getElementById("board");
const updated = document.getElementById("updated");
const message = document.getElementById("error");
let last = Date.now();
let every = Number(updated.dataset.askAgain) * 1000;
let failing = false;
let timer;

// Make one tree of elements equal to another, changing only what differs: focus, selection and scrolling stay.
function match(here, there) {
  if (here.nodeType !== there.nodeType || here.nodeName !== there.nodeName || here.id !== there.id) {
    here.replaceWith(document.importNode(there, true));
    return;
  }
  if (here.nodeType === Node.TEXT_NODE) {
    if (here.data !== there.data) here.data = there.data;
    return;
  }
  if (here.nodeType !== Node.ELEMENT_NODE) return;
  for (const { name } of [...here.attributes]) if (!there.hasAttribute(name)) here.removeAttribute(name);
  for (const { name, value } of there.attributes) if (here.getAttribute(name) !== value) here.setAttribute(name, value);
  const [old, fresh] = [[...here.childNodes], [...there.childNodes]];
  fresh.forEach((node, place) => (old[place] ? match(old[place], node) : here.append(document.importNode(node, true))));
  old.slice(fresh.length).forEach((node) => node.remove());
}

async function update() {
  clearTimeout(timer);
  try {
    const answer = await fetch(`${root}api/runs`, { signal: AbortSignal.timeout(10000) });
    if (!answer.ok) throw new Error(answer.statusText);
    const state = await answer.json();
    if (state.version !== board.dataset.version) {
      const page = await fetch(`${root}runs`, { signal: AbortSignal.timeout(10000) });
      if (!page.ok) throw new Error(page.statusText);
      match(board, new DOMParser().parseFromString(await page.text(), "text/html").getElementById("board"));
    }
    every = state.ask_again_seconds * 1000;
    last = Date.now();
    failing = false;
  } catch {
    every = 5000;
    failing = true;
  }
  showState();
  timer = setTimeout(() => { if (!document.hidden) update(); }, every);
}

function showState() {
  const seconds = Math.round((Date.now() - last) / 1000);
  updated.textContent = `Updated ${seconds < 1 ? "just now" : `${seconds} s ago`}. The page updates itself.`;
  if (message.hidden === failing) {
    message.textContent = failing ? "The server does not answer. This page may be out of date; it tries again every 5 seconds." : "";
    message.hidden = !failing;
  }
}

document.addEventListener("visibilitychange", () => { if (!document.hidden) update(); });
setInterval(showState, 1000);
showState();
timer = setTimeout(update, every);
