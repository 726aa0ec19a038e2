//! What packages ship beside the binary, which makes it itself: completions, manual pages, the schema of the configuration.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

fn penstock(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_penstock")).args(arguments).output().unwrap()
}

fn printed(arguments: &[&str]) -> String {
    let output = penstock(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The commands, as the help lists them.
fn commands() -> Vec<String> {
    let help = printed(&["--help"]);
    let (_, list) = help.split_once("Commands:\n").unwrap();
    let (list, _) = list.split_once("\n\n").unwrap();
    // A line that begins further in goes on with a description.
    let lines = list.lines().filter_map(|line| line.strip_prefix("  ")).filter(|line| !line.starts_with(' '));
    let names = lines.filter_map(|line| line.split(' ').next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

/// What bash offers after these words, by the script that the binary prints.
fn completed(folder: &Path, words: &[&str]) -> Vec<String> {
    let script = folder.join("completions");
    fs::write(&script, printed(&["completions", "bash"])).unwrap();
    let complete = "source \"$1\"; shift; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); \
                    _penstock penstock \"${COMP_WORDS[COMP_CWORD]}\" \"${COMP_WORDS[COMP_CWORD - 1]}\"; echo \"${COMPREPLY[@]}\"";
    let output = Command::new("bash").args(["-c", complete, "bash"]).arg(script).args(words).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().split_whitespace().map(str::to_owned).collect()
}

#[test]
fn shells_complete_commands_and_flags() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(completed(folder.path(), &["penstock", "log-"]), ["log-level"]);
    assert_eq!(completed(folder.path(), &["penstock", "serve", "--da"]), ["--data-dir"]);
    assert_eq!(completed(folder.path(), &["penstock", "completions", "z"]), ["zsh"]);
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = printed(&["completions", shell]);
        let missing: Vec<_> = commands().into_iter().filter(|command| !script.contains(command.as_str())).collect();
        assert!(missing.is_empty(), "{shell}: {missing:?}");
    }
    assert!(!penstock(&["completions", "cmd"]).status.success());
}

#[test]
fn each_command_has_a_manual_page() {
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man1");
    assert_eq!(printed(&["man", pages.to_str().unwrap()]), "");
    let read = |name: &str| fs::read_to_string(pages.join(format!("{name}.1"))).unwrap();
    for command in commands() {
        let page = read(&format!("penstock-{command}"));
        assert!(page.contains(&format!(".TH penstock-{command} 1")), "{page}");
        assert!(page.contains(".SH DESCRIPTION"), "{page}");
    }
    assert_eq!(printed(&["man"]).trim_end(), read("penstock").trim_end());
    assert!(read("penstock-serve").contains("data\\-dir"));
    assert!(read("penstock-keys-rotate").contains("overlap"));
}

#[test]
fn the_schema_that_is_shipped_is_the_one_of_this_version() {
    let shipped = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/config/schema.json")).unwrap();
    assert!(printed(&["config-schema"]) == shipped, "run: penstock config-schema > config/schema.json");
}
