//! `train-{000000..000099}.tar`, as people name the shards of a data set: braces with a range of
//! numbers or a list, which a shell would expand where they are not quoted.

use std::path::{Path, PathBuf};

use super::error::AugmentError;

/// Most paths of one pattern: what is beyond is a slip of the finger.
const MAX_PATHS: usize = 1_000_000;

/// The paths that a pattern stands for; a path without braces, or one that exists, is itself.
///
/// # Errors
/// When braces hold neither a range nor a list.
pub(super) fn expand(path: &Path) -> Result<Vec<PathBuf>, AugmentError> {
    let text = match path.to_str() {
        Some(text) if text.contains('{') && !path.exists() => text,
        _ => return Ok(vec![path.to_owned()]),
    };
    let mut done = vec![String::new()];
    let mut rest = text;
    while let Some((before, braces)) = rest.split_once('{') {
        let (inside, after) =
            braces.split_once('}').ok_or_else(|| wrong(text, "has { without }"))?;
        let words = words(inside)
            .ok_or_else(|| wrong(text, "must have {000..099} or {train,val} in its braces"))?;
        if done.len().saturating_mul(words.len()) > MAX_PATHS {
            return Err(wrong(text, "stands for more than a million paths"));
        }
        done = done
            .iter()
            .flat_map(|done| words.iter().map(move |word| format!("{done}{before}{word}")))
            .collect();
        rest = after;
    }
    Ok(done.into_iter().map(|done| PathBuf::from(done + rest)).collect())
}

fn wrong(text: &str, said: &str) -> AugmentError {
    AugmentError::Use(format!("the pattern {text} {said}"))
}

fn words(inside: &str) -> Option<Vec<String>> {
    let Some((first, last)) = inside.split_once("..") else {
        return inside.contains(',').then(|| inside.split(',').map(str::to_owned).collect());
    };
    let (low, high): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
    let width = if first.starts_with('0') { first.len() } else { 0 };
    let most = low.saturating_add(MAX_PATHS as u32);
    (low <= high)
        .then(|| (low..=high.min(most)).map(|number| format!("{number:0width$}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> Vec<String> {
        expand(Path::new(text)).unwrap().iter().map(|path| path.display().to_string()).collect()
    }

    #[test]
    fn ranges_keep_their_zeros_and_lists_their_words() {
        assert_eq!(expanded("a-{008..010}.tar"), ["a-008.tar", "a-009.tar", "a-010.tar"]);
        assert_eq!(
            expanded("{val,test}-{0..1}.tar"),
            ["val-0.tar", "val-1.tar", "test-0.tar", "test-1.tar"]
        );
        assert_eq!(expanded("plain.tar"), ["plain.tar"]);
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in ["a{1..}.tar", "a{}.tar", "a{b.tar", "a{3..1}.tar", "a{0..4294967295}.tar"] {
            assert!(expand(Path::new(text)).is_err(), "{text}");
        }
    }
}
