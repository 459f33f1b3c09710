//! `what = "net"`: connections, HTTP requests on them, and names that are looked up; and the rules
//! about the meaning of requests (`what = "git"`), which are rules about hosts with one more condition.

mod below;
mod body;
mod features;
mod fit;
mod hosts;
mod index;
mod meaning;
mod probe;
mod read;
mod request;
mod terms;
mod words;

pub use below::Below;
pub(crate) use body::{HostAt, NetBody, Ports};
pub(crate) use features::{HttpFeatures, NetFeatures, Programs};
pub(crate) use index::HostIndex;
pub use meaning::{
    Age, Ecosystem, Forge, ForgeOperation, Git, GitOperation, HostedTool, Meaning, Model, Package,
    PackageOperation, PackagePart, Provider, RefChange, RefEffect,
};
pub(crate) use meaning::{Condition, Topic};
pub(crate) use probe::{Line, name_probe, probe};
pub(crate) use read::{FIELDS, SERVICE_FIELDS, body, bounds};
pub use request::{HttpRequest, HttpShown, NameRequest, NetRequest};
pub(crate) use request::{WEB_PORTS, endpoint_shape, twin_of};
pub(crate) use terms::RuleTerms;
pub use terms::{BytesMax, RequestsMax, Terms};
