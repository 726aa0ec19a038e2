//! Whether a build may run on a schema that a later one has made.
//!
//! A newer build migrates while older ones still run, and an older one may have to come back. So the schema itself says what is the
//! least that a build must know of it, in the table `schema_floor`.

/// What a build and a schema know of each other, as numbers of migrations.
#[derive(Debug, Clone, Copy)]
pub(super) struct Versions {
    /// The newest migration that was applied.
    pub(super) schema: i64,
    /// The newest migration of this build.
    pub(super) build: i64,
    /// The least that the schema asks of a build; `None` where it does not say.
    pub(super) least: Option<i64>,
}

impl Versions {
    /// Whether a later build has migrated.
    pub(super) const fn is_later(self) -> bool {
        self.schema > self.build
    }

    /// Why this build may not run on the schema of a later one, if it may not.
    pub(super) fn refusal(self) -> Option<String> {
        let Self { schema, build, least } = self;
        if !self.is_later() || least.is_some_and(|least| least <= build) {
            return None;
        }
        let asked =
            least.map_or_else(|| "does not say that it may".to_owned(), |least| format!("asks for {least} at least"));
        Some(format!(
            "the schema is at version {schema}, of a later release; this build knows {build}, and the schema {asked}: start the later \
             release, or restore the database of before it"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_runs_on_a_later_schema_that_says_so_and_on_no_other() {
        let refusal = |schema, build, least| Versions { schema, build, least }.refusal();
        assert_eq!(refusal(20, 23, None), None, "it migrates");
        assert_eq!(refusal(23, 23, Some(23)), None);
        assert_eq!(refusal(25, 23, Some(23)), None);
        let refused = refusal(25, 23, Some(24)).expect("refused");
        assert!(["25", "23", "24"].iter().all(|number| refused.contains(number)), "{refused}");
        assert!(refusal(25, 23, None).is_some());
    }
}
