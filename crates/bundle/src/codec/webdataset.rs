//! Names in WebDataset tars: files of one sample share a key and differ in the field behind it.

/// Key and field: before and behind the first dot of the name; `None` for a name that has no key or no field.
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
