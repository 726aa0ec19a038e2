//! A node beside what a user would pick instead, in one run: the same files, the same load, in turns.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use http_body_util::{BodyExt, Full};
use serde_json::json;
use tempfile::TempDir;

use crate::{
    api::Api,
    args::CompareArgs,
    billing::{BillingReport, SETTLE_WITHIN},
    check::{self, Check},
    client::{Connection, Target},
    content::Content,
    live::Turns,
    parts::process::{folder, processor_time},
    report::{self, Report},
    server::OwnServer,
    side_by_side::{Round, Row, SideBySide, Who},
    size::Size,
};

pub(crate) mod quota_service;
mod rivals;
mod system_calls;
mod wrk;

use rivals::Rival;
use wrk::{Counted, Wrk};

/// The policy of the node's receipts, with a limit in every window.
const TIER: &str = "load-test-compare";

/// Before the first round each server serves each size for so long.
const WARM_UP: Duration = Duration::from_secs(1);

/// How long system calls are counted.
const COUNTING: Duration = Duration::from_secs(2);

/// Between two looks at the node's bill.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// A size that is compared.
pub(crate) struct Served {
    /// Without a space, for addresses.
    pub(crate) name: String,
    pub(crate) size: Size,
    pub(crate) content: Arc<Content>,
}

impl Served {
    fn new(size: Size) -> anyhow::Result<Self> {
        let name = size.to_string().to_lowercase().replace(' ', "-");
        Ok(Self { name, size, content: Arc::new(Content::new(size.0, usize::try_from(size.0)?)) })
    }
}

/// A server that takes part, with its load for each size.
struct Contender {
    who: Who,
    base: String,
    pids: Vec<u32>,
    loads: Vec<Wrk>,
    /// What wrk has counted for each size.
    requests: Vec<u64>,
    /// Runs of wrk, at whose end its connections are cut.
    runs: Vec<u64>,
}

impl Contender {
    fn new(who: Who, base: String, pids: Vec<u32>, loads: Vec<Wrk>) -> Self {
        let count = loads.len();
        Self { who, base, pids, loads, requests: vec![0; count], runs: vec![0; count] }
    }

    /// One run of the load.
    async fn load(&mut self, size: usize, time: Duration) -> anyhow::Result<Counted> {
        let counted = self.loads[size].run(&self.base, time).await?;
        ensure!(counted.errors == 0, "{}: {} requests failed", self.who.name(), counted.errors);
        self.requests[size] += counted.requests;
        self.runs[size] += 1;
        Ok(counted)
    }

    async fn round(&mut self, size: usize, time: Duration) -> anyhow::Result<Round> {
        let (server, generator) = (processor_time(&self.pids), ended_children());
        let counted = self.load(size, time).await?;
        let (server, generator) = (processor_time(&self.pids) - server, ended_children() - generator);
        let seconds = counted.micros as f64 / 1e6;
        let each = |time: Duration| time.as_secs_f64() * 1e6 / counted.requests.max(1) as f64;
        Ok(Round {
            requests_per_second: counted.requests as f64 / seconds,
            mib_per_second: counted.bytes as f64 / f64::from(1 << 20) / seconds,
            p50_ms: counted.p50_micros / 1000.0,
            p99_ms: counted.p99_micros / 1000.0,
            server_micros: each(server),
            generator_micros: each(generator),
        })
    }
}

/// Runs the comparison, prints the report and writes it where it is wanted.
pub(crate) async fn run(args: &CompareArgs) -> anyhow::Result<Report> {
    report::warn_of_debug_build();
    let started = jiff::Timestamp::now().to_string();
    let sizes: Vec<Served> = args.sizes.iter().copied().map(Served::new).collect::<anyhow::Result<_>>()?;
    let scripts = folder("wrk")?;
    let mut rivals = Vec::new();
    for who in &args.against {
        rivals.push(Rival::start(*who, &sizes, args.receipts).await?);
    }
    let node = OwnServer::start(Vec::new()).await?;
    let api = Api::new(Target::new(node.address.clone()).await?, node.key.clone());
    let (paths, receipts) = prepare(&api, &sizes, args.receipts).await?;
    let mut contenders = Vec::new();
    for rival in &rivals {
        let paths = sizes.iter().map(|size| {
            (0..args.receipts).map(|receipt| format!("/{0}?receipt={0}-{receipt}", size.name)).collect::<Vec<_>>()
        });
        let loads = loads(&scripts, rival.who, &sizes, &paths.collect::<Vec<_>>(), args.connections)?;
        let base = format!("http://{}", rival.nginx.address());
        contenders.push(Contender::new(rival.who, base, rival.pids(), loads));
    }
    let node_loads = loads(&scripts, Who::Penstock, &sizes, &paths, args.connections)?;
    contenders.push(Contender::new(Who::Penstock, node.address.to_string(), vec![node.pid], node_loads));
    for contender in &contenders {
        for (size, load) in sizes.iter().zip(&contender.loads) {
            see(&contender.base, load.first(), size).await.with_context(|| contender.who.name())?;
        }
    }
    let (rows, mut checks) = measure(args, &sizes, &mut contenders, &rivals, &scripts).await?;
    let mut found = SideBySide {
        connections: args.connections,
        receipts: args.receipts,
        seconds: args.seconds.as_secs_f64(),
        rows,
        ratios: Vec::new(),
    };
    found.compare();
    checks.splice(0..0, found.checks());
    let contender = contenders.last().context("the node takes part")?;
    let billing = bill(&api, contender, &sizes, &receipts, args.connections).await?;
    let mut report = Report::new("compare", &api.target.address.to_string(), started, billing);
    report.checks = checks;
    report.side_by_side = Some(found);
    report.checks.push(check::ended(&node.stop().await));
    write!(std::io::stdout(), "{report}").context("cannot write to standard output")?;
    args.output.write(&report)?;
    Ok(report)
}

/// Stores the contents, makes receipts, and gives the addresses and the receipts of each size.
async fn prepare(api: &Api, sizes: &[Served], receipts: usize) -> anyhow::Result<(Vec<Vec<String>>, Vec<Vec<String>>)> {
    // Far above what a run streams: it is the deciding that is measured.
    let (bytes, requests) = (1_u64 << 50, 1_000_000_000_000_u64);
    let limits = json!({
        "bytesPerHour": bytes, "bytesPerDay": bytes, "bytesPerMonth": bytes,
        "requestsPerHour": requests, "requestsPerDay": requests, "requestsPerMonth": requests,
    });
    api.put_quota_policy(TIER, &limits).await?;
    let (mut paths, mut all) = (Vec::new(), Vec::new());
    for Served { name, content, .. } in sizes {
        api.put_content(content).await?;
        let version = api.make_asset(content, &format!("compare, {name}")).await?;
        let mut made = Vec::new();
        for _ in 0..receipts {
            made.push(api.make_receipt(&version, TIER).await?);
        }
        paths.push(made.iter().map(|id| format!("/v1/streaming/data/{}?receiptId={id}", content.hash)).collect());
        all.push(made);
    }
    Ok((paths, all))
}

fn loads(
    scripts: &TempDir,
    who: Who,
    sizes: &[Served],
    paths: &[Vec<String>],
    connections: usize,
) -> anyhow::Result<Vec<Wrk>> {
    let each = sizes.iter().zip(paths);
    each.map(|(size, paths)| Wrk::new(scripts.path(), &format!("{}-{}", who.name(), size.name), paths, connections))
        .collect()
}

/// Asks once and compares every byte, before a figure is believed.
async fn see(base: &str, path: &str, size: &Served) -> anyhow::Result<()> {
    let target = Target::new(base.parse()?).await?;
    let request = target.request("GET", path).body(Full::default())?;
    let response = Connection::open(&target, None).await?.send(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    ensure!(status == 200 && body == size.content.bytes, "{path}: {status} with {} bytes is wrong", body.len());
    Ok(())
}

/// The rounds, with the order of the servers rotated from one to the next, and then the system calls.
async fn measure(
    args: &CompareArgs,
    sizes: &[Served],
    contenders: &mut [Contender],
    rivals: &[Rival],
    folder: &TempDir,
) -> anyhow::Result<(Vec<Row>, Vec<Check>)> {
    let turns = Turns::begin(sizes.len() * contenders.len() * args.rounds);
    let mut rounds: BTreeMap<(usize, usize), Vec<Round>> = BTreeMap::new();
    for contender in contenders.iter_mut() {
        for size in 0..sizes.len() {
            contender.load(size, WARM_UP.min(args.seconds)).await?;
        }
    }
    for round in 0..args.rounds {
        for (size, served) in sizes.iter().enumerate() {
            for turn in 0..contenders.len() {
                let at = (turn + round) % contenders.len();
                let contender = &mut contenders[at];
                turns.show(&format!("round {}, {}, {}", round + 1, served.size, contender.who.name()));
                rounds.entry((size, at)).or_default().push(contender.round(size, args.seconds).await?);
            }
        }
    }
    let (mut rows, mut uncounted) = (Vec::new(), None);
    for ((size, at), rounds) in rounds {
        let contender = &mut contenders[at];
        turns.show(&format!("system calls, {}, {}", sizes[size].size, contender.who.name()));
        let system_calls = match calls(contender, size, folder).await {
            Ok(calls) => Some(calls),
            Err(error) => {
                uncounted = Some(format!("{error:#}"));
                None
            }
        };
        let Served { size, .. } = &sizes[size];
        rows.push(Row { who: contender.who, size: size.to_string(), size_bytes: size.0, rounds, system_calls });
    }
    turns.end();
    if let Some(error) = uncounted {
        eprintln!("system calls were not counted everywhere: {error}");
    }
    let mut checks = Vec::new();
    for (contender, rival) in contenders.iter().zip(rivals) {
        if let Some(recorded) = rival.take_records().await? {
            // Each size was also asked for once before. What was cut when a run ended may be recorded or not.
            let least = contender.requests.iter().sum::<u64>() + sizes.len() as u64;
            let most = least + contender.runs.iter().sum::<u64>() * args.connections as u64;
            checks.push(Check::new(
                format!("{} recorded every request", contender.who.name()),
                (least..=most).contains(&recorded),
                format!("{recorded} for {least}, and up to {} that were cut", most - least),
            ));
        }
    }
    Ok((rows, checks))
}

/// System calls for each request.
async fn calls(contender: &mut Contender, size: usize, folder: &TempDir) -> anyhow::Result<f64> {
    let pids = contender.pids.clone();
    let (calls, counted) = system_calls::count(&pids, folder.path(), contender.load(size, COUNTING)).await?;
    ensure!(counted.requests > 0, "no request ended while system calls were counted");
    Ok(calls as f64 / counted.requests as f64)
}

/// What the node has billed, beside what wrk has counted. At the end of each run wrk cuts what is under way, and the node charges what left it.
async fn bill(
    api: &Api,
    node: &Contender,
    sizes: &[Served],
    receipts: &[Vec<String>],
    connections: usize,
) -> anyhow::Result<BillingReport> {
    let mut report = BillingReport::empty();
    let deadline = Instant::now() + SETTLE_WITHIN;
    for (at, (size, receipts)) in sizes.iter().zip(receipts).enumerate() {
        let bytes = size.content.len();
        // One more was asked for before, and compared.
        let (least, cut) = (node.requests[at] + 1, node.runs[at] * connections as u64);
        let (mut billed_bytes, mut billed_requests);
        let agrees = loop {
            (billed_bytes, billed_requests) = (0, 0);
            for receipt in receipts {
                let window = api.month_of(receipt).await?;
                billed_bytes += window.bytes_used;
                billed_requests += window.requests_used;
            }
            let agrees = (least..=least + cut).contains(&billed_requests)
                && (least * bytes..=(least + cut) * bytes).contains(&billed_bytes);
            if agrees || Instant::now() > deadline {
                break agrees;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        };
        report.receipts += receipts.len();
        report.received_bytes += least * bytes;
        report.received_streams += least;
        report.unread_at_most += cut * bytes;
        report.billed_bytes += billed_bytes;
        report.billed_requests += billed_requests;
        if !agrees {
            report.differences.push(format!(
                "{}: {least} streams were received and up to {cut} cut, {billed_bytes} bytes in {billed_requests} streams billed",
                size.size
            ));
        }
    }
    Ok(report)
}

/// Processor time of the children of this process that have ended: the kernel adds up that of wrk when it has.
fn ended_children() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<u64> = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest.split_whitespace().skip(13).take(2).filter_map(|field| field.parse().ok()).collect())
        .unwrap_or_default();
    Duration::from_secs_f64(fields.iter().sum::<u64>() as f64 / rustix::param::clock_ticks_per_second() as f64)
}
