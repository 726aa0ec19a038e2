"use strict";
// Plots over the time of the run. Every figure is in the JSON above; the tables are there without this script.
(function () {
  const report = JSON.parse(document.getElementById("report").textContent);
  const plots = document.getElementById("plots");
  const colours = ["#0969da", "#cf222e", "#1a7f37", "#9a6700", "#8250df", "#bf3989", "#57606a"];
  const open = report.phases.filter((phase) => phase.open && phase.open.series.length);

  // Between two phases the lines break.
  const points = open.flatMap((phase) => phase.open.series.concat([{ at: phase.open.series.at(-1).at + 1e-3 }]));
  const marks = open.map((phase) => ({ at: phase.open.beganSeconds, name: phase.name }));

  const faults = report.faults || [];
  const shades = ["#cf222e22", "#9a670022", "#8250df22", "#0969da22"];

  // What was stopped or paused is a shade over its time, and a phase a line at its beginning.
  const phaseMarks = {
    hooks: {
      drawClear: (plot) => {
        const { ctx, bbox } = plot;
        ctx.save();
        ctx.font = "12px sans-serif";
        ctx.textAlign = "left";
        faults.forEach((fault, index) => {
          const place = (at) => Math.min(Math.max(plot.valToPos(at, "x", true), bbox.left), bbox.left + bbox.width);
          const [from, to] = [place(fault.from), place(fault.to)];
          ctx.fillStyle = shades[index % shades.length];
          ctx.fillRect(from, bbox.top, Math.max(to - from, 2), bbox.height);
          ctx.fillStyle = "#57606a";
          ctx.fillText(fault.what, from + 4, bbox.top + 28 + (index % 4) * 14);
        });
        ctx.restore();
      },
      draw: (plot) => {
        const { ctx, bbox } = plot;
        ctx.save();
        ctx.strokeStyle = ctx.fillStyle = "#57606a";
        ctx.font = "12px sans-serif";
        ctx.textAlign = "left";
        for (const mark of marks) {
          const x = plot.valToPos(mark.at, "x", true);
          ctx.beginPath();
          ctx.moveTo(x, bbox.top);
          ctx.lineTo(x, bbox.top + bbox.height);
          ctx.stroke();
          ctx.fillText(mark.name, x + 4, bbox.top + 12);
        }
        ctx.restore();
      },
    },
  };

  function plot(title, unit, from, lines, log, along = "seconds") {
    const shown = lines.filter(([, of]) => from.some((point) => of(point) != null));
    if (!shown.length) return;
    const value = (of) => from.map((point) => of(point) ?? null);
    const round = (_, number) => (number == null ? "" : number.toFixed(2));
    new uPlot(
      {
        title,
        width: Math.min(1080, plots.clientWidth || 1080),
        height: 260,
        scales: { x: { time: false }, y: log ? { distr: 3 } : { range: (_, __, most) => [0, most * 1.1 || 1] } },
        axes: [{ label: along }, { label: unit, size: 70 }],
        plugins: along === "seconds" ? [phaseMarks] : [],
        series: [{ label: along, value: round }].concat(
          shown.map(([label], index) => ({
            label,
            stroke: colours[index % colours.length],
            width: 1.5,
            value: round,
            points: { show: from.length < 80 },
          })),
        ),
      },
      [from.map((point) => point.at), ...shown.map(([, of]) => value(of))],
      plots,
    );
  }

  const positive = (of) => (point) => (of(point) > 0 ? of(point) : null);
  plot("Latency over time", "ms, logarithmic", points, [
    ["first byte p50", positive((p) => p.firstByteP50Ms)],
    ["first byte p99", positive((p) => p.firstByteP99Ms)],
    ["last byte p99", positive((p) => p.lastByteP99Ms)],
  ], true);
  plot("Requests", "per second", points, [
    ["due", (p) => p.duePerSecond],
    ["done", (p) => p.donePerSecond],
    ["refused", (p) => p.refusedPerSecond],
    ["failed", (p) => p.failedPerSecond],
  ]);
  plot("Throughput", "MiB/s", points, [["MiB/s", (p) => p.mibPerSecond]]);

  // Percentiles of each phase, on the scale of nines.
  const nines = [[0.5, "p50"], [0.9, "p90"], [0.95, "p95"], [0.99, "p99"], [0.999, "p999"]];
  const ladder = nines.map(([share, key]) => ({ at: -Math.log10(1 - share), key }));
  plot("Last byte by percentile", "ms, logarithmic", ladder, report.phases.map((phase) => [
    phase.name, positive((step) => phase.totalMs[step.key]),
  ]), true, "nines: 1 is p90, 2 is p99, 3 is p99.9");
  plot("First byte by percentile", "ms, logarithmic", ladder, report.phases.map((phase) => [
    phase.name, positive((step) => phase.firstByteMs[step.key]),
  ]), true, "nines: 1 is p90, 2 is p99, 3 is p99.9");

  // Of a comparison: each round of each server, size by size.
  const rows = report.sideBySide ? report.sideBySide.rows : [];
  for (const size of [...new Set(rows.map((row) => row.size))]) {
    const servers = rows.filter((row) => row.size === size);
    const rounds = servers[0].rounds.map((_, index) => ({ at: index + 1, index }));
    const lines = (of) => servers.map((row) => [row.who, (round) => of(row.rounds[round.index])]);
    plot(`${size}: requests by round`, "per second", rounds, lines((round) => round.requestsPerSecond), false, "round");
    plot(`${size}: p99 by round`, "ms", rounds, lines((round) => round.p99Ms), false, "round");
  }

  const samples = report.samples;
  plot("The node: resident memory", "MiB", samples, [["resident", (s) => s.residentMib]]);
  plot("The node: processor", "cores", samples.slice(1).map((s, i) => ({
    at: s.at, cores: Math.max(0, s.cpuSeconds - samples[i].cpuSeconds) / (s.at - samples[i].at),
  })), [["cores", (s) => s.cores]]);
  plot("The node: files, threads, streams, connections", "", samples, [
    ["open files", (s) => s.openFiles], ["threads", (s) => s.threads],
    ["streams", (s) => s.streams], ["connections", (s) => s.connections],
  ]);
  const names = (of) => [...new Set(samples.flatMap((s) => Object.keys(of(s))))];
  plot("The node: use of its bounded queues", "% of the bound", samples,
    names((s) => s.inUsePercent).map((name) => [name, (s) => s.inUsePercent[name]]));
  plot("The node: connections to the database", "", samples,
    names((s) => s.pool).map((name) => [name, (s) => s.pool[name]]));
})();
