//! What packages ship beside the binary: completions, manual pages and the schema of the configuration. All of it is made from the
//! definitions that the program itself uses, so it cannot differ from them.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man;

use super::{Cli, print};
use crate::{config, http};

/// The name of the binary.
const NAME: &str = "penstock";

#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// Write the pages of all commands into this folder; without it, the main page is printed
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

pub(super) fn completions(args: &CompletionsArgs) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), NAME, &mut script);
    print(String::from_utf8(script)?.trim_end())
}

pub(super) fn man(args: &ManArgs) -> anyhow::Result<ExitCode> {
    if let Some(folder) = &args.folder {
        std::fs::create_dir_all(folder)
            .and_then(|()| clap_mangen::generate_to(Cli::command(), folder))
            .with_context(|| format!("cannot write the pages into {}", folder.display()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut page = Vec::new();
    // As in the pages of all commands: `penstock help` has none.
    Man::new(Cli::command().disable_help_subcommand(true)).render(&mut page)?;
    print(String::from_utf8(page)?.trim_end())
}

pub(super) fn config_schema() -> anyhow::Result<ExitCode> {
    print(&serde_json::to_string_pretty(&config::schema()?)?)
}

pub(super) fn openapi() -> anyhow::Result<ExitCode> {
    print(&serde_json::to_string_pretty(http::openapi::document())?)
}
