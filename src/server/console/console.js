// What does the console do? It asks the routes that everybody has, and shows what they answer.
//
// Invariant: whatever comes out of a document is put into the page as text, never as markup (`element` and `write` are the
// only ways in).
"use strict";

const LABELS = { dense: "meaning", text: "words", fused: "fused", rerank: "reranker" };
const MAP_COLOURS = 8;
const state = { collections: [], chosen: null, hits: [], drawn: null, at: -1, asked: 0 };
const $ = (id) => document.getElementById(id);

// An element with attributes (functions listen) and children, of which strings are text.
function element(tag, attributes = {}, ...children) {
  const svg = ["svg", "circle"].includes(tag);
  const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name, value);
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}
const write = (id, text) => { $(id).textContent = text; };
const number = (value) => Number(value).toLocaleString("en");
const plural = (count, what) => `${number(count)} ${what}${count === 1 ? "" : "s"}`;
const score = (value) => (Math.abs(value) >= 100 ? value.toFixed(1) : value.toFixed(3));
const shortened = (text) => (text.length > 48 ? `${[...text].slice(0, 48).join("")}…` : text);
function bytes(count) {
  const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; count >= 1024 && unit < units.length - 1; unit++) count /= 1024;
  return `${unit === 0 ? count : count.toFixed(1)} ${units[unit]}`;
}

// Asking.

const path = (...parts) => "/v1/" + parts.map(encodeURIComponent).join("/");
const key = () => sessionStorage.getItem("quiver-key");
const keyed = () => (key() ? { authorization: `Bearer ${key()}` } : {});

// JSON without loss: an integer beyond 2^53 is no number that JavaScript has, and the nearest one would be the id of another
// document. It becomes a BigInt where the browser tells how it was written.
const parsed = (text) => JSON.parse(text, (_, value, context) => {
  const lost = typeof value === "number" && Number.isInteger(value) && !Number.isSafeInteger(value);
  return lost && /^-?\d+$/.test(context?.source ?? "") ? BigInt(context.source) : value;
});
// A browser that makes BigInts of what it reads can write them, too.
const written = (value) => JSON.stringify(value, (_, part) => (typeof part === "bigint" ? JSON.rawJSON(String(part)) : part));
// Whether an id is the one that was sent.
const isExact = (id) => typeof id !== "number" || Number.isSafeInteger(id);

function refused(status, text) {
  if (status === 401) askForKey();
  try {
    const { message, code } = JSON.parse(text).error;
    return Object.assign(new Error(message), { status, code });
  } catch {
    return Object.assign(new Error(`the server answered ${status}`), { status });
  }
}

async function ask(method, url, body) {
  const headers = body === undefined ? keyed() : { ...keyed(), "content-type": "application/json" };
  const options = { method, headers, body: body === undefined ? undefined : written(body) };
  const answer = await fetch(url, options).catch(() => { throw new Error("the server cannot be reached"); });
  const text = await answer.text();
  if (!answer.ok) throw refused(answer.status, text);
  return text ? parsed(text) : null;
}

function askForKey() {
  $("key-open").hidden = false;
  if ($("key-form").hidden) {
    $("key-form").hidden = false;
    $("key").focus();
  }
}

// A document's address: a string of digits is another id than the number.
const documentPath = (id) => path("collections", state.chosen, "documents", id) + (typeof id === "string" ? "?id_type=string" : "");

// Collections.

async function refresh(wanted = state.chosen) {
  write("collections-state", "");
  try {
    state.collections = (await ask("GET", path("collections"))).collections;
  } catch (error) {
    write("collections-state", error.message);
    return;
  }
  const found = state.collections.find(({ name }) => name === wanted) ?? state.collections[0];
  const changed = state.chosen !== (found?.name ?? null);
  state.chosen = found?.name ?? null;
  if (changed) forget();
  showCollections();
  showChosen(found);
}

function forget() {
  Object.assign(state, { hits: [], drawn: null, at: -1 });
  $("hits").replaceChildren();
  $("map").replaceChildren();
  $("map-legend").replaceChildren();
  $("map-label").hidden = true;
  write("search-state", "");
}

function showCollections() {
  const items = state.collections.map(({ name, documents, chunks }) => element("li", {},
    element("button", { type: "button", "aria-current": String(name === state.chosen), click: () => refresh(name) },
      element("strong", {}, name),
      element("span", { class: "quiet" }, `${plural(documents, "document")}, ${plural(chunks, "chunk")}`))));
  $("collections").replaceChildren(...items);
}

function showChosen(stats) {
  $("welcome").hidden = Boolean(stats);
  $("collection").hidden = !stats;
  showCurl(stats?.name ?? "default");
  if (!stats) { $("adding").hidden = false; return; }
  write("name", stats.name);
  const facts = [["documents", number(stats.documents)], ["chunks", number(stats.chunks)], ["model", stats.model],
    ["dimensions", stats.dims], ["segments", stats.segments]];
  if (stats.bytes_on_disk) facts.push(["database on disk", bytes(stats.bytes_on_disk)]);
  if (stats.sealing_error) facts.push(["sealing failed", stats.sealing_error]);
  if (stats.reembedding) facts.push(["being made anew", `${number(stats.reembedding.documents)} of ${number(stats.reembedding.documents_total)}`]);
  $("numbers").replaceChildren(...facts.map(fact));
  const spaces = (stats.spaces ?? []).map(({ name }) => element("option", { value: name }, name));
  if (spaces.length !== $("map-space").length || state.drawn === null) $("map-space").replaceChildren(...spaces);
  $("map-space").parentElement.hidden = spaces.length < 2;
  if (stats.documents === 0 && !$("hits").children.length) write("search-state", "This collection is empty: drop files below, or send documents from a terminal.");
  showView(view(), false, stats.documents === 0);
}

const fact = ([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, String(value)));

function showCurl(name) {
  const auth = key() ? " -H \"Authorization: Bearer $KEY\"" : "";
  const line = `curl${auth} '${location.origin}${path("collections", name, "documents")}${state.chosen ? "" : "?create=true"}' \\\n  -H 'Content-Type: application/json' \\\n`
    + "  -d '{\"id\": \"first\", \"text\": \"A value can be borrowed many times for reading.\"}'";
  write("welcome-curl", line);
  write("curl", line);
  $("add-curl").hidden = $("welcome").hidden === false;
}

// Views.

const VIEWS = ["search", "add", "map"];
const view = () => VIEWS.find((name) => $(`tab-${name}`).getAttribute("aria-selected") === "true");

function showView(name, focus = false, empty = false) {
  for (const each of VIEWS) {
    const chosen = each === name;
    $(`tab-${each}`).setAttribute("aria-selected", String(chosen));
    $(`tab-${each}`).tabIndex = chosen ? 0 : -1;
    $(`view-${each}`).hidden = !chosen;
  }
  $("adding").hidden = !(name === "add" || (name === "search" && empty));
  if (focus) $(`tab-${name}`).focus();
  if (name === "map" && !state.drawn) draw();
}

function turnTabs(event) {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (step === undefined) return;
  event.preventDefault();
  showView(VIEWS[(VIEWS.indexOf(view()) + step + VIEWS.length) % VIEWS.length], true);
}

// Searching.

function question() {
  const asked = { query: $("query").value, limit: Number($("limit").value), mode: document.forms.search.mode.value, highlight: true };
  const filter = $("filter").value.trim();
  if (filter.startsWith("{")) {
    try { asked.filter = parsed(filter); } catch (error) { throw new Error(`the filter begins like JSON and is none: ${error.message}`); }
  } else if (filter) asked.filter = filter;
  if ($("rerank").value) asked.rerank = { model: $("rerank").value };
  if ($("group").checked) asked.group = true;
  if ($("explain").checked) asked.explain = true;
  return asked;
}

async function search(event) {
  event?.preventDefault();
  if (!$("query").value.trim()) { $("query").focus(); return; }
  const turn = ++state.asked;
  write("search-state", "Searching …");
  try {
    const found = await ask("POST", path("collections", state.chosen, "search"), question());
    // An answer that came late is not shown over a newer one.
    if (turn === state.asked) showFound(found);
  } catch (error) {
    if (turn !== state.asked) return;
    $("hits").replaceChildren();
    $("search-state").replaceChildren(element("span", { class: "error" }, error.message));
  }
}

function showFound({ hits, mode, degraded, timings_ms, plan }) {
  state.hits = hits;
  const times = Object.entries(timings_ms ?? {}).filter(([stage, ms]) => stage !== "total" && ms >= 0.005);
  const explained = $("explain").checked ? ": " + times.map(([stage, ms]) => `${stage} ${ms.toFixed(2)}`).join(", ") : "";
  const said = [hits.length ? `${plural(hits.length, "hit")} (${mode})` : "Nothing found. Fewer words, another mode or no filter may help"];
  if (timings_ms) said.push(`${timings_ms.total.toFixed(1)} ms${explained}`);
  if (plan?.length && $("explain").checked) said.push(`${plural(plan.length, "segment")} searched`);
  if (degraded) said.push(degraded);
  write("search-state", said.join(" · "));
  const largest = {};
  for (const stage of Object.keys(LABELS)) largest[stage] = Math.max(...hits.map(({ scores }) => scores[stage] ?? 0), 1e-9);
  $("hits").replaceChildren(...hits.map((hit) => card(hit, largest)));
  markHitsOnMap();
}

function card(hit, largest) {
  const place = [hit.heading, hit.page ? `page ${hit.page}` : "", `bytes ${number(hit.start)} to ${number(hit.end)}`];
  const tags = Object.entries(hit.metadata ?? {}).filter(([, value]) => value !== null && typeof value !== "object");
  return element("li", { class: "hit", tabindex: "0", "aria-label": `${hit.title ?? hit.document}, score ${score(hit.score)}`, keydown: hitKey },
    element("header", {}, element("h3", {}, hit.title ?? String(hit.document)), element("span", { class: "score", title: "score" }, score(hit.score))),
    element("p", { class: "where" }, [hit.title ? String(hit.document) : "", ...place].filter(Boolean).join(" · ")),
    element("p", { class: "passage" }, ...marked(hit.text, hit.highlights ?? [])),
    tags.length ? element("ul", { class: "tags" }, ...tags.slice(0, 8).map(([name, value]) => element("li", {}, `${name}: ${value}`))) : null,
    element("div", { class: "row" }, why(hit, largest), ...actions(hit)));
}

// What can be done with a hit's document; nothing where its id is not known for certain.
function actions(hit) {
  if (!isExact(hit.document)) return [element("span", { class: "quiet" }, "This browser cannot hold an id that large.")];
  return [element("button", { type: "button", class: "open", click: () => openDocument(hit.document, hit) }, "Open"),
    element("button", { type: "button", class: "danger", click: () => remove(hit.document) }, "Delete")];
}

// Text in pieces, those in ranges of bytes marked.
function marked(text, ranges) {
  const [encoder, decoder] = [new TextEncoder(), new TextDecoder()];
  const whole = encoder.encode(text);
  const pieces = [];
  let end = 0;
  for (const [from, to] of ranges) {
    if (from < end || to > whole.length) continue;
    pieces.push(decoder.decode(whole.subarray(end, from)), element("mark", {}, decoder.decode(whole.subarray(from, to))));
    end = to;
  }
  return [...pieces, decoder.decode(whole.subarray(end))];
}

function why({ scores, ranks }, largest) {
  const rows = Object.keys(LABELS).filter((stage) => scores[stage] !== undefined && scores[stage] !== null).flatMap((stage) => {
    const fill = element("div", { class: `fill ${stage}` });
    fill.style.width = `${Math.max(0, Math.min(1, scores[stage] / largest[stage])) * 100}%`;
    const rank = ranks?.[stage];
    const absent = stage === "dense" || stage === "text" ? "not a candidate" : "";
    return [element("span", {}, LABELS[stage]), element("div", { class: "bar" }, fill), element("span", {}, score(scores[stage])),
      element("span", { class: "rank" }, rank ? `rank ${rank}` : absent)];
  });
  return element("details", { open: $("explain").checked }, element("summary", {}, "Why here?"), element("div", { class: "stages" }, ...rows));
}

function hitKey(event) {
  const hit = event.currentTarget;
  const next = { ArrowDown: hit.nextElementSibling ?? hit, ArrowUp: hit.previousElementSibling ?? $("query") }[event.key];
  const own = event.target === hit;
  if (next) next.focus();
  else if (own && event.key === "Enter") hit.querySelector("details").open = !hit.querySelector("details").open;
  else if (own && event.key === "o") hit.querySelector(".open")?.click();
  else return;
  event.preventDefault();
}

// Documents.

async function openDocument(id, passage) {
  write("document-title", String(id));
  $("document-facts").replaceChildren();
  write("document-text", "Loading …");
  $("document").showModal();
  try {
    const found = await ask("GET", documentPath(id));
    write("document-title", found.title ?? String(id));
    const shown = Object.entries(found.metadata ?? {}).map(([name, value]) => [name, typeof value === "object" ? written(value) : value]);
    $("document-facts").replaceChildren(...[["id", id], ...shown].map(fact));
    const range = passage?.end > passage?.start ? [[passage.start, passage.end]] : [];
    $("document-text").replaceChildren(...marked(found.text ?? "", range));
    $("document-text").querySelector("mark")?.scrollIntoView({ block: "center" });
  } catch (error) {
    write("document-text", error.message);
  }
}

function confirmed(text) {
  write("confirm-text", text);
  $("confirm").returnValue = "";
  $("confirm").showModal();
  return new Promise((resolve) => $("confirm").addEventListener("close", () => resolve($("confirm").returnValue === "yes"), { once: true }));
}

async function remove(id) {
  if (!await confirmed(`Delete the document ${id} with all its passages? This cannot be undone.`)) return;
  try {
    await ask("DELETE", documentPath(id));
    state.drawn = null;
    await refresh();
    if (state.hits.length) await search();
  } catch (error) {
    $("search-state").replaceChildren(element("span", { class: "error" }, error.message));
  }
}

// Adding.

const KINDS = { txt: "text", md: "text", markdown: "text", json: "json", jsonl: "ndjson", ndjson: "ndjson", csv: "csv", parquet: "parquet" };
const TYPES = { json: "application/json", ndjson: "application/x-ndjson", csv: "text/csv", parquet: "application/vnd.apache.parquet" };

// What is sent for a file: its type and its body.
async function payload(file) {
  const kind = KINDS[file.name.split(".").pop().toLowerCase()];
  if (!kind) throw new Error("this page takes .txt, .md, .jsonl, .ndjson, .json, .csv and .parquet; `quiver add` takes more");
  // As it is: the browser reads it from the disk while it sends, so that its size does not matter.
  if (TYPES[kind]) return [TYPES[kind], file];
  const text = await file.text();
  const markdown = !file.name.toLowerCase().endsWith(".txt");
  const title = markdown ? /^#\s+(.+)$/m.exec(text)?.[1].trim() : undefined;
  const metadata = { source: file.name, media_type: markdown ? "text/markdown" : "text/plain", modified: new Date(file.lastModified).toISOString() };
  return [TYPES.json, JSON.stringify({ id: file.name, text, title, metadata })];
}

function send(url, type, body, progress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", url);
    request.setRequestHeader("content-type", type);
    for (const [name, value] of Object.entries(keyed())) request.setRequestHeader(name, value);
    request.upload.addEventListener("progress", (event) => progress(event.loaded, event.total));
    request.addEventListener("error", () => reject(new Error("the server cannot be reached, or it refused the file before all of it was sent")));
    request.addEventListener("load", () => {
      if (request.status >= 200 && request.status < 300) resolve(JSON.parse(request.responseText || "{}"));
      else reject(refused(request.status, request.responseText));
    });
    request.send(body);
  });
}

async function addFiles(files) {
  const name = state.chosen ?? "default";
  showView("add");
  for (const file of files) await addFile(name, file);
  state.drawn = null;
  await refresh(name);
}

async function addFile(name, file) {
  const url = `${path("collections", name, "documents")}${state.chosen ? "" : "?create=true"}`;
  const bar = element("progress", { max: "1", "aria-label": `sending ${file.name}` });
  const said = element("span", { class: "quiet" }, "reading");
  const line = element("li", {}, element("strong", {}, file.name), " ", said, bar);
  $("uploads").prepend(line);
  try {
    const [type, body] = await payload(file);
    const report = await send(url, type, body, (done, all) => {
      if (all) bar.value = done / all;
      said.textContent = done < all ? `${bytes(done)} of ${bytes(all)} sent` : "sent; the server embeds and stores";
    });
    said.textContent = reported(report);
    for (const { source, reason } of (report.rejected ?? []).slice(0, 20)) line.append(element("p", { class: "error" }, `${source}: ${reason}`));
  } catch (error) {
    said.textContent = "";
    line.append(element("p", { class: "error" }, error.message));
  }
  bar.remove();
}

function reported(report) {
  const counted = ["added", "replaced", "unchanged"].filter((what) => report[what]).map((what) => `${number(report[what])} ${what}`);
  const rejected = report.rejected_total ?? report.rejected?.length;
  if (rejected) counted.push(`${number(rejected)} rejected`);
  const time = report.seconds === undefined ? "" : ` in ${report.seconds.toFixed(2)} s`;
  return `${counted.join(", ") || "nothing to add"}${time}`;
}

function dropping(event) {
  if (![...(event.dataTransfer?.types ?? [])].includes("Files")) return;
  event.preventDefault();
  $("drop").classList.toggle("over", event.type === "dragover");
  if (event.type !== "drop") return;
  addFiles([...event.dataTransfer.files]);
}

// New collections.

function showNew(open) {
  $("new-form").hidden = !open;
  $("new-open").setAttribute("aria-expanded", String(open));
  write("new-error", "");
  (open ? $("new-name") : $("new-open")).focus();
}

async function create(event) {
  event.preventDefault();
  const [name, model] = [$("new-name").value.trim(), $("new-model").value];
  try {
    await ask("PUT", path("collections", name), model === "external" ? { model, dims: Number($("new-dims").value) } : { model });
  } catch (error) {
    write("new-error", error.message);
    return;
  }
  $("new-name").value = "";
  showNew(false);
  await refresh(name);
}

// The models that may be named; where the server does not tell, the one that it has in any case.
async function readModels() {
  const listed = await ask("GET", path("models")).catch(() => null);
  const models = listed?.data ?? [{ id: "builtin" }];
  const judges = (model) => model.quiverdb?.kind === "reranker";
  const options = models.filter((model) => !judges(model)).map(({ id }) => element("option", { value: id }, id));
  $("new-model").replaceChildren(...options, element("option", { value: "external" }, "none: documents bring vectors"));
  const rerankers = models.filter(judges).map(({ id }) => element("option", { value: id }, id));
  $("rerank").replaceChildren(element("option", { value: "" }, "none"), ...rerankers);
  $("rerank-label").hidden = rerankers.length === 0;
}

// The map.

async function draw() {
  const name = state.chosen;
  write("map-state", "Drawing …");
  const asked = new URLSearchParams();
  if ($("map-field").value) asked.set("field", $("map-field").value);
  if ($("map-space").value && $("map-space").value !== "default") asked.set("space", $("map-space").value);
  try {
    const drawn = await ask("GET", `${path("collections", name, "map")}?${asked}`);
    if (name === state.chosen) showMap(drawn);
  } catch (error) {
    $("map-state").replaceChildren(element("span", { class: "error" }, error.message));
  }
}

function showMap(drawn) {
  const { points, explained, sampled, chunks, fields } = drawn;
  Object.assign(state, { drawn, at: -1 });
  const percent = (share) => `${(share * 100).toFixed(1)} %`;
  const which = sampled ? `${number(points.length)} of ${plural(chunks, "passage")}` : plural(points.length, "passage");
  write("map-state", points.length ? `${which}. Near means alike; the two directions hold ${percent(explained[0])} and ${percent(explained[1])} of what differs.`
    : "There is nothing to draw: add documents first.");
  const field = $("map-field").value;
  $("map-field").replaceChildren(element("option", { value: "" }, "nothing"), ...(fields ?? []).map((each) => element("option", { value: each }, each)));
  $("map-field").value = (fields ?? []).includes(field) ? field : "";
  const colour = colours(points);
  const range = (axis) => [Math.min(...points.map((point) => point[axis])), Math.max(...points.map((point) => point[axis]))];
  const [[left, right], [top, bottom]] = [range("x"), range("y")];
  // The same scale along both axes, so that distances are true.
  const scale = Math.min(760 / (right - left || 1), 480 / (bottom - top || 1));
  // On a phone the map is drawn smaller, and a finger is not.
  const radius = (points.length > 800 ? 3 : points.length > 150 ? 4.5 : 6.5) * Math.max(1, 560 / ($("map").clientWidth || 800));
  points.forEach((point) => { point.left = 400 + (point.x - (left + right) / 2) * scale; point.top = 260 - (point.y - (top + bottom) / 2) * scale; });
  $("map").replaceChildren(...points.map((point, at) => element("circle", {
    cx: point.left.toFixed(1), cy: point.top.toFixed(1), r: radius, class: colour(point), pointerenter: () => showPoint(at), click: () => openPoint(at) })));
  $("map-label").hidden = true;
  markHitsOnMap();
}

// The classes of points by the value they have: the eight most frequent ones, and the rest.
function colours(points) {
  const counts = new Map();
  points.forEach(({ value }) => value !== undefined && counts.set(value, (counts.get(value) ?? 0) + 1));
  const values = [...counts].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)).slice(0, MAP_COLOURS).map(([value]) => value);
  const colour = (point) => (counts.size === 0 ? "c0" : `c${values.includes(point.value) ? values.indexOf(point.value) : MAP_COLOURS}`);
  const entry = (name, text) => element("li", {}, element("svg", { viewBox: "0 0 10 10", "aria-hidden": "true" }, element("circle", { cx: 5, cy: 5, r: 5, class: name })), ...text);
  const entries = values.map((value, at) => entry(`c${at}`, [element("bdi", {}, shortened(value)), ` (${number(counts.get(value))})`]));
  const others = points.filter((point) => !values.includes(point.value)).length;
  if (counts.size && others) entries.push(entry(`c${MAP_COLOURS}`, [`others or none (${number(others)})`]));
  $("map-legend").replaceChildren(...entries);
  return colour;
}

function markHitsOnMap() {
  if (!state.drawn) return;
  const found = new Set(state.hits.map((hit) => written([hit.document, hit.chunk])));
  state.drawn.points.forEach((point, at) => $("map").children[at].classList.toggle("hit-point", found.has(written([point.document, point.chunk]))));
}

function showPoint(at) {
  const { points } = state.drawn;
  $("map").children[state.at]?.classList.remove("at");
  state.at = at;
  const [point, label] = [points[at], $("map-label")];
  $("map").children[at].classList.add("at");
  const named = point.value === undefined ? [] : [element("span", { class: "quiet" }, `${$("map-field").value}: ${point.value}`)];
  label.replaceChildren(element("strong", {}, point.title ?? String(point.document)), point.text || "(no text)", " ", ...named);
  label.hidden = false;
  const [across, down] = [point.left / 800, point.top / 520];
  label.style.left = across < 0.5 ? `${across * 100 + 1.5}%` : "auto";
  label.style.right = across < 0.5 ? "auto" : `${(1 - across) * 100 + 1.5}%`;
  label.style.top = down < 0.5 ? `${down * 100 + 2}%` : "auto";
  label.style.bottom = down < 0.5 ? "auto" : `${(1 - down) * 100 + 2}%`;
}

function openPoint(at) {
  const point = state.drawn.points[at];
  if (!isExact(point.document)) return;
  openDocument(point.document, state.hits.find((hit) => hit.document === point.document && hit.chunk === point.chunk));
}

// The nearest point in the direction of an arrow.
function mapKey(event) {
  const points = state.drawn?.points ?? [];
  const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (!points.length || !(way || event.key === "Enter" || event.key === "Escape")) return;
  event.preventDefault();
  if (event.key === "Escape") { $("map-label").hidden = true; return; }
  if (state.at < 0) { showPoint(0); return; }
  if (!way) { openPoint(state.at); return; }
  const here = points[state.at];
  const cost = (point) => {
    const [right, down] = [point.left - here.left, point.top - here.top];
    const along = right * way[0] + down * way[1];
    // What lies beside the way is farther than what lies on it.
    return along > 0.01 ? along + 2 * Math.abs(right * way[1] + down * way[0]) : Infinity;
  };
  let best = state.at;
  let least = Infinity;
  points.forEach((point, at) => { const costs = cost(point); if (costs < least) [best, least] = [at, costs]; });
  showPoint(best);
}

// The page.

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
}

function theme() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const own = () => localStorage.getItem("quiver-theme");
  const follow = () => setTheme(own() ?? (dark.matches ? "dark" : "light"));
  dark.addEventListener("change", follow);
  follow();
  $("theme").addEventListener("click", () => {
    localStorage.setItem("quiver-theme", document.documentElement.dataset.theme === "dark" ? "light" : "dark");
    follow();
  });
}

function pageKey(event) {
  const typing = event.target.closest("input, select, textarea, dialog");
  if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey || !state.chosen) return;
  event.preventDefault();
  showView("search");
  $("query").focus();
  $("query").select();
}

function listen() {
  const on = (id, event, action) => $(id).addEventListener(event, action);
  on("search", "submit", search);
  on("query", "keydown", (event) => { if (event.key === "ArrowDown" && $("hits").firstElementChild) { event.preventDefault(); $("hits").firstElementChild.focus(); } });
  for (const id of ["group", "explain", "rerank"]) on(id, "change", () => $("query").value && search());
  document.getElementsByName("mode").forEach((mode) => mode.addEventListener("change", () => $("query").value && search()));
  VIEWS.forEach((name) => { on(`tab-${name}`, "click", () => showView(name)); on(`tab-${name}`, "keydown", turnTabs); });
  on("new-open", "click", () => showNew($("new-form").hidden));
  on("new-cancel", "click", () => showNew(false));
  on("new-form", "submit", create);
  on("new-model", "change", () => { $("new-dims-label").hidden = $("new-model").value !== "external"; });
  on("files", "change", async () => { const files = [...$("files").files]; $("files").value = ""; await addFiles(files); });
  on("document-close", "click", () => $("document").close());
  on("confirm-no", "click", () => $("confirm").close("no"));
  on("confirm-yes", "click", () => $("confirm").close("yes"));
  on("map", "keydown", mapKey);
  on("map-again", "click", draw);
  on("map-field", "change", draw);
  on("map-space", "change", draw);
  on("key-open", "click", askForKey);
  on("key-form", "submit", (event) => {
    event.preventDefault();
    sessionStorage.setItem("quiver-key", $("key").value.trim());
    $("key").value = "";
    $("key-form").hidden = true;
    start();
  });
  for (const event of ["dragover", "dragleave", "drop"]) document.addEventListener(event, dropping);
  document.addEventListener("keydown", pageKey);
}

async function start() {
  await refresh();
  await readModels();
  const version = await ask("GET", "/version").catch(() => null);
  if (version) write("version", version.version);
}

theme();
listen();
start();
