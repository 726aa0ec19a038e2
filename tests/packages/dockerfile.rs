//! The Dockerfile as a list of instructions.

use std::{fs, path::Path};

pub(crate) const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// An instruction, such as `COPY`, and what follows it.
pub(crate) type Instruction = (String, String);

/// The instructions, in order, with continued lines joined.
pub(crate) struct Dockerfile(Vec<Instruction>);

impl Dockerfile {
    pub(crate) fn read() -> Self {
        let text = fs::read_to_string(Path::new(ROOT).join("Dockerfile")).expect("a Dockerfile");
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
        let joined = lines.collect::<Vec<_>>().join("\n").replace("\\\n", " ");
        let parsed = |line: &str| {
            let (name, rest) = line.split_once(' ').unwrap_or_else(|| panic!("not an instruction: {line}"));
            (name.to_owned(), rest.trim().to_owned())
        };
        Self(joined.lines().map(parsed).collect())
    }

    /// The stage that becomes the image.
    pub(crate) fn last_stage(&self) -> &[Instruction] {
        let begin = self.0.iter().rposition(|(name, _)| name == "FROM").expect("a stage");
        &self.0[begin..]
    }

    /// The images that stages begin with, without those that other stages make.
    pub(crate) fn bases(&self) -> Vec<&str> {
        let froms: Vec<_> = self.0.iter().filter(|(name, _)| name == "FROM").map(|(_, rest)| &**rest).collect();
        let made: Vec<_> = froms.iter().filter_map(|from| from.split(" AS ").nth(1)).collect();
        froms.iter().filter_map(|from| from.split(' ').next()).filter(|base| !made.contains(base)).collect()
    }

    /// The only instruction of this name in the stage that becomes the image.
    fn only(&self, name: &str) -> &str {
        let mut found = self.last_stage().iter().filter(|(found, _)| found == name).map(|(_, rest)| &**rest);
        let only = found.next().unwrap_or_else(|| panic!("there is a {name}"));
        assert_eq!(found.next(), None, "there is one {name}");
        only
    }

    pub(crate) fn user(&self) -> &str {
        self.only("USER")
    }

    pub(crate) fn volume(&self) -> &str {
        self.only("VOLUME")
    }

    pub(crate) fn port(&self) -> &str {
        self.only("EXPOSE")
    }

    pub(crate) fn stop_signal(&self) -> &str {
        self.only("STOPSIGNAL")
    }

    /// The command that says whether the container is healthy.
    pub(crate) fn health_check(&self) -> Vec<String> {
        let (_, command) = self.only("HEALTHCHECK").split_once(" CMD ").expect("a command");
        serde_json::from_str(command).expect("a list of words")
    }

    /// What a container runs.
    pub(crate) fn command(&self) -> Vec<String> {
        let words = |name| serde_json::from_str::<Vec<String>>(self.only(name)).expect("a list of words");
        [words("ENTRYPOINT"), words("CMD")].concat()
    }

    pub(crate) fn env(&self) -> Vec<(String, String)> {
        let pairs = self.only("ENV").split(' ').map(|pair| pair.split_once('=').expect("NAME=VALUE"));
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }
}
