// What a person gains by JavaScript: a range with two handles, and keys. The page works without.
"use strict";

const filters = document.getElementById("filters");
const wide = matchMedia("(min-width: 48.01rem)");
if (filters && !CSS.supports("selector(::details-content)")) {
  // Browsers that can't show a closed <details> by style alone.
  const follow = () => { filters.open = wide.matches; };
  wide.addEventListener("change", follow);
  follow();
}

const form = document.querySelector("form.range");
if (form) {
  const least = Number(form.dataset.least);
  const boxes = [form.elements.min, form.elements.max];
  const slider = document.createElement("div");
  slider.className = "slider";
  slider.style.setProperty("--bars", document.querySelectorAll(".histogram li").length);
  const handles = boxes.map((box, end) => {
    const handle = document.createElement("input");
    Object.assign(handle, { type: "range", min: least, max: 100, step: form.dataset.step, value: box.value });
    handle.setAttribute("aria-label", end ? "Confidence to, percent" : "Confidence from, percent");
    slider.append(handle);
    return handle;
  });
  const show = () => {
    const [low, high] = handles.map((handle) => (handle.value - least) / (100 - least || 1));
    slider.style.setProperty("--low", low);
    slider.style.setProperty("--high", high);
    // Where both handles meet, the one that can still move lies on top.
    handles[0].style.zIndex = low > 0.5 ? 2 : 1;
  };
  handles.forEach((handle, end) => {
    handle.addEventListener("input", () => {
      const other = handles[1 - end];
      if (end ? Number(handle.value) < Number(other.value) : Number(handle.value) > Number(other.value)) handle.value = other.value;
      boxes[end].value = handle.value;
      show();
    });
    handle.addEventListener("change", () => form.requestSubmit());
  });
  boxes.forEach((box, end) => {
    box.addEventListener("input", () => { handles[end].value = box.value; show(); });
    box.addEventListener("change", () => form.requestSubmit());
  });
  form.prepend(slider);
  form.classList.add("live"); // no button is needed then
  show();
}

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
  if (here < 0 && (key === "ArrowUp" || key === "ArrowDown")) return false; // that scrolls
  const next = links[here < 0 ? 0 : here + by];
  if (!next) return false;
  next.focus();
  return true;
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, textarea, select")) return;
  if (event.key.startsWith("Arrow")) {
    if (step(event.key)) event.preventDefault();
  } else if (event.key === "n") follow("a[rel=next]");
  else if (event.key === "p") follow("a[rel=prev]");
  else if (event.key === "u") follow("a[data-key=u]");
  else if (event.key === "/" && filters) {
    filters.open = filters.open || !wide.matches;
    document.querySelector(".facet a").focus();
    event.preventDefault();
  }
});
