// What a person gains by JavaScript: the page of runs follows what happens, in place, and says when it last heard.
"use strict";

const board = document.getElementById("board");
const heard = document.getElementById("heard");
const trouble = document.getElementById("trouble");
let last = Date.now();
let every = Number(heard.dataset.askAgain) * 1000;
let failing = false;
let timer;

// Make one tree of elements like another, touching only what differs: focus, selection and scrolling stay.
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

async function ask() {
  clearTimeout(timer);
  try {
    const answer = await fetch("/api/runs", { signal: AbortSignal.timeout(10000) });
    if (!answer.ok) throw new Error(answer.statusText);
    const found = await answer.json();
    if (found.version !== board.dataset.version) {
      const page = await fetch("/runs", { signal: AbortSignal.timeout(10000) });
      if (!page.ok) throw new Error(page.statusText);
      match(board, new DOMParser().parseFromString(await page.text(), "text/html").getElementById("board"));
    }
    every = found.ask_again_seconds * 1000;
    last = Date.now();
    failing = false;
  } catch {
    every = 5000;
    failing = true;
  }
  tell();
  timer = setTimeout(() => { if (!document.hidden) ask(); }, every);
}

function tell() {
  const seconds = Math.round((Date.now() - last) / 1000);
  heard.textContent = `Heard ${seconds < 1 ? "just now" : `${seconds} s ago`}; the page follows by itself.`;
  if (trouble.hidden === failing) {
    trouble.textContent = failing ? "The page's server does not answer. What stands here may be old; it is asked again every 5 seconds." : "";
    trouble.hidden = !failing;
  }
}

document.addEventListener("visibilitychange", () => { if (!document.hidden) ask(); });
setInterval(tell, 1000);
tell();
timer = setTimeout(ask, every);
