//! The texts about tools in decisions.

use super::{ToolBody, ToolFeatures};

impl ToolFeatures<'_> {
    /// Returns the smallest rule that would allow this.
    pub(crate) fn suggestion(&self) -> String {
        let request = self.request;
        let server = request.server.as_ref().map_or_else(String::new, |server| {
            format!("servers = [{:?}], ", server.display())
        });
        format!(
            "an [[allow]] rule with what = \"tool\", {server}tools = [{:?}]",
            request.tool.display()
        )
    }
}

impl ToolBody {
    /// Returns what one of the names allows.
    pub(crate) fn example(&self, pattern: usize) -> Option<String> {
        let tool = self.tools.get(pattern)?;
        let one = Self {
            tools: vec![tool.clone()],
            ..self.clone()
        };
        Some(one.to_string())
    }
}
