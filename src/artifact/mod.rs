//! What the user gets: `result/<image>/` with the archive, its configuration, a manifest and an SBOM.
//!
//! And `result/site/` with the files of the site itself.
//!
//! A result directory is written beside its place and renamed, so it is whole or absent.

mod early;
mod manifest;
mod result;
mod sbom;
mod site;

pub use early::EarlyFile;
pub use manifest::{FORMAT, FileEntry, FrameEntry, Manifest, ManifestError, PackageEntry, TarballEntry};
pub(crate) use result::{NOTES, check_note};
pub use result::{ResultDirectory, ResultError};
pub use sbom::sbom;
pub use site::SiteDirectory;
