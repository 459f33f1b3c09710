//! `what = "file"`: the fields of a rule about files.

use super::FileBody;
use crate::{
    Access,
    fields::{Fields, File, did_you_mean, missing, shown, values},
    kinds::without_home,
    pattern::PathPattern,
};

/// The fields of such a rule other than the common ones.
pub(crate) const FIELDS: [&str; 2] = ["paths", "access"];

pub(crate) fn body(file: &mut File<'_>, fields: &Fields<'_>) -> Option<FileBody> {
    missing(file, fields, "paths", "for example [\"deploy/**\"]");
    let path = |text: &str| -> Result<Vec<PathPattern>, String> {
        without_home(text)?;
        let pattern = PathPattern::parse(text).map_err(|error| error.to_string())?;
        let directory = text.strip_suffix('/').map(|dir| dir.trim_end_matches('/'));
        let Some(directory) = directory.filter(|dir| !dir.is_empty()) else {
            return Ok(vec![pattern]);
        };
        // A slash at the end means the directory and everything below it.
        let below = PathPattern::parse(&format!("{directory}/**"));
        let itself = PathPattern::parse(directory);
        Ok(vec![
            itself.map_err(|error| error.to_string())?,
            below.map_err(|error| error.to_string())?,
        ])
    };
    let access = |text: &str| match text {
        "read" | "execute" => Err(format!(
            "not enforceable on this backend: what can be {text} is fixed at launch by \
             [filesystem]"
        )),
        _ => Access::ALL
            .into_iter()
            .find(|access| access.as_str() == text)
            .ok_or_else(|| {
                let names: Vec<&str> = Access::ALL.iter().map(|access| access.as_str()).collect();
                format!(
                    "`{}` is not one of {}{}",
                    shown(text),
                    names.join(", "),
                    did_you_mean(text, &names)
                )
            }),
    };
    let paths = fields.list(file, "paths", path).map(values);
    let paths = paths.map(|paths| paths.concat());
    let access = fields.list(file, "access", access).map(values);
    Some(FileBody {
        paths: paths?,
        access,
    })
}
