//! What a user would pick instead of a node: nginx alone, nginx that asks Redis, and nginx that asks a service on PostgreSQL.

use std::{env, fmt::Write, path::Path};

use anyhow::{Context, ensure};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_postgres::NoTls;

use super::{Served, quota_service::TABLES};
use crate::{
    parts::{
        nginx,
        postgres::Postgres,
        process::{Ready, Server, Spec, folder, free_port, give},
        redis,
    },
    side_by_side::Who,
};

/// What no run reaches: it is the deciding that is measured.
const MOST_BYTES: u64 = 1 << 50;

/// Idle connections that each worker of nginx keeps to what it asks: as many as clients ask at a time.
const KEPT: usize = 64;

/// Where a rival records what it has let through.
enum Records {
    Nothing,
    Redis(Server),
    Postgres(Box<Postgres>),
}

/// A rival that runs. The receipts of a size are `SIZE-0`, `SIZE-1` and so on.
pub(crate) struct Rival {
    pub(crate) who: Who,
    pub(crate) nginx: Server,
    records: Records,
    service: Option<Server>,
}

impl Rival {
    /// With a file for each size, and receipts for each.
    pub(crate) async fn start(who: Who, sizes: &[Served], receipts: usize) -> anyhow::Result<Self> {
        let files = folder("nginx")?;
        for size in sizes {
            std::fs::write(files.path().join(&size.name), &size.content.bytes).context("cannot write a file")?;
        }
        match who {
            Who::NginxRedis => Self::asks_redis(files, sizes, receipts).await,
            Who::NginxAuthRequest => Self::asks_a_service(files, sizes, receipts).await,
            _ => {
                let http = http(files.path(), "", "", "");
                let nginx = nginx::start(files, &[], &http).await?;
                Ok(Self { who, nginx, records: Records::Nothing, service: None })
            }
        }
    }

    async fn asks_redis(files: TempDir, sizes: &[Served], receipts: usize) -> anyhow::Result<Self> {
        let redis = redis::start().await?;
        let mut commands = String::new();
        for (size, receipt) in all_receipts(sizes, receipts) {
            writeln!(commands, "HSET receipt:{receipt} bytes {} most {MOST_BYTES}\r", size.content.len())?;
        }
        let answers = ask_redis(&redis, &commands, sizes.len() * receipts).await?;
        ensure!(!answers.contains('-'), "Redis refuses a receipt: {answers}");
        let load = format!("*3\r\n$6\r\nSCRIPT\r\n$4\r\nLOAD\r\n${}\r\n{SCRIPT}\r\n", SCRIPT.len());
        let loaded = ask_redis(&redis, &load, 2).await?;
        let script = loaded.lines().nth(1).with_context(|| format!("Redis says {loaded}"))?;
        let before = "lua_package_path '/usr/share/lua/5.1/?.lua;;';";
        let http = http(files.path(), before, &lua(redis.address().port(), script), "");
        let modules =
            [("ndk_http_module.so", "libnginx-mod-http-ndk"), ("ngx_http_lua_module.so", "libnginx-mod-http-lua")];
        ensure!(
            Path::new("/usr/share/lua/5.1/nginx/redis.lua").is_file(),
            "the client of Redis for nginx is missing: on Debian, apt-get install lua-nginx-redis"
        );
        let nginx = nginx::start(files, &modules, &http).await?;
        Ok(Self { who: Who::NginxRedis, nginx, records: Records::Redis(redis), service: None })
    }

    async fn asks_a_service(files: TempDir, sizes: &[Served], receipts: usize) -> anyhow::Result<Self> {
        // Commits do not wait for the disk: the rival is given its fastest setting that survives a crash of its own processes.
        let postgres = Postgres::start(&["max_connections=100", "synchronous_commit=off"]).await?;
        let (client, connection) = tokio_postgres::connect(&postgres.url, NoTls).await?;
        tokio::spawn(connection);
        client.batch_execute(TABLES).await.context("cannot make tables")?;
        let insert = client.prepare("INSERT INTO receipts VALUES ($1, true, $2, $3)").await?;
        for (size, receipt) in all_receipts(sizes, receipts) {
            let (bytes, most) = (i64::try_from(size.content.len())?, i64::try_from(MOST_BYTES)?);
            client.execute(&insert, &[&receipt, &bytes, &most]).await?;
        }
        let port = free_port()?;
        let own = folder("quota-service")?;
        give(own.path())?;
        let spec = Spec {
            name: "the quota service",
            program: env::current_exe().context("cannot find this program's own file")?,
            args: vec!["quota-service".into(), format!("127.0.0.1:{port}"), postgres.url.clone()],
            port,
            ready: Ready::Listens,
            end: Signal::KILL,
            as_owner: false,
        };
        let service = Server::start(own, spec).await?;
        let before = format!("upstream quota {{ server 127.0.0.1:{port}; keepalive {KEPT}; keepalive_timeout 60s; }}");
        let http = http(files.path(), &before, "auth_request /quota;", ASK);
        let nginx = nginx::start(files, &[], &http).await?;
        Ok(Self {
            who: Who::NginxAuthRequest,
            nginx,
            records: Records::Postgres(Box::new(postgres)),
            service: Some(service),
        })
    }

    /// The first process of each of its servers.
    pub(crate) fn pids(&self) -> Vec<u32> {
        let recorder = match &self.records {
            Records::Nothing => None,
            Records::Redis(redis) => redis.pid(),
            Records::Postgres(postgres) => postgres.server.pid(),
        };
        [self.nginx.pid(), recorder, self.service.as_ref().and_then(Server::pid)].into_iter().flatten().collect()
    }

    /// The uses that it has recorded since the last look, which are then gone, as the reader of such a list takes them. `None` where it records
    /// nothing.
    pub(crate) async fn take_records(&self) -> anyhow::Result<Option<u64>> {
        match &self.records {
            Records::Nothing => Ok(None),
            Records::Redis(redis) => {
                let answers = ask_redis(redis, "LLEN usage\r\nUNLINK usage\r\n", 2).await?;
                let count = answers.lines().next().and_then(|line| line.trim().strip_prefix(':')?.parse().ok());
                Ok(Some(count.with_context(|| format!("Redis says {answers}"))?))
            }
            Records::Postgres(postgres) => {
                let (client, connection) = tokio_postgres::connect(&postgres.url, NoTls).await?;
                tokio::spawn(connection);
                let count: i64 = client.query_one("SELECT count(*) FROM usage", &[]).await?.get(0);
                client.batch_execute("TRUNCATE usage").await?;
                Ok(Some(u64::try_from(count)?))
            }
        }
    }
}

fn all_receipts(sizes: &[Served], receipts: usize) -> impl Iterator<Item = (&Served, String)> {
    sizes.iter().flat_map(move |size| (0..receipts).map(move |receipt| (size, format!("{}-{receipt}", size.name))))
}

/// Sends commands and gives the answers, as many as are expected.
async fn ask_redis(redis: &Server, commands: &str, answers: usize) -> anyhow::Result<String> {
    let mut stream = tokio::net::TcpStream::connect(redis.address()).await.context("Redis does not answer")?;
    stream.write_all(commands.as_bytes()).await?;
    let (mut told, mut buffer) = (String::new(), [0; 4096]);
    while told.matches("\r\n").count() < answers {
        let read = stream.read(&mut buffer).await?;
        ensure!(read > 0, "Redis closed the connection: {told}");
        told += &String::from_utf8_lossy(&buffer[..read]);
    }
    Ok(told)
}

/// The `http` block: files, an access log as a node writes one, and what decides.
fn http(folder: &Path, before: &str, decide: &str, beside: &str) -> String {
    let root = folder.display();
    format!(
        "    access_log {root}/access.log;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000000;
    {before}
    server {{
        listen LISTEN;
        root {root};
        location / {{ {decide} }}
        {beside}
    }}"
    )
}

/// Where nginx asks the service.
const ASK: &str = "location = /quota {
            internal;
            proxy_pass http://quota;
            proxy_http_version 1.1;
            proxy_pass_request_body off;
            proxy_set_header Content-Length '';
            proxy_set_header Connection '';
            proxy_set_header X-Original-URI $request_uri;
        }";

/// One atomic script: whether the receipt is known and its hour and its day have room; if so, both are counted, and a row of usage is put on a
/// list. Answers 0, or the status to refuse with.
const SCRIPT: &str = "
local receipt = redis.call('HMGET', KEYS[1], 'bytes', 'most')
if not receipt[1] then return 403 end
local bytes, most = tonumber(receipt[1]), tonumber(receipt[2])
for at = 2, 3 do
    if tonumber(redis.call('GET', KEYS[at]) or 0) + bytes > most then return 429 end
end
for at, seconds in pairs({ [2] = 7200, [3] = 172800 }) do
    if redis.call('INCRBY', KEYS[at], bytes) == bytes then redis.call('EXPIRE', KEYS[at], seconds) end
end
redis.call('RPUSH', 'usage', KEYS[1] .. ' ' .. bytes .. ' ' .. ARGV[1])
return 0";

/// The directive that asks Redis, over kept connections.
fn lua(port: u16, script: &str) -> String {
    format!(
        r#"access_by_lua_block {{
            local receipt = ngx.var.arg_receipt
            if not receipt then return ngx.exit(403) end
            local redis = require("nginx.redis"):new()
            redis:set_timeout(5000)
            if not redis:connect("127.0.0.1", {port}) then return ngx.exit(503) end
            local now = ngx.time()
            local hour = "hour:" .. receipt .. ":" .. math.floor(now / 3600)
            local day = "day:" .. receipt .. ":" .. math.floor(now / 86400)
            local decided, why = redis:evalsha("{script}", 3, "receipt:" .. receipt, hour, day, now)
            if not decided then
                ngx.log(ngx.ERR, why)
                return ngx.exit(503)
            end
            redis:set_keepalive(60000, {KEPT})
            if decided ~= 0 then return ngx.exit(decided) end
        }}"#
    )
}
