//! The scenarios that are files: built in, or the user's own.

use std::{fs, path::Path};

use anyhow::{Context, bail};

use crate::plan::Plan;

/// Those that are built in, by name.
const BUILT_IN: [(&str, &str); 12] = [
    ("steady", include_str!("../scenarios/steady.toml")),
    ("ten-thousand", include_str!("../scenarios/ten-thousand.toml")),
    ("ramp", include_str!("../scenarios/ramp.toml")),
    ("stampede", include_str!("../scenarios/stampede.toml")),
    ("slow-readers", include_str!("../scenarios/slow-readers.toml")),
    ("disconnects", include_str!("../scenarios/disconnects.toml")),
    ("uploads", include_str!("../scenarios/uploads.toml")),
    ("search", include_str!("../scenarios/search.toml")),
    ("lineage", include_str!("../scenarios/lineage.toml")),
    ("quota-contention", include_str!("../scenarios/quota-contention.toml")),
    ("faults", include_str!("../scenarios/faults.toml")),
    ("soak", include_str!("../scenarios/soak.toml")),
];

/// A scenario by its name, or from a file.
pub(crate) fn find(name: &str) -> anyhow::Result<Plan> {
    if let Some((name, text)) = BUILT_IN.iter().find(|(built_in, _)| *built_in == name) {
        return Plan::parse(name, text);
    }
    let path = Path::new(name);
    if path.extension().is_none_or(|extension| extension != "toml") {
        bail!("there is no scenario `{name}`: `list` shows those that are built in, and a file ends with .toml");
    }
    let text = fs::read_to_string(path).with_context(|| format!("cannot read the scenario {name}"))?;
    let stem = path.file_stem().map_or_else(|| name.into(), |stem| stem.to_string_lossy());
    Plan::parse(&stem, &text)
}

/// The file of a built-in scenario, to be edited.
pub(crate) fn text(name: &str) -> Option<&'static str> {
    BUILT_IN.iter().find(|(built_in, _)| *built_in == name).map(|(_, text)| *text)
}

/// Every built-in scenario.
pub(crate) fn all() -> impl Iterator<Item = anyhow::Result<Plan>> {
    BUILT_IN.iter().map(|(name, text)| Plan::parse(name, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_that_is_built_in_can_be_run() {
        for plan in all() {
            let plan = plan.unwrap();
            assert!(!plan.targets.is_empty(), "{} promises nothing", plan.name);
        }
    }

    #[test]
    fn a_scenario_of_the_users_own_is_read_from_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.toml");
        fs::write(&path, text("steady").unwrap()).unwrap();
        assert_eq!(find(path.to_str().unwrap()).unwrap().name, "mine");
        for (name, message) in [("nothing", "there is no scenario"), ("/nowhere/x.toml", "cannot read the scenario")] {
            let error = format!("{:#}", find(name).unwrap_err());
            assert!(error.contains(message), "{error}");
        }
    }
}
