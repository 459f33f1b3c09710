//! How safely an event is kept.

/// How safe the record of an event must be before the effect that it records may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// The kernel has it: it survives the death of this process, but not of the machine.
    Written,
    /// The disk has it (`fdatasync(2)`).
    Synced,
}
