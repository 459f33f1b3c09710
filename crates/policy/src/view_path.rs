//! Paths of the view as policies write them.

use crate::fields::shown;

/// Reads a path of the view, `~/…` or absolute, and returns its plain spelling: without empty
/// components, `.`, or a slash at the end. `..` is refused, because links change its meaning.
pub(crate) fn view_path(text: &str) -> Result<String, String> {
    let (root, rest) = match (text.strip_prefix("~/"), text.strip_prefix('/')) {
        (Some(rest), _) => ("~/", rest),
        (None, Some(rest)) => ("/", rest),
        (None, None) => {
            return Err(format!("`{}` must begin with `/` or `~/`", shown(text)));
        }
    };
    if text.contains('\0') || rest.split('/').any(|part| part == "..") {
        return Err(format!(
            "`{}` has a `..` or a NUL byte; write the path itself",
            shown(text)
        ));
    }
    if text.contains('*') {
        return Err(format!(
            "`{}`: what exists is fixed at launch, so no `*` here",
            shown(text)
        ));
    }
    let plain = plain(rest);
    if plain.is_empty() {
        let whole = if root == "/" { "machine" } else { "home" };
        let shown = shown(text);
        return Err(format!(
            "`{shown}` would be the whole {whole}; name what is needed"
        ));
    }
    Ok(format!("{root}{plain}"))
}

/// Removes empty components and `.`.
pub(crate) fn plain(path: &str) -> String {
    let parts = path
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".");
    parts.collect::<Vec<_>>().join("/")
}
