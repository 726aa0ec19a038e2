//! The command line: one binary for the node, its operator, and its clients.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use penstock_actors::content::upload::Hashers;
use serde_json::json;
use tokio::runtime::Handle;

use crate::{
    adapters::files::WRITERS,
    config::{Config, Override, Sources},
    serve::{Server, signals::Signals},
    telemetry, wiring,
};
use working::Working;

mod adopt_store;
mod audit;
mod backup;
mod check;
pub mod client;
mod confirm_clock;
mod demo;
mod generate;
mod payments;
mod restore;
mod sweep;
mod usage;
mod working;

/// Threads that drive connections to the database and run short storage tasks.
const IO_WORKERS: usize = 2;

/// Threads for blocking reads, in addition to those that write and hash uploads: more than a disk can use at a time.
const IO_READERS: usize = 32;

/// A streaming node: content in, receipts, streams out, every byte accounted for
#[derive(Debug, Parser)]
#[command(name = "penstock", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node
    Serve(Settings),
    /// Run a node with sample content, and print commands to try it
    Demo(demo::DemoArgs),
    /// Migrate the database's schema to this version
    Migrate(Reported),
    /// Compare every quota window with its usage rows and leases
    Audit(Reported),
    /// Write a consistent copy of the database to a file while the node runs, with a list of its content beside it
    Backup(backup::BackupArgs),
    /// Replace the database with a copy that `penstock backup` has written, while no node runs
    Restore(restore::RestoreArgs),
    /// Declare that the database was restored: all leases of instances are released without a charge
    RestoreDone(Settings),
    /// Show usage that could not be settled, or the marks of a client in usage rows
    #[command(subcommand)]
    Usage(usage::UsageCommand),
    /// Show payments on chain, and hand their outputs to the payee's wallet
    #[command(subcommand)]
    Payments(payments::PaymentsCommand),
    /// Show what the Janitor would remove from the storage, or confirm it
    Sweep(sweep::SweepArgs),
    /// Mark a blob store as belonging to the database, after showing what was found
    AdoptStore(adopt_store::AdoptStoreArgs),
    /// Confirm that the database's clock is right, after it leapt or all instances were stopped for long
    ConfirmClock(Settings),
    /// Show the configuration in force, and whether each dependency answers
    Check(Reported),
    /// Print a script that completes this command line in a shell
    Completions(generate::CompletionsArgs),
    /// Print the manual page, or write the pages of all commands
    Man(generate::ManArgs),
    /// Print the JSON schema of the configuration file, for editors
    ConfigSchema,
    /// Print the OpenAPI document of the HTTP API
    Openapi,
    #[command(flatten)]
    Client(Box<client::ClientCommand>),
}

/// The sources of the settings.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Settings {
    /// The address to listen on [env: PENSTOCK_BIND] [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    bind: Option<String>,

    /// The folder for all data of the node [env: PENSTOCK_DATA_DIR] [default: ./data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// A configuration file in TOML [env: PENSTOCK_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// A command whose result scripts read too.
#[derive(Debug, Args)]
struct Reported {
    /// Print the result as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    settings: Settings,
}

impl Settings {
    fn load(&self) -> anyhow::Result<Config> {
        let mut sources = Sources { file: self.config.clone(), ..Sources::from_process() };
        if let Some(bind) = &self.bind {
            sources.overrides.push(Override { flag: "--bind", key: "server.bind", value: bind.clone() });
        }
        if let Some(dir) = &self.data_dir {
            let value = dir.to_str().context("--data-dir is not UTF-8")?.to_owned();
            sources.overrides.push(Override { flag: "--data-dir", key: "data.dir", value });
        }
        Ok(Config::load(&sources)?)
    }
}

impl Cli {
    /// Runs the command.
    ///
    /// # Errors
    /// The error to show the user; the exit code is then 1.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Client(command) => in_system(client::run(*command)).map(|()| ExitCode::SUCCESS),
            Command::Serve(settings) => {
                let config = settings.load()?;
                with_io(&config, async |io| Box::pin(serve(&config, &io)).await)
            }
            Command::Demo(args) => {
                let (config, folder) = args.load()?;
                let ended = with_io(&config, async |io| Box::pin(demo::run(&config, &io)).await);
                // Removed with all data of the demo.
                drop(folder);
                ended
            }
            Command::Migrate(Reported { json, settings }) => {
                let config = settings.load()?;
                with_io(&config, async |io| migrate(&config, &io, json).await)
            }
            Command::Audit(Reported { json, settings }) => {
                let config = settings.load()?;
                with_io(&config, async |io| audit::run(&config, &io, json).await)
            }
            Command::Backup(args) => {
                let config = args.settings.load()?;
                with_io(&config, async |_| backup::run(&config, &args.file))
            }
            Command::Restore(args) => {
                let config = args.settings.load()?;
                with_io(&config, async |io| restore::run(&config, &args.file, &io).await)
            }
            Command::RestoreDone(settings) => {
                let config = settings.load()?;
                with_io(&config, async |io| restore::done(&config, &io).await)
            }
            Command::Usage(usage::UsageCommand::Rejected(settings)) => {
                let config = settings.load()?;
                with_io(&config, async |io| usage::rejected(&config, &io).await)
            }
            Command::Usage(usage::UsageCommand::Client(args)) => {
                let config = args.settings.load()?;
                with_io(&config, async |io| usage::client(&args, &config, &io).await)
            }
            Command::Payments(command) => {
                let config = command.load()?;
                with_io(&config, async |io| payments::run(&command, &config, &io).await)
            }
            Command::Sweep(args) => {
                let config = args.settings.load()?;
                with_io(&config, async |io| sweep::run(&args, &config, &io).await)
            }
            Command::AdoptStore(args) => {
                let config = args.settings.load()?;
                with_io(&config, async |io| adopt_store::run(&args, &config, &io).await)
            }
            Command::ConfirmClock(settings) => {
                let config = settings.load()?;
                with_io(&config, async |io| confirm_clock::run(&config, &io).await)
            }
            Command::Completions(args) => generate::completions(&args),
            Command::Man(args) => generate::man(&args),
            Command::ConfigSchema => generate::config_schema(),
            Command::Openapi => generate::openapi(),
            Command::Check(Reported { json, settings }) => {
                let config = settings.load()?;
                with_io(&config, async |io| check::run(&config, &io, json).await)
            }
        }
    }
}

async fn migrate(config: &Config, io: &Handle, json: bool) -> anyhow::Result<ExitCode> {
    std::fs::create_dir_all(&config.data.dir)
        .with_context(|| format!("cannot make the data folder {}", config.data.dir.display()))?;
    let working = Working::at("migrating the schema");
    let applied = wiring::migrate(config, io).await?;
    drop(working);
    if json {
        return print(&json!({ "applied": applied }).to_string());
    }
    print(&match applied {
        0 => "the schema is up to date".to_owned(),
        count => format!("{count} migrations applied"),
    })
}

async fn serve(config: &Config, io: &Handle) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let server = Server::start(config, io, &mut signals).await?;
    announce(&server)?;
    server.run(signals).await.map(|()| ExitCode::SUCCESS)
}

/// Prints the admin key if it was just made, and then the node's address. Scripts wait for the address.
fn announce(server: &Server) -> anyhow::Result<()> {
    if let Some(secret) = &server.admin.secret {
        print(&format!("admin key: {secret} (kept in {})", server.admin.path.display()))?;
    }
    print(&format!("listening on {}", server.base_url())).map(drop)
}

/// Runs a command that works on a node's own data, with logs and with a runtime for connections and blocking work.
fn with_io(config: &Config, command: impl AsyncFnOnce(Handle) -> anyhow::Result<ExitCode>) -> anyhow::Result<ExitCode> {
    telemetry::logs::start(&config.log.level, config.log.format)?;
    let io = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(IO_WORKERS)
        .max_blocking_threads(IO_READERS + WRITERS + Hashers::threads())
        .thread_name("penstock-io")
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let ended = in_system(command(io.handle().clone()));
    // Work that still blocks must not keep the process alive: everything that matters was awaited.
    io.shutdown_background();
    ended
}

fn in_system<T>(command: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    actix_web::rt::System::new().block_on(command)
}

/// Prints a line to standard output, which holds the results of commands.
fn print(line: &str) -> anyhow::Result<ExitCode> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).context("cannot write to standard output")?;
    Ok(ExitCode::SUCCESS)
}
