//! Reads an ELF file, to find out whether it needs anything else.

use anyhow::{Context, Result, bail};

/// The needs of a program on the machine that runs it; see elf(5).
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    /// It requests a dynamic loader (`PT_INTERP`).
    pub(crate) interpreter: bool,
    /// How many libraries it requests (`DT_NEEDED`).
    pub(crate) libraries: usize,
}

const PT_DYNAMIC: u64 = 2;
const PT_INTERP: u64 = 3;
const DT_NULL: u64 = 0;
const DT_NEEDED: u64 = 1;
/// Magic, 64 bits, little-endian: every processor that we build for.
const HEADER: &[u8] = b"\x7fELF\x02\x01";
/// `d_tag` and `d_val`, eight bytes each.
const DYNAMIC_ENTRY_BYTES: usize = 16;

/// Reads the needs of a 64-bit little-endian program.
pub(crate) fn needs(file: &[u8]) -> Result<Needs> {
    if !file.starts_with(HEADER) {
        bail!("expected a 64-bit little-endian ELF file");
    }
    let (table, entry_bytes, entries) = (
        offset(file, 0x20, 8)?,
        offset(file, 0x36, 2)?,
        number(file, 0x38, 2)?,
    );
    let mut needs = Needs::default();
    for index in 0..offset(file, 0x38, 2)? {
        let at = index
            .checked_mul(entry_bytes)
            .and_then(|distance| table.checked_add(distance));
        let at = at.with_context(|| {
            format!("program header {index} of {entries} lies outside the file")
        })?;
        match number(file, at, 4)? {
            PT_INTERP => needs.interpreter = true,
            PT_DYNAMIC => {
                let (start, bytes) = (offset(file, at + 0x08, 8)?, offset(file, at + 0x20, 8)?);
                let section = start
                    .checked_add(bytes)
                    .and_then(|end| file.get(start..end));
                needs.libraries +=
                    libraries(section.context("the dynamic section lies outside the file")?)?;
            }
            _ => {}
        }
    }
    Ok(needs)
}

fn libraries(section: &[u8]) -> Result<usize> {
    let mut count = 0;
    for entry in section.chunks_exact(DYNAMIC_ENTRY_BYTES) {
        match number(entry, 0, 8)? {
            DT_NULL => break,
            DT_NEEDED => count += 1,
            _ => {}
        }
    }
    Ok(count)
}

fn offset(bytes: &[u8], at: usize, width: usize) -> Result<usize> {
    usize::try_from(number(bytes, at, width)?).context("an offset is too large for this machine")
}

fn number(bytes: &[u8], at: usize, width: usize) -> Result<u64> {
    let field = at.checked_add(width).and_then(|end| bytes.get(at..end));
    let field = field.with_context(|| format!("the file ends before byte {at}"))?;
    Ok(field
        .iter()
        .rev()
        .fold(0, |number, byte| (number << 8) | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with the given program headers (type and content).
    fn file(segments: &[(u64, &[u8])]) -> Vec<u8> {
        let mut file = HEADER.to_vec();
        file.resize(0x40, 0);
        file[0x20] = 0x40;
        file[0x36] = 0x38;
        file[0x38] = u8::try_from(segments.len()).unwrap();
        let mut content_at = 0x40 + 0x38 * segments.len();
        for (kind, content) in segments {
            let mut header = vec![0; 0x38];
            header[0] = u8::try_from(*kind).unwrap();
            header[0x08..0x10].copy_from_slice(&u64::try_from(content_at).unwrap().to_le_bytes());
            header[0x20..0x28]
                .copy_from_slice(&u64::try_from(content.len()).unwrap().to_le_bytes());
            file.extend(header);
            content_at += content.len();
        }
        file.extend(segments.iter().flat_map(|(_, content)| content.iter()));
        file
    }

    fn dynamic(tags: &[u64]) -> Vec<u8> {
        tags.iter()
            .flat_map(|tag| [tag.to_le_bytes(), 9_u64.to_le_bytes()].concat())
            .collect()
    }

    #[test]
    fn loader_and_libraries_are_found() {
        let needing = dynamic(&[DT_NEEDED, 5, DT_NEEDED, DT_NULL, DT_NEEDED]);
        let alone = dynamic(&[5, DT_NULL]);
        for (segments, interpreter, count) in [
            (
                vec![(1, [].as_slice()), (PT_INTERP, b"/lib/ld.so\0")],
                true,
                0,
            ),
            (vec![(PT_DYNAMIC, needing.as_slice())], false, 2),
            (vec![(PT_DYNAMIC, alone.as_slice())], false, 0),
            (vec![], false, 0),
        ] {
            assert_eq!(
                needs(&file(&segments)).unwrap(),
                Needs {
                    interpreter,
                    libraries: count
                }
            );
        }
    }

    #[test]
    fn broken_files_are_errors() {
        let whole = file(&[(PT_DYNAMIC, &dynamic(&[DT_NEEDED]))]);
        for length in 0..whole.len() {
            assert!(needs(&whole[..length]).is_err(), "{length}");
        }
        assert!(needs(b"#!/bin/sh\n").is_err());
    }

    #[test]
    fn a_program_of_this_machine_is_read() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(
            needs(&own).unwrap().libraries > 0,
            "tests are linked dynamically"
        );
    }
}
