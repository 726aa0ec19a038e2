//! A PgBouncer of the run's own, as `config/pgbouncer.ini` sets it up.

use rustix::process::Signal;

use super::{
    postgres::Postgres,
    process::{Ready, Server, Spec, folder, free_port, program, put},
    shipped::changed,
};

const SHIPPED: &str = include_str!("../../../config/pgbouncer.ini");

/// Starts it before a PostgreSQL, and gives the URL by which nodes reach that.
pub(crate) async fn start(before: &Postgres) -> anyhow::Result<(Server, String)> {
    let folder = folder("pgbouncer")?;
    let port = free_port()?;
    let users = put(folder.path(), "userlist.txt", "\"postgres\" \"\"\n")?;
    let server = before.server.address();
    let database = format!("postgres = host={} port={} dbname=postgres ", server.ip(), server.port());
    let text = changed(
        SHIPPED,
        &[
            ("penstock = host=postgres port=5432 dbname=penstock ", &database),
            ("listen_addr = 0.0.0.0", "listen_addr = 127.0.0.1"),
            ("listen_port = 6432", &format!("listen_port = {port}")),
            ("auth_type = scram-sha-256", "auth_type = trust"),
            ("/etc/pgbouncer/userlist.txt", &users.display().to_string()),
        ],
    )?;
    let config = put(folder.path(), "pgbouncer.ini", &text)?;
    let url = format!("postgres://postgres@127.0.0.1:{port}/postgres");
    let spec = Spec {
        name: "PgBouncer",
        program: program("pgbouncer", "pgbouncer")?,
        args: vec![config.display().to_string()],
        port,
        ready: Ready::Postgres(url.clone()),
        end: Signal::KILL,
        as_owner: true,
    };
    Ok((Server::start(folder, spec).await?, url))
}
