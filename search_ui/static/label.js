// Labels images by keys, by mouse or by touch. The page is a form that works without JavaScript.
"use strict";

const form = document.getElementById("label");
const list = document.getElementById("classes");
// Letters for the classes after the ninth: not those with another meaning (a, n, p, u).
const KEYS = "123456789bcdefghijklmoqrstvwxyz";
// A class with one of these names has it for its key: a picture of a 7 is labelled by 7.
const OWN = `0${KEYS}`;
// Labels are sent at most once in this time: the server limits requests, not labels.
const SEND_MS = 1100;

if (form && list) start();

function start() {
  const by = form.elements.by ?? { value: "", reportValidity: () => true }; // a person who is logged in has a name
  const status = document.getElementById("status");
  const images = [...form.querySelectorAll("#to-label > li")].map(makeImage);
  const classes = new Map(); // by key
  const names = [...list.children].map((item) => item.dataset.name);
  const free = [...KEYS].filter((key) => !names.includes(key));
  const selected = new Set();
  // A change: image, label (null to undo), label before; once it is sent, whether the label was added to those of this person.
  const done = []; // what can be undone: lists of changes
  const unsent = []; // changes in the order to send
  let current = 0;
  let anchor = 0;
  let timer = null;
  let sending = null;

  form.classList.add("live");
  document.getElementById("save")?.remove();
  [...list.children].forEach(makeButton);
  if (images.length) setCurrent(0);

  function makeImage(item, place) {
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-pressed", "false");
    const given = document.createElement("span");
    given.className = "given";
    button.append(item.querySelector("img"), item.querySelector(".caption"), given);
    item.replaceChildren(button);
    button.addEventListener("click", (event) => {
      if (event.shiftKey) selectTo(place);
      else toggle(place);
    });
    button.addEventListener("focus", () => { if (current !== place) setCurrent(place); });
    const { corpus, partition, row, label } = item.dataset;
    const image = { button, given, corpus, partition: Number(partition), row: Number(row), label: label || null };
    show(image);
    return image;
  }

  function show(image) {
    image.given.textContent = image.label ?? "";
    image.button.classList.toggle("labelled", image.label !== null);
  }

  function makeButton(item) {
    const name = item.dataset.name;
    const key = takeKey(name);
    const button = document.createElement("button");
    button.type = "button";
    if (key) {
      const sign = document.createElement("kbd");
      sign.textContent = key;
      button.append(sign, " ");
      button.setAttribute("aria-keyshortcuts", key);
    }
    button.append(...item.childNodes);
    item.replaceChildren(button);
    button.addEventListener("click", () => assign(name));
    if (key) classes.set(key, name);
  }

  function takeKey(name) {
    if (name.length !== 1 || !OWN.includes(name) || classes.has(name)) return free.shift();
    if (free.includes(name)) free.splice(free.indexOf(name), 1);
    return name;
  }

  function setCurrent(place, focus = false) {
    images[current]?.button.setAttribute("tabindex", "-1");
    images[current]?.button.classList.remove("current");
    current = place;
    images[place].button.setAttribute("tabindex", "0");
    images[place].button.classList.add("current");
    if (focus) images[place].button.focus();
  }

  function select(place, on) {
    if (on) selected.add(place);
    else selected.delete(place);
    images[place].button.setAttribute("aria-pressed", String(on));
  }

  function toggle(place) {
    setCurrent(place);
    anchor = place;
    select(place, !selected.has(place));
    report();
  }

  function selectTo(place) {
    clear();
    for (let at = Math.min(anchor, place); at <= Math.max(anchor, place); at++) select(at, true);
    setCurrent(place, true);
    report();
  }

  function clear() {
    [...selected].forEach((place) => select(place, false));
  }

  function report(text) {
    status.textContent = text ?? (selected.size ? `${selected.size} selected` : "");
  }

  function count(name, by) {
    const item = name && [...list.children].find((one) => one.dataset.name === name);
    const number = item?.querySelector(".count");
    if (number) number.textContent = (Number(number.textContent.replaceAll(",", "")) + by).toLocaleString("en");
  }

  function setLabel(image, label) {
    const total = document.getElementById("labelled");
    const more = Number(label !== null) - Number(image.label !== null);
    total.textContent = (Number(total.textContent.replaceAll(",", "")) + more).toLocaleString("en");
    count(image.label, -1);
    count(label, 1);
    image.label = label;
    show(image);
  }

  function assign(label) {
    if (!by.reportValidity() || !images.length) return;
    const places = selected.size ? [...selected].sort((a, b) => a - b) : [current];
    const changes = places.map((place) => ({ image: images[place], label, before: images[place].label }));
    for (const { image } of changes) setLabel(image, label);
    done.push(changes);
    unsent.push(...changes);
    clear();
    const next = Math.min(places.at(-1) + 1, images.length - 1);
    anchor = next;
    setCurrent(next, true);
    report();
    send();
  }

  async function undo() {
    const last = done.pop();
    if (!last) return report("Nothing to undo");
    if (sending) await sending;
    for (const change of last) {
      const { image, label, before } = change;
      setLabel(image, before);
      const place = unsent.indexOf(change);
      // A label that was not sent yet is only forgotten. One that was there already stays: undoing would remove one of before.
      if (place >= 0) unsent.splice(place, 1);
      else if (change.added) unsent.push({ image, label: null, before: label, undoes: change });
    }
    setCurrent(images.indexOf(last[0].image), true);
    report("Undone");
    send();
  }

  function body(entries) {
    return JSON.stringify({
      by: by.value,
      labels: entries.map(({ image: { corpus, partition, row }, label }) => ({ corpus, partition, row, label })),
    });
  }

  // Remove what one request can have: of an image once, since the server stores one label of it, and returns what it has then.
  function take() {
    const sent = unsent.map(({ image }) => image);
    const again = sent.findIndex((image, n) => sent.indexOf(image) < n);
    return unsent.splice(0, Math.min(again < 0 ? sent.length : again, 200));
  }

  function send(wait = SEND_MS) {
    if (timer === null && !sending && unsent.length) timer = setTimeout(() => { sending = post(); }, wait);
  }

  // Send the first labels; return whether they were stored.
  async function post() {
    timer = null;
    const entries = take();
    let wait = SEND_MS;
    let stored = false;
    try {
      const answer = await fetch(`${root}api/label`, {
        method: "POST", headers: { "Content-Type": "application/json" }, body: body(entries),
      });
      const result = await answer.json().catch(() => ({ error: `status ${answer.status}` })); // a proxy sends pages
      if (answer.ok) {
        result.labels.forEach(({ label, added }, n) => {
          const change = entries[n];
          const { image } = change;
          // Of a request whose answer was lost the server may have stored all: then this one added nothing.
          change.added = added || (change.again && change.label !== change.before);
          if (!unsent.some((one) => one.image === image) && image.label !== label) setLabel(image, label);
        });
        form.dataset.saved = Number(form.dataset.saved ?? 0) + entries.length;
        stored = true;
        if (!unsent.length) report("Saved");
      } else {
        // What the server refuses would be refused again, but for a limit or a server that is down.
        if (answer.status !== 429 && answer.status < 500) {
          takeBack(entries);
          throw new Error(result.error);
        }
        wait = 1000 * Number(answer.headers.get("Retry-After") ?? 5);
        for (const change of entries) change.again = true;
        unsent.unshift(...entries);
        report(`Not saved yet: ${result.error}`);
      }
    } catch (error) {
      if (error instanceof TypeError) { // the server can't be reached
        for (const change of entries) change.again = true;
        unsent.unshift(...entries);
        wait = 5000;
        report("Not saved yet: the server does not answer");
      } else {
        report(`Not saved: ${error.message}`);
      }
    }
    sending = null;
    send(wait);
    return stored;
  }

  // Show what the images had before changes that the server refuses, and undo only what comes before or after these.
  function takeBack(entries) {
    for (const change of entries) {
      const later = unsent.find(({ image }) => image === change.image);
      if (later) later.before = change.before;
      else setLabel(change.image, change.before);
    }
    for (const step of done.splice(0)) {
      const kept = step.filter((change) => !entries.includes(change));
      if (kept.length) done.push(kept);
    }
    const again = entries.flatMap(({ undoes }) => undoes ?? []);
    if (again.length) done.push(again);
  }

  // Send all labels, then go on; where they can't be sent, stay: the status says why.
  async function leave(goOn) {
    if (sending && !(await sending)) return;
    while (unsent.length) {
      clearTimeout(timer);
      timer = null;
      if (!(await (sending = post()))) return;
    }
    goOn();
  }

  // Go to the next images; where labels took some out of the search, the next ones are on this page.
  async function goToNext() {
    const here = location.pathname + location.search;
    const gone = form.dataset.results && form.dataset.saved && !(await allStillMatch());
    location.assign(gone ? here : form.dataset.next);
  }

  async function allStillMatch() {
    try {
      const answer = await fetch(`${root}api/search${form.dataset.results}`);
      const { hits } = await answer.json();
      const matches = new Set(hits.map(placeOf));
      return images.every((image) => matches.has(placeOf(image)));
    } catch {
      return false; // to stay skips none
    }
  }

  function placeOf({ corpus, partition, row }) {
    return `${corpus}/${partition}/${row}`;
  }

  function addClass(name) {
    if (!/[^\p{Z}\p{C}]/u.test(name)) return; // nothing that is seen
    if (![...list.children].some((item) => item.dataset.name === name)) {
      const item = document.createElement("li");
      item.dataset.name = name;
      const text = document.createElement("span");
      text.className = "name";
      text.textContent = name;
      const number = document.createElement("span");
      number.className = "count";
      number.textContent = "0";
      item.append(text, " ", number);
      list.append(item);
      makeButton(item);
      for (const link of document.querySelectorAll(`main a[href^="${root}label"], link[rel=next]`)) link.href = withClass(link.href, name);
      form.dataset.next = form.dataset.next && withClass(form.dataset.next, name);
      history.replaceState(null, "", withClass(location.href, name));
    }
    if (selected.size) assign(name);
  }

  // Return a name as the server reads it: spaces other than the usual one stay.
  function tidy(name) {
    return name.replace(/[\t\r\n]/g, " ").split(" ").filter(Boolean).join(" ");
  }

  // Return a URL with the classes that are beside those of the corpus and its models, in the order of their keys, which so stay.
  function withClass(url, name) {
    const changed = new URL(url, location.href);
    const keyed = [...list.children].slice(0, KEYS.length).filter((item) => !("own" in item.dataset));
    const all = new Set([...keyed.map((item) => item.dataset.name), ...changed.searchParams.getAll("class"), name]);
    changed.searchParams.delete("class");
    for (const one of all) changed.searchParams.append("class", one);
    return changed.href;
  }

  document.getElementById("add").addEventListener("submit", (event) => {
    event.preventDefault();
    const box = event.target.elements.classes;
    addClass(tidy(box.value));
    box.value = "";
    if (images.length) images[current].button.focus();
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  document.getElementById("next")?.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    leave(goToNext);
  });
  document.getElementById("train")?.addEventListener("submit", (event) => {
    event.preventDefault();
    event.target.elements.by.value = by.value;
    leave(() => event.target.submit());
  });
  addEventListener("pagehide", () => {
    while (unsent.length) fetch(`${root}api/label`, { method: "POST", keepalive: true, headers: { "Content-Type": "application/json" }, body: body(take()) });
  });

  function move(key, shift) {
    const columns = Math.max(1, images.findIndex(({ button }) => button.offsetTop > images[0].button.offsetTop));
    const place = current + { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[key];
    if (!images[place]) return;
    if (shift) selectTo(place);
    else { setCurrent(place, true); anchor = place; }
  }

  document.addEventListener("keydown", (event) => {
    if (document.getElementById("keys").open || event.target.matches("input, textarea, select")) return;
    if (event.key.toLowerCase() === "z" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      undo();
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key.startsWith("Arrow") && images.length) {
      event.preventDefault();
      move(event.key, event.shiftKey);
    } else if (classes.has(event.key)) assign(classes.get(event.key));
    else if (event.key === "u") undo();
    else if (event.key === "a") {
      images.forEach((_, place) => select(place, true));
      report();
    } else if (event.key === "Escape") {
      clear();
      report();
    } else if (event.key === " " && event.target === document.body && images.length) {
      event.preventDefault();
      toggle(current); // on an image, the browser makes a click of it
    } else if (event.key === "Enter" && !event.target.closest("a, .classes, .help, .add")) {
      event.preventDefault();
      if (form.dataset.next) leave(goToNext);
    }
  });
}
