// Classifies pictures in place: chosen, dropped, pasted or drawn. Without JavaScript the form uploads them.
"use strict";

const form = document.getElementById("classify");
const results = document.getElementById("results");
let last = []; // the files of the last answer, for another model

async function classify(files, detector) {
  if (!files.length) return;
  last = files;
  const body = new FormData();
  if (detector) body.set(detector.name, detector.value);
  body.set("model", form.elements.model.value);
  body.set("min_confidence", form.elements.min_confidence.value);
  files.forEach((file) => body.append("files", file, file.name || "picture.png"));
  form.setAttribute("aria-busy", "true");
  try {
    const answer = await fetch(form.action, { method: "POST", body });
    const there = new DOMParser().parseFromString(await answer.text(), "text/html");
    const section = there.getElementById("results");
    if (section) results.replaceChildren(...document.adoptNode(section).children);
    else showError(there.querySelector("main p")?.textContent || `The server answered with ${answer.status}.`);
  } catch {
    showError("The server does not answer. Try again.");
  }
  form.removeAttribute("aria-busy");
  filter();
}

function showError(words) {
  const error = document.createElement("p");
  error.className = "error";
  error.textContent = words;
  results.replaceChildren(error);
}

// Hide the classes below the minimum confidence.
function filter() {
  const least = Number(form.elements.min_confidence.value);
  results.querySelectorAll(".answer").forEach((answer) => {
    const rows = [...answer.querySelectorAll("tr[data-percent]")];
    rows.forEach((row) => { row.hidden = Number(row.dataset.percent) < least; });
    const none = answer.querySelector(".none");
    if (none) none.hidden = rows.some((row) => !row.hidden);
  });
}

form.elements.min_confidence.addEventListener("input", filter);
form.elements.model.addEventListener("change", () => classify(last));
form.addEventListener("submit", (event) => {
  event.preventDefault();
  const chosen = [...form.elements.files.files];
  // Only this button sends pictures to another server; also those that were drawn, dropped or pasted.
  const detector = event.submitter?.name ? event.submitter : null;
  const files = detector && last.length ? last : chosen;
  if (files.length) classify(files, detector);
  else showError("Choose a picture first.");
});
form.querySelectorAll("[name=detector]").forEach((button) => { button.formNoValidate = true; }); // a drawing is not among its files
form.elements.files.addEventListener("change", () => classify([...form.elements.files.files]));

// A correction is saved in place, too.
results.addEventListener("submit", async (event) => {
  event.preventDefault();
  const sent = event.target;
  const body = new URLSearchParams(new FormData(sent, event.submitter));
  try {
    const answer = await fetch(sent.action, { method: "POST", body });
    const there = new DOMParser().parseFromString(await answer.text(), "text/html");
    const correct = there.querySelector(".answer .correct");
    if (!correct) throw new Error(there.querySelector("main p")?.textContent || "");
    const section = sent.closest(".correct");
    section.replaceWith(document.adoptNode(correct));
  } catch (error) {
    let line = sent.querySelector(".error");
    if (!line) sent.append((line = document.createElement("p")));
    line.className = "error";
    line.setAttribute("role", "alert");
    line.textContent = error.message || "The server does not answer. Try again.";
  }
});

// Files that are dropped anywhere on the page, or pasted.
const drop = document.getElementById("drop");
const pictures = (transfer) => [...(transfer?.files ?? [])].filter((file) => file.type.startsWith("image/") || !file.type);
addEventListener("dragover", (event) => {
  if (![...event.dataTransfer.types].includes("Files")) return;
  event.preventDefault();
  drop.classList.add("over");
});
addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.classList.remove("over"); });
addEventListener("drop", (event) => {
  if (!event.dataTransfer.files.length) return;
  event.preventDefault();
  drop.classList.remove("over");
  classify(pictures(event.dataTransfer));
});
addEventListener("paste", (event) => classify(pictures(event.clipboardData)));

// The drawing is a list of strokes, so that the last one can be undone.
const canvas = document.getElementById("canvas");
const pen = canvas.getContext("2d");
const tool = (name) => document.getElementById(name);
let strokes = [];
let stroke = null;

function draw() {
  pen.fillStyle = tool("paper").value;
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.lineCap = pen.lineJoin = "round";
  strokes.forEach(({ points, width, ink }) => {
    pen.strokeStyle = ink;
    pen.lineWidth = width;
    pen.beginPath();
    pen.moveTo(...points[0]);
    points.forEach((point) => pen.lineTo(...point)); // a single point is a dot
    pen.stroke();
  });
  ["undo", "clear", "classify-drawing"].forEach((name) => { tool(name).disabled = !strokes.length; });
}

function place(event) {
  const box = canvas.getBoundingClientRect();
  return [((event.clientX - box.left) * canvas.width) / box.width, ((event.clientY - box.top) * canvas.height) / box.height];
}

canvas.addEventListener("pointerdown", (event) => {
  if (event.button !== 0 || stroke) return; // one finger draws
  event.preventDefault();
  canvas.setPointerCapture(event.pointerId);
  stroke = { id: event.pointerId, points: [place(event)], width: Number(tool("brush").value), ink: tool("ink").value };
  strokes.push(stroke);
  draw();
});
canvas.addEventListener("pointermove", (event) => {
  if (stroke?.id !== event.pointerId) return;
  const events = event.getCoalescedEvents?.() ?? [];
  (events.length ? events : [event]).forEach((one) => stroke.points.push(place(one)));
  draw();
});
const end = (event) => { if (stroke?.id === event.pointerId) stroke = null; };
canvas.addEventListener("pointerup", end);
canvas.addEventListener("pointercancel", end);
tool("paper").addEventListener("input", draw);
tool("undo").addEventListener("click", () => { strokes.pop(); draw(); });
tool("clear").addEventListener("click", () => { strokes = []; draw(); });
tool("classify-drawing").addEventListener("click", () => {
  canvas.toBlob((blob) => classify([new File([blob], "drawing.png", { type: "image/png" })]));
});

document.querySelectorAll(".scripted").forEach((element) => { element.hidden = false; });
draw();
