//! `manifest.json`: what an artifact is made of and what each of its files hashes to.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::archive::FrameInfo;
use crate::digest::Sha256;
use crate::model::image::NeededSpace;

/// Version of the manifest's form.
pub const FORMAT: u32 = 1;
/// Longest manifest that is read, in bytes.
const MAX_LENGTH: usize = 64 << 20;

/// The manifest of one artifact.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this form.
    pub format: u32,
    /// `build-images` and its version.
    pub tool: String,
    /// The image's name.
    pub image: String,
    /// Proxmox's id of the container.
    pub vmid: u32,
    /// The hash of everything the image is made from.
    pub plan: Sha256,
    /// The hash of the lock's rows that the image uses.
    pub lock: Sha256,
    /// Newest date of the archives, RFC 3339.
    pub locked_at: String,
    /// The archive that `pct restore` takes.
    pub archive: FileEntry,
    /// The uncompressed tar inside it: the identity that holds across compressor versions.
    pub tar: FileEntry,
    /// The container's configuration.
    pub config: FileEntry,
    /// Space that has to be free on the node before the container starts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub space: Vec<NeededSpace>,
    /// The SBOM.
    pub sbom: FileEntry,
    /// Keys of the layers, the lowest first.
    pub layers: Vec<Sha256>,
    /// The packages, sorted by name.
    pub packages: Vec<PackageEntry>,
    /// The tarballs, in the order of the recipes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tarballs: Vec<TarballEntry>,
    /// The archive's frames, in order.
    pub frames: Vec<FrameEntry>,
}

/// One file of the artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Its name in the artifact's directory; empty for what is inside another file.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub file: String,
    /// Its size in bytes.
    pub size: u64,
    /// What it hashes to.
    pub sha256: Sha256,
}

impl FileEntry {
    /// The file's name, which leads nowhere else than into the artifact's directory.
    ///
    /// # Errors
    /// When it does.
    pub fn file_name(&self) -> Result<&str, ManifestError> {
        match self.file.as_str() {
            "" | "." | ".." => Err(ManifestError::Name(self.file.clone())),
            name if name.contains(['/', '\0']) => Err(ManifestError::Name(self.file.clone())),
            name => Ok(name),
        }
    }
}

/// One frame of the archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameEntry {
    /// Its name in the store; nothing for the frame that ends the tar.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Sha256>,
    /// Sizes and hashes, as in the archive's own table.
    #[serde(flatten)]
    pub frame: FrameInfo,
}

/// One package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackageEntry {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its architecture.
    pub architecture: String,
    /// The hash of the .deb.
    pub sha256: Sha256,
}

/// One tarball.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TarballEntry {
    /// Its name.
    pub name: String,
    /// URL of record.
    pub url: String,
    /// The hash of the file, as it is downloaded.
    pub sha256: Sha256,
}

/// The text is no manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It is too long or no JSON of this form.
    #[error("not a manifest: {0}")]
    Form(String),
    /// It names a file of another directory.
    #[error("the manifest names `{0}`, expected the name of a file beside it")]
    Name(String),
    /// Another program version wrote it.
    #[error("the manifest has format {0}, this program reads format {FORMAT}")]
    Version(u64),
}

impl Manifest {
    /// Reads a manifest.
    ///
    /// # Errors
    /// See [`ManifestError`].
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        if text.len() > MAX_LENGTH {
            return Err(ManifestError::Form(format!("it has {} bytes", text.len())));
        }
        let form = |error: serde_json::Error| ManifestError::Form(error.to_string());
        let value: Value = serde_json::from_str(text).map_err(form)?;
        match value.get("format").and_then(Value::as_u64) {
            Some(format) if format == u64::from(FORMAT) => serde_json::from_value(value).map_err(form),
            Some(format) => Err(ManifestError::Version(format)),
            None => Err(ManifestError::Form("it has no `format`".to_owned())),
        }
    }

    /// The text to write.
    pub fn to_text(&self) -> String {
        // Plain data with string keys always has a JSON form.
        let text = serde_json::to_string_pretty(self).expect("plain data has a JSON form");
        text + "\n"
    }
}
