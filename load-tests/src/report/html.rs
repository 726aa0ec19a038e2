//! The report as one page that needs nothing else: tables that are there without scripts, and plots (uPlot, the library of the dashboard).

use std::fmt::Write;

use quick_xml::escape::escape;

use super::Report;
use crate::{check::Check, fault_report::FaultReport, measure::PhaseReport, open_report::OpenReport};

const UPLOT: &str = include_str!("../../../src/http/dashboard/page/vendor/uplot.min.js");
const UPLOT_STYLE: &str = include_str!("../../../src/http/dashboard/page/vendor/uplot.min.css");
const STYLE: &str = include_str!("html/report.css");
const SCRIPT: &str = include_str!("html/report.js");

/// The page. It is well-formed XML too, so any tool can read it.
pub(crate) fn page(report: &Report) -> anyhow::Result<String> {
    // Neither the end of the script nor that of the section can be in JSON that is written so.
    let data = serde_json::to_string(report)?.replace('<', "\\u003c").replace('>', "\\u003e");
    let verdict = if report.passed() { "passed" } else { "failed" };
    let name = escape(report.scenario.as_str());
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\" xmlns=\"http://www.w3.org/1999/xhtml\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width\"/>\n<title>{name}: {verdict}</title>\n\
         <style>{UPLOT_STYLE}\n{STYLE}</style>\n</head>\n<body>\n<h1>{name} <span class=\"{verdict}\">{verdict}</span></h1>\n\
         <p>{}, against {}</p>\n",
        escape(report.started.as_str()),
        escape(report.server.as_str())
    );
    checks(&mut page, &report.checks)?;
    side_by_side(&mut page, report)?;
    phases(&mut page, &report.phases)?;
    intervals(&mut page, &report.phases)?;
    faults(&mut page, report)?;
    bill(&mut page, report)?;
    page += "<div id=\"plots\"></div>\n";
    page += "<noscript><p>The plots need JavaScript.</p></noscript>\n";
    write!(
        page,
        "<script type=\"application/json\" id=\"report\">{}</script>\n\
         <script>//<![CDATA[\n{UPLOT}\n//]]></script>\n<script>//<![CDATA[\n{SCRIPT}//]]></script>\n</body>\n</html>\n",
        data.replace('&', "\\u0026")
    )?;
    Ok(page)
}

fn checks(page: &mut String, checks: &[Check]) -> std::fmt::Result {
    *page += "<h2>Checks</h2>\n<table><tr><th></th><th>promise</th><th>seen</th></tr>\n";
    for Check { promise, kept, seen } in checks {
        let verdict = if *kept { "passed" } else { "failed" };
        let (promise, seen) = (escape(promise.as_str()), escape(seen.as_str()));
        writeln!(page, "<tr><td class=\"{verdict}\">{verdict}</td><td>{promise}</td><td>{seen}</td></tr>")?;
    }
    *page += "</table>\n";
    Ok(())
}

fn side_by_side(page: &mut String, report: &Report) -> std::fmt::Result {
    let Some(found) = &report.side_by_side else { return Ok(()) };
    write!(
        page,
        "<h2>Side by side</h2>\n<p>{} connections, {} receipts for each size, {} s in each round, in turns; means of the rounds. Processor \
         time in microseconds for each request: of the server with all that it asks, and of the load generator, which shares the machine. \
         System calls for each request, counted apart by strace.</p>\n<table><tr><th>size</th><th>server</th><th>requests/s</th>\
         <th>MiB/s</th><th>p50 ms</th><th>p99 ms</th><th>server</th><th>generator</th><th>calls</th></tr>\n",
        found.connections, found.receipts, found.seconds
    )?;
    for row in &found.rows {
        write!(page, "<tr><td>{}</td><td>{}</td>", row.size, row.who.name())?;
        for (mean, digits) in row.means() {
            write!(page, "<td>{mean:.digits$}</td>")?;
        }
        let calls = row.system_calls.map_or_else(|| "not counted".to_owned(), |calls| format!("{calls:.1}"));
        writeln!(page, "<td>{calls}</td></tr>")?;
    }
    *page += "</table>\n<p>The node beside the others: ratios of the same round, with 95 % intervals.</p>\n<table><tr><th>size</th>\
              <th>beside</th><th>rate</th><th>p99</th></tr>\n";
    for ratio in &found.ratios {
        let (rival, size) = (ratio.rival.name(), &ratio.size);
        writeln!(page, "<tr><td>{size}</td><td>{rival}</td><td>{}</td><td>{}</td></tr>", ratio.rate, ratio.p99)?;
    }
    *page += "</table>\n";
    Ok(())
}

fn phases(page: &mut String, phases: &[PhaseReport]) -> std::fmt::Result {
    if phases.is_empty() {
        return Ok(());
    }
    *page += "<h2>Phases</h2>\n<p>Times in milliseconds. Where requests come at times of their own, each time is from the moment when \
              the request was due.</p>\n<table><tr><th>phase</th><th>seconds</th><th>requests</th><th>per s</th><th>MiB/s</th>\
              <th>refused</th><th>errors</th><th></th><th>p50</th><th>p90</th><th>p99</th><th>p99.9</th><th>max</th></tr>\n";
    for phase in phases {
        let errors: u64 = phase.faults.values().sum();
        let refused = phase.open.as_ref().map_or(0, |open| open.refused);
        write!(
            page,
            "<tr><td>{}</td><td>{:.1}</td><td>{}</td><td>{:.1}</td><td>{:.1}</td><td>{refused}</td><td>{errors}</td>",
            escape(phase.name.as_str()),
            phase.seconds,
            phase.requests,
            phase.requests_per_second,
            phase.mib_per_second
        )?;
        for (row, (what, times)) in
            [("first byte", &phase.first_byte_ms), ("last byte", &phase.total_ms)].into_iter().enumerate()
        {
            if row > 0 {
                *page += "<tr><td colspan=\"7\"></td>";
            }
            writeln!(
                page,
                "<td>{what}</td><td>{:.2}</td><td>{:.2}</td><td>{:.2}</td><td>{:.2}</td><td>{:.2}</td></tr>",
                times.p50, times.p90, times.p99, times.p999, times.max
            )?;
        }
        for (kind, count) in &phase.faults {
            writeln!(page, "<tr><td colspan=\"13\" class=\"failed\">{count} x {}</td></tr>", escape(kind.as_str()))?;
        }
    }
    *page += "</table>\n";
    Ok(())
}

fn intervals(page: &mut String, phases: &[PhaseReport]) -> std::fmt::Result {
    let open = || phases.iter().filter_map(|phase| Some((phase, phase.open.as_ref()?)));
    if open().all(|(_, open)| open.intervals.is_empty()) {
        return Ok(());
    }
    *page += "<h2>Means of batches</h2>\n<table><tr><th>phase</th><th>measure</th><th>mean</th><th>95 % from</th><th>to</th>\
              <th>batches</th></tr>\n";
    for (phase, OpenReport { intervals, .. }) in open() {
        for (measure, interval) in intervals {
            writeln!(
                page,
                "<tr><td>{}</td><td>{measure}</td><td>{:.2}</td><td>{:.2}</td><td>{:.2}</td><td>{}</td></tr>",
                escape(phase.name.as_str()),
                interval.mean,
                interval.low,
                interval.high,
                interval.batches
            )?;
        }
    }
    *page += "</table>\n";
    Ok(())
}

fn faults(page: &mut String, report: &Report) -> std::fmt::Result {
    if report.faults.is_empty() {
        return Ok(());
    }
    *page += "<h2>Faults</h2>\n<p>Seconds after the beginning of the run. The plots over time show them as shades.</p>\n\
              <table><tr><th>what</th><th>from</th><th>until it served again</th></tr>\n";
    for FaultReport { what, from, to, .. } in &report.faults {
        writeln!(page, "<tr><td>{}</td><td>{from:.1}</td><td>{to:.1}</td></tr>", escape(what.as_str()))?;
    }
    *page += "</table>\n";
    Ok(())
}

fn bill(page: &mut String, report: &Report) -> std::fmt::Result {
    let bill = &report.billing;
    writeln!(
        page,
        "<h2>Bill</h2>\n<p>{} receipts: received {} bytes in {} streams, billed {} bytes in {} requests. Clients that left may have \
         left up to {} bytes unread.</p>",
        bill.receipts,
        bill.received_bytes,
        bill.received_streams,
        bill.billed_bytes,
        bill.billed_requests,
        bill.unread_at_most
    )?;
    for difference in &bill.differences {
        writeln!(page, "<p class=\"failed\">{}</p>", escape(difference.as_str()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use quick_xml::{Reader, events::Event};

    use super::*;
    use crate::{
        billing::BillingReport,
        measure::{Phase, Tally},
        report::junit,
        side_by_side::tests::side_by_side,
        timeline::{Expected, Recorder},
    };

    fn report() -> Report {
        let mut phase = Phase::begin("a < b").end(&Tally::new());
        phase.faults.insert("lost: </script> & \"more\" ]]>".into(), 3);
        phase.open = Some(Recorder::new(Duration::from_secs(1), Expected::default()).report(false, Duration::ZERO));
        let billing = BillingReport { differences: vec!["receipt <1>".into()], ..BillingReport::empty() };
        let server = "http://127.0.0.1:1";
        let mut report = Report::new("mine & yours", server, "2026-01-02T03:04:05Z".into(), billing);
        report.phases = vec![phase];
        report.checks = vec![Check::new("kept", true, "yes"), Check::new("x < y", false, "\"z\"")];
        report.side_by_side = Some(side_by_side());
        report.faults = vec![FaultReport { what: "Redis stopped".into(), from: 1.0, to: 2.0, open_when_killed: 0 }];
        report
    }

    /// Every tag that begins ends, in the order of nesting; gives how often each name began.
    fn tags(text: &str) -> BTreeMap<String, usize> {
        let mut reader = Reader::from_str(text);
        reader.config_mut().check_end_names = true;
        let (mut found, mut depth) = (BTreeMap::new(), 0);
        loop {
            let name = match reader.read_event().unwrap() {
                Event::Start(tag) => {
                    depth += 1;
                    tag.name().as_ref().to_vec()
                }
                Event::Empty(tag) => tag.name().as_ref().to_vec(),
                Event::End(_) => {
                    depth -= 1;
                    continue;
                }
                Event::Eof => break,
                _ => continue,
            };
            *found.entry(String::from_utf8(name).unwrap()).or_default() += 1;
        }
        assert_eq!(depth, 0);
        found
    }

    #[test]
    fn the_page_is_well_formed_and_needs_nothing_else() {
        let page = page(&report()).unwrap();
        let tags = tags(&page);
        assert_eq!((tags["html"], tags["script"], tags["h1"]), (1, 3, 1), "{tags:?}");
        assert_eq!(page.matches("</script").count(), 3, "no text of the run ends a script");
        assert!(!page.contains("src=") && !page.contains("href=") && !page.contains("@import"), "nothing is loaded");
        assert!(page.contains("<td>Redis stopped</td><td>1.0</td>"));
        assert_eq!(page.matches("<td>nginx+redis</td>").count(), 4, "two rows and two ratios");
        assert!(page.contains("mine &amp; yours <span class=\"failed\">failed"));
        let data = page.split("id=\"report\">").nth(1).unwrap().split("</script>").next().unwrap();
        let data: serde_json::Value = serde_json::from_str(data).unwrap();
        assert_eq!(data["phases"][0]["faults"]["lost: </script> & \"more\" ]]>"], 3);
    }

    #[test]
    fn the_junit_report_is_well_formed_and_has_a_case_for_each_promise() {
        let suite = junit::suite(&report());
        let tags = tags(&suite);
        assert_eq!((tags["testcase"], tags["failure"]), (4, 3), "{suite}");
        assert!(suite.contains("tests=\"4\" failures=\"3\""), "{suite}");
    }
}
