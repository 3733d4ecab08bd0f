//! The files of an image, and the tar layer made of them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path, PathBuf};

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Content {
    Directory,
    File(Vec<u8>),
    Symlink(PathBuf),
}

/// One file, directory or link with its owner and permissions.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    content: Content,
    mode: u32,
    uid: u64,
    gid: u64,
}

/// A file tree. Paths are kept relative to the root and sorted, so that equal trees give equal layers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rootfs {
    entries: BTreeMap<PathBuf, Entry>,
}

impl Rootfs {
    /// Adds a file of root's with its missing parent directories.
    pub fn file(&mut self, path: impl AsRef<Path>, mode: u32, bytes: impl Into<Vec<u8>>) {
        self.insert(path.as_ref(), Entry { content: Content::File(bytes.into()), mode, uid: 0, gid: 0 });
    }

    /// Adds a directory with its missing parents.
    pub fn directory(&mut self, path: impl AsRef<Path>, mode: u32, uid: u64, gid: u64) {
        self.insert(path.as_ref(), Entry { content: Content::Directory, mode, uid, gid });
    }

    /// Adds a symbolic link.
    pub fn symlink(&mut self, path: impl AsRef<Path>, target: impl Into<PathBuf>) {
        self.insert(path.as_ref(), Entry { content: Content::Symlink(target.into()), mode: 0o777, uid: 0, gid: 0 });
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files().map(|(_, bytes)| bytes).sum()
    }

    /// Every file with its size in bytes, sorted by path.
    pub fn files(&self) -> impl Iterator<Item = (&Path, u64)> {
        self.entries.iter().filter_map(|(path, entry)| match &entry.content {
            Content::File(bytes) => Some((path.as_path(), bytes.len() as u64)),
            Content::Directory | Content::Symlink(_) => None,
        })
    }

    /// Writes the tree as an uncompressed tar layer. All times are 0.
    pub fn write_tar(&self, out: impl io::Write) -> io::Result<()> {
        let mut archive = tar::Builder::new(out);
        for (path, entry) in &self.entries {
            let mut header = tar::Header::new_gnu();
            header.set_mode(entry.mode);
            header.set_uid(entry.uid);
            header.set_gid(entry.gid);
            header.set_mtime(0);
            header.set_size(0);
            match &entry.content {
                Content::Directory => {
                    header.set_entry_type(tar::EntryType::Directory);
                    archive.append_data(&mut header, path, io::empty())?;
                }
                Content::File(bytes) => {
                    header.set_entry_type(tar::EntryType::Regular);
                    header.set_size(bytes.len() as u64);
                    archive.append_data(&mut header, path, bytes.as_slice())?;
                }
                Content::Symlink(target) => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    archive.append_link(&mut header, path, target)?;
                }
            }
        }
        archive.finish()
    }

    fn insert(&mut self, path: &Path, entry: Entry) {
        let path: PathBuf = path.components().filter(|part| matches!(part, Component::Normal(_))).collect();
        for parent in path.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty()) {
            let directory = Entry { content: Content::Directory, mode: 0o755, uid: 0, gid: 0 };
            self.entries.entry(parent.to_owned()).or_insert(directory);
        }
        self.entries.insert(path, entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(rootfs: &Rootfs) -> Vec<u8> {
        let mut out = Vec::new();
        rootfs.write_tar(&mut out).unwrap();
        out
    }

    #[test]
    fn order_of_insertion_does_not_show() {
        let mut one = Rootfs::default();
        one.file("/etc/passwd", 0o644, "root");
        one.directory("/tmp", 0o1777, 0, 0);
        let mut other = Rootfs::default();
        other.directory("tmp", 0o1777, 0, 0);
        other.file("etc/passwd", 0o644, "root");
        assert_eq!(layer(&one), layer(&other));
    }

    #[test]
    fn parents_come_before_children_and_keep_their_own_mode() {
        let mut rootfs = Rootfs::default();
        rootfs.directory("/home/ray", 0o750, 1000, 100);
        rootfs.file("/home/ray/deep/file", 0o600, "x");
        let bytes = layer(&rootfs);
        let mut archive = tar::Archive::new(bytes.as_slice());
        let seen: Vec<(String, u32, u64, u64)> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let header = entry.header();
                let path = entry.path().unwrap().display().to_string();
                assert_eq!(header.mtime().unwrap(), 0);
                (path, header.mode().unwrap(), header.uid().unwrap(), header.gid().unwrap())
            })
            .collect();
        let expected = [
            ("home", 0o755, 0, 0),
            ("home/ray", 0o750, 1000, 100),
            ("home/ray/deep", 0o755, 0, 0),
            ("home/ray/deep/file", 0o600, 0, 0),
        ];
        assert_eq!(seen, expected.map(|(path, mode, uid, gid)| (path.to_owned(), mode, uid, gid)));
    }
}
