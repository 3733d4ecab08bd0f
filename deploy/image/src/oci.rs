//! An image as an OCI layout (image-spec 1.1): written, archived, and checked.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use flate2::{Compression, GzBuilder};
use ring::digest::{Context, SHA256};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::rootfs::Rootfs;

const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const LAYOUT_VERSION: &str = "1.0.0";
/// Every time in an image is this one, so that equal contents give equal digests.
const CREATED: &str = "1970-01-01T00:00:00Z";

/// An image before it is written.
#[derive(Clone, Debug)]
pub struct Image {
    /// Repository, for example `mobula`.
    pub name: String,
    /// Tag, for example `0.1.0`.
    pub tag: String,
    /// CPU architecture in OCI's words.
    pub architecture: String,
    /// Its files.
    pub rootfs: Rootfs,
    /// How it runs.
    pub run: RunConfig,
}

/// How the image runs when nobody says otherwise: `config` of the image configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RunConfig {
    /// `uid:gid`.
    pub user: String,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Program.
    pub entrypoint: Vec<String>,
    /// Working directory.
    pub working_dir: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// A checked image in a layout.
#[derive(Clone, Debug)]
pub struct Verified {
    /// `sha256:<hex>` of the manifest: what registries call the image's digest.
    pub digest: String,
    /// CPU architecture.
    pub architecture: String,
    /// How it runs.
    pub run: RunConfig,
    /// Files of the layers, lowest first.
    pub layers: Vec<PathBuf>,
    /// Bytes of all layers as they are stored.
    pub stored_bytes: u64,
    /// Bytes of all layers uncompressed.
    pub unpacked_bytes: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Platform {
    architecture: String,
    os: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u32,
    media_type: String,
    manifests: Vec<Descriptor>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u32,
    media_type: String,
    config: Descriptor,
    layers: Vec<Descriptor>,
}

#[derive(Serialize, Deserialize)]
struct ImageConfig {
    created: String,
    architecture: String,
    os: String,
    config: RunConfig,
    rootfs: DiffIds,
}

#[derive(Serialize, Deserialize)]
struct DiffIds {
    #[serde(rename = "type")]
    kind: String,
    diff_ids: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LayoutMarker {
    image_layout_version: String,
}

/// One entry of `manifest.json`, which `docker load` reads from archives that are not its own kind of OCI layout.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerManifest {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

/// Writes `image` as a layout in the directory `layout`, replacing a layout that is there.
pub fn write(image: &Image, layout: &Path) -> Result<Verified, Error> {
    remove_old(layout)?;
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).map_err(Error::file(&blobs))?;

    let mut tar = Vec::new();
    image.rootfs.write_tar(&mut tar).map_err(Error::file(layout))?;
    let mut packer = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    packer.write_all(&tar).map_err(Error::file(layout))?;
    let packed = packer.finish().map_err(Error::file(layout))?;

    let layer = put_blob(&blobs, LAYER_TYPE, &packed)?;
    let config = ImageConfig {
        created: CREATED.to_owned(),
        architecture: image.architecture.clone(),
        os: "linux".to_owned(),
        config: image.run.clone(),
        rootfs: DiffIds { kind: "layers".to_owned(), diff_ids: vec![digest_of(&tar)] },
    };
    let config = put_blob(&blobs, CONFIG_TYPE, &json(&config, layout)?)?;
    let docker = DockerManifest {
        config: blob_path(&config.digest),
        repo_tags: vec![format!("{}:{}", image.name, image.tag)],
        layers: vec![blob_path(&layer.digest)],
    };
    let manifest = Manifest { schema_version: 2, media_type: MANIFEST_TYPE.to_owned(), config, layers: vec![layer] };
    let mut manifest = put_blob(&blobs, MANIFEST_TYPE, &json(&manifest, layout)?)?;
    manifest.platform = Some(Platform { architecture: image.architecture.clone(), os: "linux".to_owned() });
    manifest.annotations = BTreeMap::from([
        ("org.opencontainers.image.ref.name".to_owned(), image.tag.clone()),
        ("io.containerd.image.name".to_owned(), format!("docker.io/library/{}:{}", image.name, image.tag)),
    ]);
    let index = Index { schema_version: 2, media_type: INDEX_TYPE.to_owned(), manifests: vec![manifest] };
    let marker = LayoutMarker { image_layout_version: LAYOUT_VERSION.to_owned() };
    for (name, bytes) in [
        ("index.json", json(&index, layout)?),
        ("manifest.json", json(&[docker], layout)?),
        ("oci-layout", json(&marker, layout)?),
    ] {
        let path = layout.join(name);
        fs::write(&path, bytes).map_err(Error::file(&path))?;
    }
    verify(layout)
}

/// Packs a layout into one tar file, as `docker load`, `ctr images import` and `skopeo` take it.
pub fn write_archive(layout: &Path, archive: &Path) -> Result<(), Error> {
    let mut rootfs = Rootfs::default();
    for path in files_below(layout)? {
        let bytes = fs::read(&path).map_err(Error::file(&path))?;
        rootfs.file(path.strip_prefix(layout).unwrap_or(&path), 0o644, bytes);
    }
    let file = File::create(archive).map_err(Error::file(archive))?;
    rootfs.write_tar(io::BufWriter::new(file)).map_err(Error::file(archive))
}

/// Re-reads a layout with one image and checks every size and digest in it, those of the uncompressed layers too.
pub fn verify(layout: &Path) -> Result<Verified, Error> {
    let marker_path = layout.join("oci-layout");
    let marker: LayoutMarker = read_json(&marker_path)?;
    if marker.image_layout_version != LAYOUT_VERSION {
        let problem = format!("imageLayoutVersion is {:?}, not {LAYOUT_VERSION:?}", marker.image_layout_version);
        return Err(Error::layout(&marker_path, problem));
    }
    let index_path = layout.join("index.json");
    let index: Index = read_json(&index_path)?;
    let [descriptor] = index.manifests.as_slice() else {
        let problem = format!("lists {} manifests, not exactly one", index.manifests.len());
        return Err(Error::layout(&index_path, problem));
    };
    let manifest_path = checked_blob(layout, descriptor, MANIFEST_TYPE)?;
    let manifest: Manifest = read_json(&manifest_path)?;
    let config_path = checked_blob(layout, &manifest.config, CONFIG_TYPE)?;
    let config: ImageConfig = read_json(&config_path)?;
    if config.rootfs.diff_ids.len() != manifest.layers.len() {
        let problem = format!("lists {} diff_ids for {} layers", config.rootfs.diff_ids.len(), manifest.layers.len());
        return Err(Error::layout(&config_path, problem));
    }
    let mut verified = Verified {
        digest: descriptor.digest.clone(),
        architecture: config.architecture,
        run: config.config,
        layers: Vec::new(),
        stored_bytes: 0,
        unpacked_bytes: 0,
    };
    let mut referenced = BTreeSet::from([manifest_path, config_path.clone()]);
    for (layer, diff_id) in manifest.layers.iter().zip(&config.rootfs.diff_ids) {
        let path = checked_blob(layout, layer, LAYER_TYPE)?;
        let file = File::open(&path).map_err(Error::file(&path))?;
        let (digest, bytes) = digest_of_stream(GzDecoder::new(file)).map_err(Error::file(&path))?;
        if digest != *diff_id {
            return Err(Error::layout(&config_path, format!("diff_id {diff_id}, but the layer unpacks to {digest}")));
        }
        verified.stored_bytes += layer.size;
        verified.unpacked_bytes += bytes;
        referenced.insert(path.clone());
        verified.layers.push(path);
    }
    for path in files_below(&layout.join("blobs"))? {
        if !referenced.contains(&path) {
            return Err(Error::layout(&path, "no descriptor refers to this blob"));
        }
    }
    Ok(verified)
}

/// Removes an older layout, and nothing but a layout.
fn remove_old(layout: &Path) -> Result<(), Error> {
    let entries = match fs::read_dir(layout) {
        Ok(entries) => entries.count(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::file(layout)(error)),
    };
    if entries > 0 && !layout.join("oci-layout").is_file() {
        return Err(Error::layout(
            layout,
            "exists and is not an OCI layout; it is left alone: choose another directory",
        ));
    }
    fs::remove_dir_all(layout).map_err(Error::file(layout))
}

fn put_blob(blobs: &Path, media_type: &str, bytes: &[u8]) -> Result<Descriptor, Error> {
    let digest = digest_of(bytes);
    let path = blobs.join(digest.trim_start_matches("sha256:"));
    fs::write(&path, bytes).map_err(Error::file(&path))?;
    Ok(Descriptor {
        media_type: media_type.to_owned(),
        digest,
        size: bytes.len() as u64,
        platform: None,
        annotations: BTreeMap::new(),
    })
}

fn checked_blob(layout: &Path, descriptor: &Descriptor, media_type: &str) -> Result<PathBuf, Error> {
    let hex = descriptor
        .digest
        .strip_prefix("sha256:")
        .filter(|hex| hex.len() == 64 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')));
    if hex.is_none() {
        return Err(Error::layout(layout, format!("digest {:?} is not sha256:<64 hex digits>", descriptor.digest)));
    }
    let path = layout.join(blob_path(&descriptor.digest));
    if descriptor.media_type != media_type {
        let problem = format!("has media type {:?} where {media_type:?} belongs", descriptor.media_type);
        return Err(Error::layout(&path, problem));
    }
    let file = File::open(&path).map_err(Error::file(&path))?;
    let (digest, bytes) = digest_of_stream(file).map_err(Error::file(&path))?;
    if digest != descriptor.digest || bytes != descriptor.size {
        let problem = format!("holds {bytes} bytes of {digest}; its descriptor says {} bytes", descriptor.size);
        return Err(Error::layout(&path, problem));
    }
    Ok(path)
}

fn blob_path(digest: &str) -> String {
    format!("blobs/{}", digest.replace(':', "/"))
}

fn digest_of(bytes: &[u8]) -> String {
    hex_digest(ring::digest::digest(&SHA256, bytes).as_ref())
}

fn digest_of_stream(mut stream: impl Read) -> io::Result<(String, u64)> {
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; 64 * 1024];
    let mut total = 0;
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok((hex_digest(context.finish().as_ref()), total));
        }
        context.update(buffer.get(..count).unwrap_or_default());
        total += count as u64;
    }
}

fn hex_digest(bytes: &[u8]) -> String {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn json(value: &(impl Serialize + ?Sized), layout: &Path) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value).map_err(|error| Error::layout(layout, error.to_string()))
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let bytes = fs::read(path).map_err(Error::file(path))?;
    serde_json::from_slice(&bytes).map_err(|error| Error::layout(path, error.to_string()))
}

/// All files below a directory, sorted.
fn files_below(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).map_err(Error::file(&directory))? {
            let path = entry.map_err(Error::file(&directory))?.path();
            if path.is_dir() {
                directories.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small_image() -> Image {
        let mut rootfs = Rootfs::default();
        rootfs.file("/etc/hostname", 0o644, "manta\n");
        rootfs.directory("/tmp", 0o1777, 0, 0);
        let run = RunConfig { user: "1000:100".to_owned(), env: vec!["PATH=/bin".to_owned()], ..RunConfig::default() };
        Image { name: "small".to_owned(), tag: "1".to_owned(), architecture: "amd64".to_owned(), rootfs, run }
    }

    #[test]
    fn sha256_is_the_known_one() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(digest_of(b""), empty);
        assert_eq!(digest_of_stream(&b""[..]).unwrap(), (empty.to_owned(), 0));
    }

    #[test]
    fn same_image_same_bytes() {
        let scratch = tempfile::tempdir().unwrap();
        let archives: Vec<Vec<u8>> = ["one", "two"]
            .map(|name| {
                let layout = scratch.path().join(name);
                write(&small_image(), &layout).unwrap();
                let archive = scratch.path().join(format!("{name}.tar"));
                write_archive(&layout, &archive).unwrap();
                fs::read(archive).unwrap()
            })
            .into();
        assert_eq!(archives[0], archives[1]);
    }

    #[test]
    fn a_newer_layout_replaces_an_older_one() {
        let scratch = tempfile::tempdir().unwrap();
        let mut image = small_image();
        let first = write(&image, scratch.path()).unwrap();
        image.rootfs.file("/etc/motd", 0o644, "hello");
        let second = write(&image, scratch.path()).unwrap();
        assert_ne!(first.digest, second.digest);
        assert_eq!(verify(scratch.path()).unwrap().digest, second.digest);
    }

    #[test]
    fn a_directory_that_is_no_layout_is_left_alone() {
        let scratch = tempfile::tempdir().unwrap();
        let precious = scratch.path().join("precious");
        fs::write(&precious, "data").unwrap();
        let error = write(&small_image(), scratch.path()).unwrap_err().to_string();
        assert!(error.contains("not an OCI layout"), "{error}");
        assert_eq!(fs::read(precious).unwrap(), b"data");
    }

    #[test]
    fn every_damaged_file_is_noticed() {
        let scratch = tempfile::tempdir().unwrap();
        write(&small_image(), scratch.path()).unwrap();
        for path in files_below(scratch.path()).unwrap() {
            if path.ends_with("manifest.json") {
                continue; // Docker's own file: no digest covers it.
            }
            let whole = fs::read(&path).unwrap();
            fs::write(&path, &whole[..whole.len() - 1]).unwrap();
            assert!(verify(scratch.path()).is_err(), "cut {}", path.display());
            let mut flipped = whole.clone();
            flipped[whole.len() / 2] ^= 1;
            fs::write(&path, &flipped).unwrap();
            assert!(verify(scratch.path()).is_err(), "changed {}", path.display());
            fs::write(&path, &whole).unwrap();
        }
        verify(scratch.path()).unwrap();
    }

    #[test]
    fn a_stray_blob_is_noticed() {
        let scratch = tempfile::tempdir().unwrap();
        write(&small_image(), scratch.path()).unwrap();
        fs::write(scratch.path().join("blobs/sha256/stray"), "x").unwrap();
        let error = verify(scratch.path()).unwrap_err().to_string();
        assert!(error.contains("no descriptor"), "{error}");
    }
}
