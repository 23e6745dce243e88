//! The order of versions.

use std::cmp::Ordering;

use super::Key;

/// Names in order, and each name's versions from the highest down.
pub(super) fn in_order(mut keys: Vec<Key>) -> Vec<Key> {
    keys.sort_by(|a, b| a.name.cmp(&b.name).then_with(|| by_version(&b.version, &a.version)));
    keys
}

/// `1.10` above `1.9`, and `2` above `1-rc`: parts between dots and dashes are compared as numbers
/// where both are.
pub(super) fn by_version(a: &str, b: &str) -> Ordering {
    let parts =
        |version: &str| version.split(['.', '-', '_']).map(str::to_owned).collect::<Vec<_>>();
    let (a, b) = (parts(a), parts(b));
    for (a, b) in a.iter().zip(&b) {
        let order = match (a.parse::<u64>(), b.parse::<u64>()) {
            (Ok(a), Ok(b)) => a.cmp(&b),
            (Ok(_), Err(_)) => Ordering::Greater,
            (Err(_), Ok(_)) => Ordering::Less,
            (Err(_), Err(_)) => a.cmp(b),
        };
        if order.is_ne() {
            return order;
        }
    }
    a.len().cmp(&b.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_people_count() {
        let mut versions = ["10", "9", "1.2", "1.10", "rc", "2-beta"];
        versions.sort_by(|a, b| by_version(a, b));
        assert_eq!(versions, ["rc", "1.2", "1.10", "2-beta", "9", "10"]);
    }
}
