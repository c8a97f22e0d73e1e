//! The result of one stage: a [`Tree`] and the bytes behind it, kept in the store under the key of its inputs.
//!
//! On disk a layer is a directory: `layer.json` (entries, where each content lies, findings, and a last line with the
//! hash of what precedes it) and `pack` (contents one after the other, each once). A layer above another holds
//! only contents that the lower ones lack.

mod check;
mod pack;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use check::check;
pub use pack::{Layer, LayerError, PackWriter};

use crate::digest::Sha256;
use crate::tree::Tree;

/// What `layer.json` says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerIndex {
    /// Version of this format.
    pub format: u32,
    /// The layer below, whose pack holds contents too.
    pub parent: Option<Sha256>,
    /// The whole tree, not only what this layer adds.
    pub tree: Tree,
    /// Where each content begins in this layer's pack, in bytes.
    pub offsets: BTreeMap<Sha256, u64>,
}

/// Version of the layer format; part of every layer's key.
pub const FORMAT: u32 = 1;
