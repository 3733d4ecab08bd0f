//! Which shared libraries a binary is linked with, read from its ELF headers.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use object::elf::{DT_NEEDED, FileHeader64, PT_INTERP};
use object::read::elf::{Dyn, FileHeader, ProgramHeader};
use object::{Endian, Endianness};

use crate::Error;

/// What an ELF file says about how it must be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Linkage {
    /// CPU architecture in OCI's words (`amd64`, `arm64`).
    pub architecture: &'static str,
    /// Path of the program that loads it; `None`: it is static, or a library.
    pub interpreter: Option<PathBuf>,
    /// Names of the libraries it needs directly.
    pub needed: Vec<String>,
}

/// Reads the linkage of the ELF file at `path`.
pub fn linkage(path: &Path) -> Result<Linkage, Error> {
    let data = fs::read(path).map_err(Error::file(path))?;
    parse(&data).map_err(|problem| Error::Elf { path: path.to_owned(), problem })
}

fn parse(data: &[u8]) -> Result<Linkage, String> {
    let words = |problem: object::Error| problem.to_string();
    let header = FileHeader64::<Endianness>::parse(data).map_err(words)?;
    let endian = header.endian().map_err(words)?;
    let architecture = architecture(header, endian)?;

    let mut interpreter = None;
    for segment in header.program_headers(endian, data).map_err(words)? {
        if segment.p_type(endian) == PT_INTERP
            && let Some(path) = segment.interpreter(endian, data).map_err(words)?
        {
            interpreter = Some(PathBuf::from(String::from_utf8_lossy(path).into_owned()));
        }
    }

    let sections = header.sections(endian, data).map_err(words)?;
    let mut needed = Vec::new();
    if let Some((entries, strings_index)) = sections.dynamic(endian, data).map_err(words)? {
        let strings = sections.strings(endian, data, strings_index).map_err(words)?;
        for entry in entries.iter().filter(|entry| entry.tag(endian) == DT_NEEDED) {
            let name = entry.string(endian, strings).map_err(words)?;
            needed.push(String::from_utf8_lossy(name).into_owned());
        }
    }
    Ok(Linkage { architecture, interpreter, needed })
}

fn architecture<E: Endian>(header: &FileHeader64<E>, endian: E) -> Result<&'static str, String> {
    match header.e_machine(endian) {
        object::elf::EM_X86_64 => Ok("amd64"),
        object::elf::EM_AARCH64 => Ok("arm64"),
        other => Err(format!("machine {other:?} is neither x86-64 nor AArch64")),
    }
}

/// Directories that the loaders of Debian, Ubuntu, Fedora and their kin search without being told, in their order.
fn library_directories(architecture: &str) -> Vec<PathBuf> {
    let triple = if architecture == "arm64" { "aarch64-linux-gnu" } else { "x86_64-linux-gnu" };
    ["/lib/TRIPLE", "/usr/lib/TRIPLE", "/lib64", "/usr/lib64", "/lib", "/usr/lib"]
        .iter()
        .map(|directory| PathBuf::from(directory.replace("TRIPLE", triple)))
        .collect()
}

/// Libraries that the C library opens by name while it resolves host names. From glibc 2.34 on they are stubs of a few kB
/// and the code is in libc itself; before, name resolution fails without them.
const NAME_SERVICE: [&str; 2] = ["libnss_dns.so.2", "libnss_files.so.2"];

/// The loader and every library that the binary needs, directly or not, by the absolute path at which the loader looks
/// for it. Empty for a static binary.
pub fn runtime_files(binary: &Path) -> Result<BTreeMap<PathBuf, Vec<u8>>, Error> {
    let linkage_of_binary = linkage(binary)?;
    let mut files = BTreeMap::new();
    let Some(interpreter) = linkage_of_binary.interpreter else { return Ok(files) };
    let loader_name = interpreter.file_name().unwrap_or_default().to_os_string();
    files.insert(interpreter.clone(), fs::read(&interpreter).map_err(Error::file(&interpreter))?);

    let directories = library_directories(linkage_of_binary.architecture);
    let find = |name: &str| {
        let in_order = directories.iter().map(|directory| directory.join(name));
        in_order.into_iter().find(|path| {
            path.is_file() && linkage(path).is_ok_and(|found| found.architecture == linkage_of_binary.architecture)
        })
    };
    let mut wanted: Vec<(String, PathBuf)> =
        linkage_of_binary.needed.into_iter().map(|name| (name, binary.to_owned())).collect();
    let name_service = NAME_SERVICE.iter().filter(|name| find(name).is_some());
    wanted.extend(name_service.map(|name| ((*name).to_owned(), binary.to_owned())));
    while let Some((name, needed_by)) = wanted.pop() {
        if *name == *loader_name {
            continue;
        }
        let Some(path) = find(&name) else {
            let searched: Vec<_> = directories.iter().map(|directory| directory.display().to_string()).collect();
            return Err(Error::MissingLibrary { library: name, needed_by, searched: searched.join(", ") });
        };
        if files.contains_key(&path) {
            continue;
        }
        wanted.extend(linkage(&path)?.needed.into_iter().map(|name| (name, path.clone())));
        let bytes = fs::read(&path).map_err(Error::file(&path))?;
        files.insert(path, bytes);
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_test_needs_the_c_library() {
        let own = std::env::current_exe().unwrap();
        let own = linkage(&own).unwrap();
        if own.interpreter.is_some() {
            assert!(own.needed.iter().any(|name| name.starts_with("libc.so")), "{:?}", own.needed);
        } else {
            assert_eq!(own.needed, Vec::<String>::new());
        }
    }

    #[test]
    fn closure_holds_the_loader_and_what_libraries_need() {
        let own = std::env::current_exe().unwrap();
        let files = runtime_files(&own).unwrap();
        let own = linkage(&own).unwrap();
        assert_eq!(files.is_empty(), own.interpreter.is_none());
        for path in files.keys() {
            assert!(path.is_absolute());
            for needed in linkage(path).unwrap().needed {
                assert!(files.keys().any(|have| have.ends_with(&needed)), "{} needs {needed}", path.display());
            }
        }
    }

    #[test]
    fn garbage_is_refused_with_the_file_name() {
        let directory = tempfile::tempdir().unwrap();
        for (name, bytes) in [("empty", &b""[..]), ("text", b"#!/bin/sh\n"), ("cut", b"\x7fELF\x02\x01\x01\x00\x00")] {
            let path = directory.path().join(name);
            fs::write(&path, bytes).unwrap();
            let error = linkage(&path).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("ELF"), "{error}");
        }
    }
}
