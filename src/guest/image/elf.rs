//! What an ELF file says about the files it needs.

use object::LittleEndian;
use object::elf::{DT_NEEDED, FileHeader64};
use object::read::elf::{FileHeader, ProgramHeader};

type Header = FileHeader64<LittleEndian>;

/// What the dynamic loader needs for a program or a library.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Needs {
    /// The dynamic loader itself, for programs.
    pub(super) interpreter: Option<String>,
    /// File names of libraries.
    pub(super) libraries: Vec<String>,
}

/// Reads the dynamic section. `None` if this is no 64-bit little-endian ELF file, or a broken one.
pub(super) fn needs(file: &[u8]) -> Option<Needs> {
    let header = Header::parse(file).ok()?;
    let mut needs = Needs::default();
    for segment in header.program_headers(LittleEndian, file).ok()? {
        if let Some(path) = segment.interpreter(LittleEndian, file).ok()? {
            needs.interpreter = Some(text(path)?);
        }
    }
    let sections = header.sections(LittleEndian, file).ok()?;
    let table = sections.dynamic_table(LittleEndian, file).ok()?;
    for entry in &table {
        if entry.tag == DT_NEEDED {
            needs.libraries.push(text(table.string(entry).ok()?)?);
        }
    }
    Some(needs)
}

/// The modules that a kernel module names in its `depends=`. `None` if it is no module.
pub(super) fn module_depends(file: &[u8]) -> Option<Vec<String>> {
    use object::read::elf::SectionHeader;
    let header = Header::parse(file).ok()?;
    let sections = header.sections(LittleEndian, file).ok()?;
    let (_, section) = sections.section_by_name(LittleEndian, b".modinfo")?;
    let info = section.data(LittleEndian, file).ok()?;
    let line = info.split(|&byte| byte == 0).find_map(|entry| entry.strip_prefix(b"depends="))?;
    let names = text(line)?;
    Some(names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect())
}

fn text(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_vec()).ok()
}
