//! The document of the benchmarks, which has two parts: the one of `cargo xtask bench`, and behind it the one
//! of `cargo xtask load`. Each command writes its own.

/// The first line of the part about the load of a server; it reaches to the end.
pub(crate) const LOAD_HEAD: &str = "## Load of a server";

/// Returns the document with another part about load.
pub(crate) fn with_load(document: &str, load: &str) -> String {
    let front = document.split(LOAD_HEAD).next().unwrap_or_default();
    format!("{}\n\n{load}", front.trim_end())
}

/// Returns the document with another first part, and the part about load that it has.
pub(super) fn with_front(document: &str, front: &str) -> String {
    match document.split_once(LOAD_HEAD) {
        Some((_, load)) => with_load(front, &format!("{LOAD_HEAD}{load}")),
        None => front.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{LOAD_HEAD, with_front, with_load};

    #[test]
    fn each_part_is_written_without_the_other() {
        let load = |figure: &str| format!("{LOAD_HEAD}\n\n{figure}\n");
        let first = with_load("# Benchmarks\n\nrows\n", &load("one"));
        let second = with_load(&first, &load("two"));
        assert_eq!(
            second,
            "# Benchmarks\n\nrows\n\n## Load of a server\n\ntwo\n"
        );
        let anew = with_front(&second, "# Benchmarks\n\nother rows\n");
        assert_eq!(
            anew,
            "# Benchmarks\n\nother rows\n\n## Load of a server\n\ntwo\n"
        );
        assert_eq!(with_front("# Benchmarks\n", "new"), "new");
    }
}
