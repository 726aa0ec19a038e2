// The dashboard: reads the node's own figures as server-sent events, one a second, and draws the last five minutes.
//
// A snapshot is { at, values: { "metric|label": number }, times: { http|db|pool: { bounds, counts } } }. Counters only grow, so
// rates and percentiles are differences of two snapshots.
"use strict";

const KEPT = 300; // snapshots, one a second
const SPAN = 10; // seconds over which rates and percentiles are taken
const MB = 1e6;

const byId = (id) => document.getElementById(id);
const snapshots = [];
let health = null;

// ---- figures ----

const last = () => snapshots[snapshots.length - 1];
const before = (index, seconds) => snapshots[Math.max(0, index - seconds)];
const value = (shot, name) => shot.values[name] ?? 0;
const sum = (shot, prefix) => {
  let total = 0;
  for (const name in shot.values) if (name === prefix || name.startsWith(prefix + "|")) total += shot.values[name];
  return total;
};

/** Growth of counters per second up to a snapshot. A restarted node counts from zero. */
function rate(index, ...prefixes) {
  const to = snapshots[index], from = before(index, SPAN);
  const seconds = (to.at - from.at) / 1000;
  if (seconds <= 0) return 0;
  const growth = prefixes.reduce((total, prefix) => total + sum(to, prefix) - sum(from, prefix), 0);
  return Math.max(0, growth) / seconds;
}

/** The share of one growth in another; null when nothing happened. */
function share(index, part, whole) {
  const all = rate(index, ...whole);
  return all > 0 ? rate(index, ...part) / all : null;
}

/** A percentile of what was measured lately, by linear interpolation inside a bucket, as Prometheus does. */
function percentile(index, name, p) {
  const to = snapshots[index].times[name], from = before(index, SPAN).times[name];
  if (!to) return null;
  const counts = to.counts.map((count, i) => count - (from?.counts[i] ?? 0));
  const all = counts[counts.length - 1];
  if (all <= 0) return null;
  const wanted = all * p;
  for (let i = 0; i < counts.length; i++) {
    if (counts[i] < wanted) continue;
    if (i >= to.bounds.length) return to.bounds[to.bounds.length - 1];
    const low = i ? to.bounds[i - 1] : 0, below = i ? counts[i - 1] : 0;
    return low + (to.bounds[i] - low) * ((wanted - below) / Math.max(1e-9, counts[i] - below));
  }
  return null;
}

// ---- texts ----

const number = (n, digits = 0) => n.toLocaleString("en", { maximumFractionDigits: digits });
const bytes = (n) => n >= 1e9 ? number(n / 1e9, 2) + " GB" : n >= MB ? number(n / MB, 1) + " MB" : n >= 1e3 ? number(n / 1e3, 1) + " kB" : number(n) + " B";
const milliseconds = (s) => s === null ? "none measured" : number(s * 1000, s < 0.01 ? 2 : 0) + " ms";
const percent = (r) => r === null ? "none measured" : number(r * 100, 1) + " %";
const duration = (s) => s > 86400 * 2 ? number(s / 86400) + " days" : s > 7200 ? number(s / 3600) + " hours" : s > 120 ? number(s / 60) + " minutes" : number(s) + " seconds";

function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function row(parent, tag, id, make) {
  return parent.querySelector(`[data-id="${id}"]`) ?? (() => {
    const made = document.createElement(tag);
    made.dataset.id = id;
    make(made);
    parent.append(made);
    return made;
  })();
}

// ---- what fails next ----

const queue = (name, label) => ({
  id: "queue-" + name, label, limit: (s) => value(s, "penstock_admission_capacity|" + name),
  now: (i) => value(snapshots[i], "penstock_admission_in_use|" + name), text: (n) => number(n),
});

/** Each target: a limit that a figure stays below, or above where `least` says so. */
const TARGETS = [
  { id: "api", label: "Answers begin within (p95)", limit: () => 0.2, now: (i) => percentile(i, "http", 0.95), text: milliseconds },
  { id: "db", label: "Database statements (p95)", limit: () => 0.05, now: (i) => percentile(i, "db", 0.95), text: milliseconds },
  { id: "memory", label: "Resident memory", limit: () => 500 * MB, now: (i) => value(snapshots[i], "process_resident_memory_bytes"), text: bytes },
  { id: "hits", label: "Reads of content from memory", limit: () => 0.8, least: true, text: percent,
    now: (i) => share(i, ["penstock_content_cache_hits_total"], ["penstock_content_cache_hits_total", "penstock_content_cache_misses_total"]) },
  queue("streams", "Concurrent streams"),
  queue("usage", "Usage rows that wait for the database"),
  queue("quota", "Requests that wait for a quota decision"),
  queue("uploads", "Uploads"),
  { id: "pool", label: "Connections to the database in use", limit: (s) => sum(s, "penstock_db_pool_connections|primary|open"), text: (n) => number(n),
    now: (i) => snapshots[i].values["penstock_db_pool_connections|primary|open"] === undefined ? null
      : value(snapshots[i], "penstock_db_pool_connections|primary|open") - value(snapshots[i], "penstock_db_pool_connections|primary|idle") },
  { id: "files", label: "File descriptors", limit: (s) => value(s, "process_max_fds"), now: (i) => value(snapshots[i], "process_open_fds"), text: (n) => number(n) },
  { id: "disk", label: "Disk of the data folder", limit: (s) => value(s, "penstock_data_folder_size_bytes"), text: bytes,
    now: (i) => value(snapshots[i], "penstock_data_folder_size_bytes") - value(snapshots[i], "penstock_data_folder_free_bytes") },
];

/** How a target stands at the last snapshot. */
function standing(target) {
  const index = snapshots.length - 1;
  const limit = target.limit(last()), now = target.now(index);
  if (now === null || !limit) return { target, limit, now, used: null, state: "none", ends: null };
  // For a least value: how much of the allowed shortfall is used.
  const used = target.least ? (now >= 1 ? 0 : (1 - now) / (1 - limit)) : now / limit;
  const state = used >= 1 ? "bad" : used >= 0.8 ? "warn" : "good";
  return { target, limit, now, used, state, ends: ends(target, index, limit, now) };
}

/** Seconds until a growing figure reaches its limit, at the pace of the last minutes; null when it does not grow. */
function ends(target, index, limit, now) {
  if (target.least || index < 60 || now >= limit) return null;
  const then = target.now(Math.max(0, index - 240));
  if (then === null) return null;
  const seconds = (snapshots[index].at - before(index, 240).at) / 1000;
  const pace = (now - then) / seconds;
  // Slower than a hundredth of the limit in an hour is noise.
  return pace > limit / 360000 ? (limit - now) / pace : null;
}

const WORDS = { good: "good", warn: "near its limit", bad: "beyond its limit", none: "no figure" };

function showTargets() {
  const all = TARGETS.map(standing);
  for (const { target, limit, now, used, state, ends } of all) {
    const line = row(byId("targets"), "tr", target.id, (tr) => {
      tr.innerHTML = "<th scope=row></th><td></td><td></td><td><meter min=0 max=1 low=0.8 high=0.99 optimum=0></meter> <span></span></td><td></td><td></td>";
      tr.querySelector("th").textContent = target.label;
      tr.querySelector("meter").setAttribute("aria-label", target.label + ", share of the limit");
    });
    const cells = line.querySelectorAll("td");
    put(cells[0], limit ? (target.least ? "at least " : "at most ") + target.text(limit) : "none");
    put(cells[1], now === null ? "none measured" : target.text(now));
    cells[2].querySelector("meter").value = Math.min(1, used ?? 0);
    put(cells[2].querySelector("span"), used === null ? "" : percent(used));
    cells[3].className = state;
    put(cells[3], WORDS[state]);
    put(cells[4], ends === null ? "stays" : "full in " + duration(ends));
  }
  return all;
}

/** What is wrong now, the worst first: [severity, text]. */
function problems() {
  const shot = last(), index = snapshots.length - 1, found = [];
  const has = (name) => sum(shot, name) > 0;
  if (value(shot, "penstock_actors_alive") !== 1) found.push(["bad", "An actor is gone: this instance ends itself."]);
  if (health && health.status === "down") found.push(["bad", "Not ready: the balancer takes this instance out."]);
  if (has("penstock_usage_dropped_total")) found.push(["bad", "Usage was lost since the start: the log has each row."]);
  if (has("penstock_storage_quarantined")) found.push(["bad", "Contents without a good copy: " + number(sum(shot, "penstock_storage_quarantined")) + ". Readers get 503 for them."]);
  for (const name in shot.values) {
    const [metric, standing, tier] = name.split("|");
    if (metric === "penstock_store_standing" && shot.values[name] > 0 && !["own", "new", "unknown"].includes(standing))
      found.push(["bad", `The store of the tier ${tier} is ${standing}: nothing is written to it or removed from it.`]);
  }
  if (rate(index, "penstock_db_pool_refusals_total") > 0) found.push(["bad", "Statements get no connection to the database."]);
  if (rate(index, "penstock_usage_retries_total") > 0) found.push(["warn", "The database does not take usage: it waits in memory."]);
  if (has("penstock_redis_breakers_open")) found.push(["warn", "Redis does not answer: streams go on, and limits are counted by each instance alone."]);
  if (has("penstock_clock_in_doubt")) found.push(["warn", "The time is in doubt: nothing is removed or expired."]);
  if (has("penstock_quota_leases_unknown_bytes")) found.push(["warn", "The database has leases for this instance that it does not know of."]);
  if (has("penstock_usage_set_aside_total")) found.push(["warn", "Some usage waits for a decision: penstock usage rejected."]);
  if (has("penstock_janitor_left_alone")) found.push(["warn", "The Janitor left something to you: penstock sweep --dry-run."]);
  if (health && health.status === "degraded" && !found.length) found.push(["warn", "A dependency is degraded: see /health/ready."]);
  return found;
}

function showVerdict(all) {
  const found = problems();
  const over = all.filter((one) => one.state === "bad"), near = all.filter((one) => one.state === "warn");
  const worst = found.some(([severity]) => severity === "bad") || over.length ? "bad" : found.length || near.length ? "warn" : "good";
  const verdict = byId("verdict");
  verdict.className = "verdict " + worst;
  put(verdict.querySelector("b"), { good: "Healthy", warn: "Degraded", bad: "Unhealthy" }[worst]);
  const reason = found[0]?.[1] ?? (over[0] ? over[0].target.label + " is beyond its limit." : near[0] ? near[0].target.label + " is near its limit." : "All targets are met.");
  put(verdict.querySelector("span"), reason);
  const list = byId("problems"), texts = found.map(([, text]) => text);
  if (list.dataset.texts !== texts.join("\n")) {
    list.dataset.texts = texts.join("\n");
    list.replaceChildren(...texts.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
  }
  const fullest = all.filter((one) => one.used !== null).sort((a, b) => b.used - a.used)[0];
  const soonest = all.filter((one) => one.ends !== null).sort((a, b) => a.ends - b.ends)[0];
  put(byId("next"), soonest ? `${soonest.target.label}: full in ${duration(soonest.ends)} at this pace.`
    : fullest ? `Nothing grows. The fullest is: ${fullest.target.label}, ${percent(fullest.used)} of its limit.` : "No figure yet.");
}

// ---- now ----

const HITS = ["penstock_quota_hits_total"], DECISIONS = [...HITS, "penstock_quota_misses_total"];
const READS = ["penstock_content_cache_hits_total", "penstock_content_cache_misses_total"];

const NOW = [
  ["Streams", (i) => number(sum(snapshots[i], "penstock_streams_active")), (i) => number(rate(i, "penstock_streams_granted_total"), 1) + " begin a second"],
  ["Throughput", (i) => bytes(rate(i, "penstock_http_response_bytes_total")) + "/s", (i) => number(rate(i, "penstock_http_requests_total"), 1) + " requests a second"],
  ["Answers begin (p50, p95, p99)", (i) => milliseconds(percentile(i, "http", 0.95)), (i) => `${milliseconds(percentile(i, "http", 0.5))}, ${milliseconds(percentile(i, "http", 0.99))}`],
  ["Refused streams", (i) => number(rate(i, "penstock_streams_refused_total"), 1) + "/s", (i) => number(rate(i, "penstock_streams_revoked_total", "penstock_streams_cut_total"), 1) + " cut a second"],
  ["Quota decisions from memory", (i) => percent(share(i, HITS, DECISIONS)), (i) => number(rate(i, ...DECISIONS), 1) + " decisions a second"],
  ["Content from memory", (i) => percent(share(i, [READS[0]], READS)), (i) => bytes(rate(i, "penstock_content_read_bytes_total")) + "/s from storage"],
  ["Usage not settled", (i) => number(sum(snapshots[i], "penstock_usage_recorded_total") - sum(snapshots[i], "penstock_usage_settled_total") - sum(snapshots[i], "penstock_usage_set_aside_total")) + " rows",
    (i) => number(rate(i, "penstock_usage_settled_total"), 1) + " settled a second"],
  ["Memory", (i) => bytes(value(snapshots[i], "process_resident_memory_bytes")), (i) => number(rate(i, "process_cpu_seconds_total"), 2) + " processors busy"],
  ["5xx answers", (i) => number(rate(i, "penstock_http_requests_total|5xx"), 1) + "/s", (i) => percent(share(i, ["penstock_http_requests_total|5xx"], ["penstock_http_requests_total"])) + " of requests"],
  ["Instances", (i) => number(sum(snapshots[i], "penstock_instances")), () => "that the database knows"],
];

function showNow() {
  const index = snapshots.length - 1;
  for (const [label, figure, small] of NOW) {
    const card = row(byId("now"), "div", label, (div) => {
      div.append(Object.assign(document.createElement("dt"), { textContent: label }), document.createElement("dd"));
    });
    const dd = card.querySelector("dd");
    if (!dd.firstChild) dd.append(document.createTextNode(""), document.createElement("small"));
    const text = figure(index);
    if (dd.firstChild.data !== text) dd.firstChild.data = text;
    put(dd.querySelector("small"), small(index));
  }
}

// ---- charts ----

const CHARTS = [
  ["Streams", (n) => number(n), [["active", (i) => sum(snapshots[i], "penstock_streams_active")]]],
  ["Throughput", (n) => bytes(n) + "/s", [["bytes", (i) => rate(i, "penstock_http_response_bytes_total")]]],
  ["Time until answers begin", milliseconds, [["p50", (i) => percentile(i, "http", 0.5)], ["p95", (i) => percentile(i, "http", 0.95)], ["p99", (i) => percentile(i, "http", 0.99)]]],
  ["Database statements", milliseconds, [["p50", (i) => percentile(i, "db", 0.5)], ["p95", (i) => percentile(i, "db", 0.95)], ["p99", (i) => percentile(i, "db", 0.99)]]],
  ["Quota decisions a second", (n) => number(n, 1), [["admitted", (i) => rate(i, "penstock_streams_granted_total")], ["refused", (i) => rate(i, "penstock_streams_refused_total")], ["cut", (i) => rate(i, "penstock_streams_revoked_total", "penstock_streams_cut_total")]]],
  ["Answered from memory", percent, [["content", (i) => share(i, [READS[0]], READS)], ["quota", (i) => share(i, HITS, DECISIONS)]]],
  ["Queues: share in use", percent, ["streams", "usage", "quota", "uploads"].map((name) => [name, (i) => value(snapshots[i], "penstock_admission_in_use|" + name) / (value(snapshots[i], "penstock_admission_capacity|" + name) || 1)])],
  ["Usage rows a second", (n) => number(n, 1), [["recorded", (i) => rate(i, "penstock_usage_recorded_total")], ["settled", (i) => rate(i, "penstock_usage_settled_total")]]],
  ["Memory", bytes, [["resident", (i) => value(snapshots[i], "process_resident_memory_bytes")]]],
];
const COLOURS = ["--a", "--b", "--c", "--d"];
let plots = [];

function drawCharts() {
  for (const [plot] of plots) plot.destroy();
  byId("charts").replaceChildren();
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  plots = CHARTS.map(([title, text, lines]) => {
    const figure = document.createElement("figure");
    figure.append(Object.assign(document.createElement("figcaption"), { textContent: title }));
    byId("charts").append(figure);
    const axis = { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line"), width: 1 } };
    const plot = new uPlot({
      width: Math.max(240, figure.clientWidth - 20), height: 170, cursor: { y: false },
      scales: { y: { range: (_, low, high) => [Math.min(0, low ?? 0), high > 0 ? high * 1.1 : 1] } },
      axes: [axis, { ...axis, size: 78, values: (_, ticks) => ticks.map((tick) => text(tick)) }],
      series: [{}, ...lines.map(([label], n) => ({ label, stroke: colour(COLOURS[n]), width: 1.5, dash: n ? [8 - 2 * n, 2 + n] : undefined, spanGaps: true, value: (_, v) => v === null || v === undefined ? "none" : text(v) }))],
    }, [[], ...lines.map(() => [])], figure);
    plot.root.setAttribute("aria-hidden", "true");
    const words = document.createElement("p");
    words.className = "about";
    figure.append(words);
    return [plot, lines, text, words];
  });
}

function updateCharts() {
  if (document.hidden) return;
  const times = snapshots.map((shot) => shot.at / 1000), index = snapshots.length - 1;
  for (const [plot, lines, text, words] of plots) {
    plot.setData([times, ...lines.map(([, figure]) => snapshots.map((_, i) => i ? figure(i) : null))]);
    put(words, lines.map(([label, figure]) => { const now = figure(index); return `${label}: ${now === null ? "none" : text(now)}`; }).join(", "));
  }
}

// ---- the stream of snapshots ----

function take(shot) {
  // A node that was restarted counts from zero: what was before does not compare.
  if (snapshots.length && shot.started !== last().started) snapshots.length = 0;
  snapshots.push(shot);
  if (snapshots.length > KEPT) snapshots.shift();
  const board = byId("board");
  if (board.hidden && !screenName()) {
    board.hidden = false;
    drawCharts();
  }
  put(byId("about"), `Version ${shot.version}, node ${shot.node}, up for ${duration(shot.at / 1000 - shot.started)}`);
  const all = showTargets();
  showVerdict(all);
  showNow();
  updateCharts();
}

function lost(text) {
  const verdict = byId("verdict");
  verdict.className = "verdict bad";
  put(verdict.querySelector("b"), "No answer");
  put(verdict.querySelector("span"), text);
}

/** Ends the reading of figures, when they are another's to see. */
let reading = new AbortController();

/** Reads server-sent events with a header field for the session, which EventSource cannot send. */
async function listen() {
  reading = new AbortController();
  const answer = await fetch("/dashboard/events", { headers: csrf(), cache: "no-store", signal: reading.signal });
  if (!answer.ok) throw new Error("the node answers " + answer.status);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const silence = new Promise((_, fail) => setTimeout(() => fail(new Error("the node is silent")), 10000));
    const { value: part, done } = await Promise.race([reader.read(), silence]).catch((error) => { reader.cancel().catch(() => {}); throw error; });
    if (done) throw new Error("the node ended the connection");
    text += part;
    const events = text.split("\n\n");
    text = events.pop();
    for (const event of events) if (event.startsWith("data: ")) take(JSON.parse(event.slice(6)));
  }
}

// ---- screens ----

/** The screen that the address names: "" is the dashboard. */
const screenName = () => /^#\/(receipts|catalogue|lineage|quarantine)$/.exec(location.hash)?.[1] ?? "";
let shown = null;

/** Shows the screen of the address, or what it takes to see it. */
async function showScreen(said = "") {
  const name = screenName(), isOpen = name ? session !== null : figures;
  byId("sign-out").hidden = !session;
  for (const link of document.querySelectorAll("#screens a"))
    if (link.hash === "#/" + name) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  byId("sign-in").hidden = isOpen;
  byId("board").hidden = name !== "" || !isOpen || !snapshots.length;
  byId("screen").hidden = name === "" || !isOpen;
  put(byId("sign-in-error"), said);
  put(byId("session-error"), "");
  if (!isOpen) {
    shown = null;
    byId("screen").replaceChildren();
    if (name) byId("key").focus();
    return;
  }
  if (shown === name) return;
  shown = name;
  if (name) {
    byId("__________cytoscape_stylesheet").href = "/dashboard/console.css";
    (await import("/dashboard/console.js")).open(name, byId("screen"));
  } else if (snapshots.length) {
    drawCharts();
    updateCharts();
  }
}

let wake = () => {};
const nextSession = () => new Promise((resolve) => { wake = resolve; });

sessionChanged = (said) => {
  if (!figures) {
    snapshots.length = 0;
    reading.abort();
  }
  shown = null;
  showScreen(said);
  wake();
};

byId("sign-in").onsubmit = async (event) => {
  event.preventDefault();
  const entered = byId("key").value;
  byId("key").value = "";
  put(byId("sign-in-error"), "");
  put(byId("sign-in-error"), await signIn(entered));
};
byId("sign-out").onclick = async () => {
  put(byId("session-error"), await signOut());
};
addEventListener("hashchange", () => { if (location.hash.startsWith("#/") || !location.hash) showScreen(); });

async function watch() {
  for (let pause = 500; ;) {
    try {
      await askSession();
      showScreen();
      if (!figures) {
        const verdict = byId("verdict");
        verdict.className = "verdict unknown";
        put(verdict.querySelector("b"), "Sign in");
        put(verdict.querySelector("span"), "This node shows its figures to administrators.");
        await nextSession();
      }
      await listen();
      pause = 500;
    } catch (error) {
      if (error.name === "AbortError") continue;
      if (snapshots.length && Date.now() - last().at < 15000) pause = 500;
      lost(`The page tries again: ${error.message}.`);
      await new Promise((resolve) => setTimeout(resolve, pause));
      pause = Math.min(5000, pause * 2);
    }
  }
}

async function askHealth() {
  try {
    health = await (await fetch("/health/ready", { cache: "no-store" })).json();
  } catch {
    health = null;
  }
}

let resized = 0;
addEventListener("resize", () => {
  clearTimeout(resized);
  resized = setTimeout(() => { if (plots.length) { drawCharts(); if (snapshots.length) updateCharts(); } }, 200);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { if (plots.length) { drawCharts(); updateCharts(); } });
askHealth();
setInterval(askHealth, 5000);
watch();
