// The console's screens: receipts, catalogue, lineage, quarantine. Each is a few calls of the public API, which every client can make.
//
// Texts of others (names, descriptions) become text nodes, never HTML.
import { drawGraph } from "/dashboard/graph.js";

/** An element with properties and children; a child that is text stays text. */
export function el(tag, properties = {}, ...children) {
  const { data, ...rest } = properties;
  const made = Object.assign(document.createElement(tag), rest);
  for (const name in data) made.dataset[name] = data[name];
  made.append(...children.filter((child) => child !== null));
  return made;
}

const button = (text, onclick, properties = {}) => el("button", { type: "button", textContent: text, onclick, ...properties });
const moment = (text) => text ? el("time", { dateTime: text, textContent: new Date(text).toISOString().replace("T", " ").slice(0, 19) + " UTC" }) : "never";
const amount = (n) => n === null || n === undefined ? "no limit" : number(n);
const size = (n) => n === null || n === undefined ? "no limit" : bytes(n);

/** A table that scrolls by itself; `rows` are lists of cells, the first of which names its row. */
function table(label, columns, rows) {
  const line = (cells) => el("tr", {}, ...cells.map((cell, n) => n ? (cell instanceof HTMLTableCellElement ? cell : el("td", {}, cell)) : el("th", { scope: "row" }, cell)));
  const body = el("tbody", {}, ...rows.map(line));
  const head = el("thead", {}, el("tr", {}, ...columns.map((name) => el("th", { scope: "col" }, name))));
  const box = el("div", { className: "scroll", tabIndex: 0 }, el("table", {}, head, body));
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", label);
  return { box, add: (more) => body.append(...more.map(line)) };
}

const hash = (text) => el("td", { className: "hash" }, text);

/** A field with its label. */
function field(id, label, input, className = "") {
  input.id = id;
  return el("div", { className }, el("label", { htmlFor: id }, label), input);
}

function choice(values, chosen) {
  return el("select", {}, ...values.map((value) => el("option", { value, selected: value === chosen }, value)));
}

/** Shows other things in an element. The focus stays there if it was in what goes, so that a keyboard does not start over. */
function swap(parent, ...children) {
  const hadFocus = parent.contains(document.activeElement);
  parent.replaceChildren(...children);
  if (!hadFocus) return;
  parent.tabIndex = -1;
  parent.focus();
}

function say(text, isBad = false) {
  const said = document.getElementById("said");
  said.className = isBad ? "bad" : "";
  said.textContent = text;
}

/** Runs work of a person's, and says what becomes of it. */
async function doing(text, work) {
  say(text + " ..");
  try {
    say((await work()) ?? "");
  } catch (error) {
    say("Not done: " + error.message, true);
  }
}

/** A form that does something with its fields. */
function form(label, action, work, ...fields) {
  const made = el("form", { onsubmit: (event) => { event.preventDefault(); doing(label, work); } }, ...fields, el("button", { type: "submit" }, action));
  made.setAttribute("role", "search");
  made.setAttribute("aria-label", label);
  return made;
}

/** A button that adds the next page until there is none. */
function pages(next, load) {
  const more = button("Show more", () => doing("Loading", async () => {
    next = await load(next);
    more.hidden = !next;
  }), { hidden: !next });
  return more;
}

// ---- receipts ----

const REVOCABLE = ["pending", "confirmed", "settled", "consumed"];

function receipts(root) {
  const input = el("input", { required: true, autocomplete: "off", spellcheck: false });
  const found = el("div", { data: { id: "receipt" } });
  const look = async () => {
    const id = encodeURIComponent(input.value.trim());
    swap(found);
    const [receipt, quota, usage] = await Promise.all([
      call("GET", "/v1/receipts/" + id), call("GET", "/v1/streaming/quotas/" + id), call("GET", "/v1/streaming/usage?limit=50&receiptId=" + id),
    ]);
    showReceipt(found, id, receipt, quota, usage, look);
    return `The receipt is ${receipt.status}.`;
  };
  root.append(form("Looking the receipt up", "Look up", look, field("receipt-id", "Receipt id or token", input)), found);
}

function showReceipt(found, id, receipt, quota, usage, look) {
  const { activeStreams, maxAllowed } = quota.concurrent;
  const facts = [
    ["Status", receipt.status], ["Tier", receipt.quotaTier], ["Streams now", activeStreams === null ? "not known" : `${number(activeStreams)} of ${amount(maxAllowed)}`],
    ["Content", receipt.contentHash], ["Asset", receipt.versionId], ["Expires", moment(receipt.expiresAt)],
  ];
  const windows = ["hour", "day", "month"].map((name) => [name, quota.windows[name]]).map(([name, window]) => [
    name, `${size(window.bytesUsed)} of ${size(window.bytesAllowed)}`, size(window.bytesReserved), `${amount(window.requestsUsed)} of ${amount(window.requestsAllowed)}`,
    window.utilizationPercentage === null ? "no limit" : number(window.utilizationPercentage, 2) + " %", moment(window.windowEnd),
  ]);
  const row = (one) => [moment(one.startedAt), size(one.bytesSent), number(one.requests), one.outcome, el("td", {}, one.client ?? "not known"), hash(one.sessionId ?? "none")];
  const rows = table("Usage of the receipt", ["Started", "Bytes", "Requests", "Outcome", "Mark of the client", "Session"], usage.items.map(row));
  const more = pages(usage.nextCursor, async (cursor) => {
    const next = await call("GET", `/v1/streaming/usage?limit=50&receiptId=${id}&cursor=${cursor}`);
    rows.add(next.items.map(row));
    return next.nextCursor;
  });
  swap(found,
    el("h3", {}, "Receipt"),
    el("dl", { className: "facts" }, ...facts.flatMap(([name, value]) => [el("dt", {}, name), el("dd", { data: { fact: name } }, value)])),
    REVOCABLE.includes(receipt.status) ? button("Revoke", () => askRevoke(id, look), { className: "danger" }) : el("p", {}, "This receipt allows no streams."),
    el("h3", {}, "Windows"),
    table("Windows of the receipt", ["Window", "Bytes", "Reserved by instances", "Requests", "Used", "Ends"], windows).box,
    el("h3", {}, `Usage (${quota.settled ? "complete" : "some of it is not settled yet"})`),
    usage.items.length ? rows.box : el("p", {}, "There is no usage."), more,
  );
}

function askRevoke(id, look) {
  const dialog = el("dialog", {},
    el("h2", { id: "revoke-title" }, "Revoke this receipt?"),
    el("p", {}, "Its status becomes refunded. Running streams end within a second, and none begins again. There is no way back."),
    button("Revoke the receipt", () => {
      dialog.close();
      doing("Revoking", async () => {
        await call("PATCH", "/v1/receipts/" + id, { status: "refunded" });
        await look();
        return "The receipt is revoked.";
      });
    }, { className: "danger" }),
    button("Keep it", () => dialog.close(), { autofocus: true }),
  );
  dialog.setAttribute("aria-labelledby", "revoke-title");
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

// ---- catalogue ----

function catalogue(root) {
  const query = el("input", { type: "search", maxLength: 512, autocomplete: "off" });
  const found = el("div", { data: { id: "assets" } });
  const name = (asset) => asset.highlights?.name ? el("span", {}, ...asset.highlights.name.map((piece) => piece.hit ? el("mark", {}, piece.text) : piece.text)) : asset.name;
  const row = (asset) => [name(asset), el("td", { className: "text" }, asset.description || "none"), asset.mediaType, size(asset.sizeBytes), number(asset.priceSatoshis) + " sat", asset.datasetId ?? "none", moment(asset.createdAt), hash(asset.contentHash), hash(asset.versionId)];
  const search = async () => {
    const path = "/v1/catalog?limit=20&q=" + encodeURIComponent(query.value.trim());
    const page = await call("GET", path);
    const rows = table("Assets", ["Name", "Description", "Media type", "Size", "Price", "Dataset", "Published", "Content", "Asset"], page.items.map(row));
    const more = pages(page.nextCursor, async (cursor) => {
      const next = await call("GET", `${path}&cursor=${cursor}`);
      rows.add(next.items.map(row));
      return next.nextCursor;
    });
    swap(found, page.items.length ? rows.box : el("p", {}, "No asset matches."), more);
    return page.items.length ? (page.nextCursor ? "There are more than these." : `${number(page.items.length)} found.`) : "No asset matches.";
  };
  root.append(form("Searching the catalogue", "Search", search, field("catalogue-query", "Words; without any, the newest assets", query)), found);
}

// ---- lineage ----

function lineage(root) {
  const query = el("input", { type: "search", required: true, autocomplete: "off" });
  const depth = choice(["1", "2", "3", "4", "6", "10"], "4"), direction = choice(["both", "up", "down"], "both");
  const found = el("ul", { className: "found", data: { id: "nodes" } }), drawn = el("div", { data: { id: "lineage" } });
  const show = (id) => doing("Walking the graph", async () => {
    const walk = await call("GET", `/v1/openlineage/lineage?format=cyto&depth=${depth.value}&direction=${direction.value}&node=${encodeURIComponent(id)}`);
    const graph = el("div", { id: "graph" });
    graph.setAttribute("role", "img");
    const { nodes, edges } = walk.elements;
    graph.setAttribute("aria-label", `${number(nodes.length)} nodes and ${number(edges.length)} edges. The table below lists them.`);
    const flows = (id, from, to) => edges.filter((edge) => edge.data[from] === id).map((edge) => nodes.find((node) => node.data.id === edge.data[to])?.data.label).join(", ") || "none";
    const rows = nodes.map(({ data }) => [button(data.label, () => show(data.id)), data.kind, data.namespace, number(data.depth), flows(data.id, "target", "source"), flows(data.id, "source", "target"), moment(data.lastSeen)]);
    swap(drawn, graph, table("Nodes of the graph", ["Name", "Kind", "Namespace", "Steps away", "Reads from", "Writes to", "Last seen"], rows).box);
    await drawGraph(graph, walk.elements, id, show);
    return `${number(nodes.length)} nodes, ${number(edges.length)} edges${walk.stats.truncated ? "; the walk ended at a bound of this node" : ""}.`;
  });
  const search = async () => {
    const words = query.value.trim();
    swap(drawn);
    swap(found);
    if (/^(job|dataset):/.test(words)) return show(words);
    const { items } = await call("GET", "/v1/openlineage/search?limit=20&q=" + encodeURIComponent(words));
    swap(found, ...items.map((node) => el("li", {}, button(`${node.kind} ${node.name}`, () => show(node.id), { title: node.namespace }))));
    return items.length ? "Choose a job or a dataset." : "No job and no dataset has such a name.";
  };
  root.append(form("Searching lineage", "Search", search, field("lineage-query", "Name of a job or dataset, or its id", query),
    field("lineage-depth", "Steps", depth, "short"), field("lineage-direction", "Direction", direction, "short")), found, drawn);
}

// ---- quarantine ----

function quarantine(root) {
  const list = el("div", { data: { id: "quarantine" } }), details = el("div", { data: { id: "copies" } });
  const copies = (content) => doing("Reading the verifications", async () => {
    const { items } = await call("GET", `/v1/storage/verifications/${content}?limit=20`);
    const rows = items.map((one) => [moment(one.verifiedAt), one.tier, one.finding, one.type, `${amount(one.foundBytes)} of ${amount(one.expectedBytes)}`, hash(one.nodeId)]);
    swap(details, el("h3", {}, "Verifications of " + content), table("Verifications", ["At", "Tier", "Finding", "Cause", "Bytes", "Instance"], rows).box);
  });
  const verify = (content) => doing("Verifying", async () => {
    const result = await call("POST", "/v1/storage/verify/" + content);
    await load();
    return result.quarantined === false ? "The content is good again: readers get it." : `The content is ${result.status.replace("_", " ")}.`;
  });
  const row = (one) => {
    const about = (text, work) => {
      const made = button(text, () => work(one.contentHash));
      made.setAttribute("aria-label", `${text}: ${one.contentHash}`);
      return made;
    };
    return [el("span", { className: "hash" }, one.contentHash), moment(one.since), about("Show verifications", copies), about("Verify again", verify)];
  };
  const load = async () => {
    const page = await call("GET", "/v1/storage/quarantine?limit=50");
    const rows = table("Contents in quarantine", ["Content", "Since", "What was found", "After a repair"], page.items.map(row));
    const more = pages(page.nextCursor, async (cursor) => {
      const next = await call("GET", "/v1/storage/quarantine?limit=50&cursor=" + cursor);
      rows.add(next.items.map(row));
      return next.nextCursor;
    });
    swap(list, page.items.length ? rows.box : el("p", {}, "No content is in quarantine."), more);
  };
  root.append(el("p", {}, "These contents have no good copy. Readers get 503 for them until the same bytes are uploaded again, or a verification finds them good."), list, details);
  doing("Reading the list", load);
}

const SCREENS = { receipts: ["Receipts", receipts], catalogue: ["Catalogue", catalogue], lineage: ["Lineage", lineage], quarantine: ["Quarantine", quarantine] };

/** Shows a screen in an element, and moves the focus to its title. */
export function open(name, root) {
  const [title, make] = SCREENS[name];
  const heading = el("h2", { tabIndex: -1 }, title);
  const said = el("p", { id: "said" });
  said.setAttribute("role", "status");
  root.replaceChildren(heading, said);
  make(root);
  heading.focus();
}
