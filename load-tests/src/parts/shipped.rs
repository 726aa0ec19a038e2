//! Files of `config/`, with what an operator would change in them.

use anyhow::ensure;

/// Makes each change, which must have something to change: a file that has another form is not run with half of them.
pub(crate) fn changed(text: &str, changes: &[(&str, &str)]) -> anyhow::Result<String> {
    let mut text = text.to_owned();
    for (from, to) in changes {
        ensure!(text.contains(from), "the shipped file has no {from:?}");
        text = text.replace(from, to);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_that_changes_nothing_is_an_error() {
        assert_eq!(changed("a b", &[("a", "c")]).unwrap(), "c b");
        assert!(changed("a b", &[("d", "c")]).unwrap_err().to_string().contains("\"d\""));
    }
}
