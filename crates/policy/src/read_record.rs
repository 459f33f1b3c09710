//! What the record of a session has, how large it becomes, and when it is on the disk.

use stockade_types::ByteSize;

use crate::{
    RecordContent, RecordSettings, RecordSync, RecordTerminal,
    fields::{Fields, File, as_organisation_says, ceiling, tighten_value},
};

/// The words for when the record is on the disk.
const SYNC: [(&str, RecordSync); 2] = [("second", RecordSync::Second), ("each", RecordSync::Each)];

/// The words for what the record keeps of what is said.
const CONTENT: [(&str, RecordContent); 4] = [
    ("full", RecordContent::Full),
    ("redacted", RecordContent::Redacted),
    ("digest", RecordContent::Digest),
    ("none", RecordContent::None),
];

/// The words for whether the terminal is recorded.
const TERMINAL: [(&str, RecordTerminal); 2] =
    [("off", RecordTerminal::Off), ("on", RecordTerminal::On)];

/// Reads `[record]` of one file into what the layers above it say.
pub(crate) fn read(file: &mut File<'_>, top: &Fields<'_>, record: &mut RecordSettings) {
    let known = [
        "journal_bytes_max",
        "denials_bytes_max",
        "sync",
        "content",
        "otlp",
        "terminal",
    ];
    let Some(table) = top.table(file, "record", &known) else {
        return;
    };
    let journal = table.parsed::<ByteSize>(file, "journal_bytes_max");
    ceiling(file, journal, &mut record.journal_bytes_max);
    let denials = table.parsed::<ByteSize>(file, "denials_bytes_max");
    ceiling(file, denials, &mut record.denials_bytes_max);
    let sync = table.word(file, "sync", &SYNC);
    tighten_value(file, sync, &mut record.sync, |new, old| {
        (*new, *old) == (RecordSync::Second, RecordSync::Each)
    });
    let content = table.word(file, "content", &CONTENT);
    if let Some(new) = as_organisation_says(file, content, record.content.as_ref()) {
        record.content = Some(new);
    }
    let otlp = table.flag(file, "otlp");
    if let Some(new) = as_organisation_says(file, otlp, Some(&record.otlp)) {
        record.otlp = new;
    }
    let terminal = table.word(file, "terminal", &TERMINAL);
    if let Some(new) = as_organisation_says(file, terminal, Some(&record.terminal)) {
        record.terminal = new;
    }
}
