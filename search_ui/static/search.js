// Selects a range of confidence by dragging, and replaces results in place. The search works without JavaScript.
"use strict";

const wide = matchMedia("(min-width: 48.01rem)");
const live = document.createElement("p"); // outside of what is replaced, so that screen readers announce it
live.className = "hidden";
live.setAttribute("aria-live", "polite");
document.body.append(live);

function unfold() {
  // For browsers that can't show the contents of a closed <details> by CSS.
  const filters = document.getElementById("filters");
  if (filters && !CSS.supports("selector(::details-content)")) filters.open = wide.matches;
}
wide.addEventListener("change", unfold);

function addSlider(form) {
  const least = Number(form.dataset.least);
  const boxes = [form.elements.min, form.elements.max];
  const slider = document.createElement("div");
  slider.className = "slider";
  slider.style.setProperty("--bars", document.querySelectorAll(".histogram li").length);
  const handles = boxes.map((box, end) => {
    const handle = document.createElement("input");
    Object.assign(handle, { type: "range", min: least, max: 100, step: form.dataset.step, value: box.value });
    handle.setAttribute("aria-label", end ? "Confidence to, percent" : "Confidence from, percent");
    handle.dataset.keep = end ? "slider:to" : "slider:from";
    slider.append(handle);
    return handle;
  });
  const update = () => {
    const [low, high] = handles.map((handle) => (handle.value - least) / (100 - least || 1));
    slider.style.setProperty("--low", low);
    slider.style.setProperty("--high", high);
    // Where both handles meet, the one that can still move is on top.
    handles[0].style.zIndex = low > 0.5 ? 2 : 1;
  };
  handles.forEach((handle, end) => {
    handle.addEventListener("input", () => {
      const other = handles[1 - end];
      if (end ? Number(handle.value) < Number(other.value) : Number(handle.value) > Number(other.value)) handle.value = other.value;
      boxes[end].value = handle.value;
      update();
    });
    handle.addEventListener("change", () => form.requestSubmit());
  });
  boxes.forEach((box, end) => {
    box.addEventListener("input", () => { handles[end].value = box.value; update(); });
    box.addEventListener("change", () => form.requestSubmit());
  });
  form.prepend(slider);
  form.classList.add("live"); // needs no button
  update();
}

function enableDrawing(histogram, form) {
  const bars = [...histogram.children];
  let from = null;
  let to = null;
  const place = (event) => {
    const box = histogram.getBoundingClientRect();
    return Math.max(0, Math.min(bars.length - 1, Math.floor(((event.clientX - box.left) / box.width) * bars.length)));
  };
  const mark = () => bars.forEach((bar, n) => bar.classList.toggle("drawn", from !== to && n >= Math.min(from, to) && n <= Math.max(from, to)));
  histogram.addEventListener("dragstart", (event) => event.preventDefault()); // of the link
  histogram.addEventListener("pointerdown", (event) => {
    if (event.button === 0) from = to = place(event);
  });
  histogram.addEventListener("pointermove", (event) => {
    if (from === null) return;
    to = place(event);
    if (from !== to && !histogram.hasPointerCapture(event.pointerId)) histogram.setPointerCapture(event.pointerId);
    mark();
  });
  histogram.addEventListener("pointerup", () => {
    if (from !== null && from !== to) {
      form.elements.min.value = bars[Math.min(from, to)].dataset.percent;
      form.elements.max.value = bars[Math.max(from, to)].dataset.percent;
      form.requestSubmit();
    }
    from = null;
  });
  histogram.addEventListener("pointercancel", () => { from = to = null; mark(); });
}

function prepare() {
  unfold();
  const form = document.querySelector("form.range");
  if (!form) return;
  addSlider(form);
  enableDrawing(document.querySelector(".histogram"), form);
}

let request = null;
const address = (url) => url.pathname + url.search;
let displayed = address(location); // the search on the page

// Replace the results by those at a URL; where that fails, navigate to it.
async function load(url, push) {
  request?.abort();
  const mine = (request = new AbortController());
  document.querySelector("main").setAttribute("aria-busy", "true");
  let there;
  try {
    const answer = await fetch(url, { signal: mine.signal });
    there = new DOMParser().parseFromString(await answer.text(), "text/html");
    url = answer.url;
  } catch (error) {
    if (error.name !== "AbortError") location.assign(url);
    return;
  }
  const old = document.querySelector("main");
  const main = there.querySelector("main.search");
  if (!main) {
    location.assign(url);
    return;
  }
  const kept = document.activeElement?.dataset?.keep;
  const turned = document.activeElement?.closest(".pages");
  const open = [...old.querySelectorAll("details[id][open]")].map((details) => details.id);
  const scrolled = [...old.querySelectorAll(".long")].map((list) => list.scrollTop);
  old.replaceWith(document.adoptNode(main));
  document.querySelector(".skip").replaceWith(document.adoptNode(there.querySelector(".skip")));
  displayed = address(new URL(url));
  document.title = there.title;
  if (push) history.pushState(null, "", url);
  prepare();
  open.forEach((id) => document.getElementById(id)?.setAttribute("open", ""));
  main.querySelectorAll(".long").forEach((list, n) => { list.scrollTop = scrolled[n] ?? 0; });
  const again = kept && main.querySelector(`[data-keep="${CSS.escape(kept)}"]`);
  const total = document.getElementById("total");
  if (turned) scrollTo(0, 0);
  (again || total)?.focus({ preventScroll: true });
  live.textContent = total?.textContent.trim() ?? "";
}

function isSearch(url) {
  return url.origin === location.origin && url.pathname === root;
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("main.search a[href]");
  if (!link || event.defaultPrevented || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  if (link.closest(".show")) {
    event.preventDefault();
    document.getElementById("filters").open = false;
    document.getElementById("total").focus();
    return;
  }
  const url = new URL(link.href);
  if (!isSearch(url) || url.hash) return;
  event.preventDefault();
  load(link.href, true);
});
document.addEventListener("submit", (event) => {
  if (!event.target.matches("form.range")) return;
  event.preventDefault();
  load(`${root}?${new URLSearchParams(new FormData(event.target))}`, true);
});
addEventListener("popstate", () => {
  if (isSearch(location) && address(location) !== displayed) load(location.href, false);
});
prepare();
