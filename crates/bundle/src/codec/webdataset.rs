//! Names in WebDataset tars: the files of a sample share a key and differ in the field after it.

/// Splits a name into key and field, before and after its first dot; `None` when either is missing.
pub fn split_name(path: &str) -> Option<(&str, &str)> {
    let name = path.rfind('/').map_or(0, |slash| slash + 1);
    let dot = path[name..].find('.').filter(|dot| *dot > 0)?;
    Some((&path[..name + dot], &path[name + dot + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_end_at_the_first_dot_of_the_name() {
        assert_eq!(split_name("a.b/0001.input.png"), Some(("a.b/0001", "input.png")));
        assert_eq!(split_name("./0001.cls"), Some(("./0001", "cls")));
        assert_eq!((split_name("README"), split_name("a/.hidden")), (None, None));
    }
}
