// Keyboard shortcuts, on every page. The pages work without JavaScript.
"use strict";

// The path below which the page is served: "/", or that of a reverse proxy. The other scripts use it too.
const root = document.querySelector(".brand").pathname;

function follow(selector) {
  const link = document.querySelector(selector);
  if (link) link.click();
}

function step(key) {
  const links = [...document.querySelectorAll(".grid a")];
  if (!links.length) return false;
  const here = links.indexOf(document.activeElement);
  const columns = links.findIndex((link) => link.offsetTop > links[0].offsetTop);
  const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[key];
  if (here < 0 && (key === "ArrowUp" || key === "ArrowDown")) return false; // let the page scroll
  const next = links[here < 0 ? 0 : here + by];
  if (!next) return false;
  next.focus();
  return true;
}

const keys = document.getElementById("keys");
const help = document.getElementById("help");
help.hidden = false; // the shortcuts need JavaScript
help.addEventListener("click", () => keys.showModal());

document.addEventListener("keydown", (event) => {
  if (keys.open) {
    if (event.key === "?") keys.close(); // Escape closes a dialog by default
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, textarea, select")) return;
  const turn = { ArrowLeft: "prev", ArrowRight: "next" }[event.key];
  if (turn && document.querySelector("main.image") && !event.target.closest(".grid, .scroll")) follow(`a[rel=${turn}]`);
  else if (event.code === "Space" && event.target.matches(".facet a")) {
    event.preventDefault(); // of scrolling
    event.target.click();
  } else if (event.key.startsWith("Arrow")) {
    if (step(event.key)) event.preventDefault();
  } else if (event.key === "n") follow("a[rel=next]");
  else if (event.key === "p") follow("a[rel=prev]");
  else if (event.key === "?") keys.showModal();
  else if (event.key === "u") follow("a[data-key=u]");
  else if (event.key === "/" && document.getElementById("filters")) {
    const first = document.querySelector(".facet a");
    if (!first.checkVisibility({ contentVisibilityAuto: true })) document.getElementById("filters").open = true; // closed on a phone
    first.focus();
    event.preventDefault();
  }
});

// "Back to results" leads to the image that was open.
if (location.hash.startsWith("#image-")) document.getElementById(location.hash.slice(1))?.closest("li").querySelector("a").focus();
