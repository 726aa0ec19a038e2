// Draws a graph of lineage with Cytoscape.js, which is loaded when the first graph is drawn.

let loading = null;

function library() {
  loading ??= new Promise((done, fail) => {
    document.head.append(Object.assign(document.createElement("script"), {
      src: "/dashboard/cytoscape.js", onload: () => done(window.cytoscape),
      onerror: () => { loading = null; fail(new Error("the library for graphs cannot be loaded")); },
    }));
  });
  return loading;
}

/** Draws into an element what flows where, from the left to the right; `choose` gets the id of a node that was clicked. */
export async function drawGraph(container, elements, centre, choose) {
  const cytoscape = await library();
  if (!container.isConnected) return;
  const theme = getComputedStyle(document.documentElement);
  const colour = (name) => theme.getPropertyValue(name).trim();
  const graph = cytoscape({
    container, elements, minZoom: 0.2, maxZoom: 3, boxSelectionEnabled: false,
    layout: { name: "breadthfirst", directed: true, direction: "rightward", spacingFactor: 1.1, padding: 24 },
    style: [
      { selector: "node", style: {
        label: "data(label)", color: colour("--text"), "font-size": 12, "text-valign": "bottom", "text-margin-y": 4, "text-wrap": "ellipsis", "text-max-width": 140,
        "background-color": colour("--a"), width: 26, height: 26 } },
      { selector: "node.job", style: { shape: "round-rectangle", "background-color": colour("--b") } },
      { selector: "node.centre", style: { "border-width": 4, "border-color": colour("--text") } },
      { selector: "edge", style: {
        width: 1.5, "curve-style": "bezier", "line-color": colour("--soft"), "target-arrow-color": colour("--soft"), "target-arrow-shape": "triangle" } },
    ],
  });
  // A small graph is not blown up.
  if (graph.zoom() > 1.25) graph.zoom(1.25).center();
  graph.getElementById(centre).addClass("centre");
  graph.on("tap", "node", (event) => choose(event.target.id()));
}
