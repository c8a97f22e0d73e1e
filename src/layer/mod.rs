//! The result of one stage: a [`Tree`](crate::tree::Tree) and the bytes behind it, kept in the store under the key of its
//! inputs.
//!
//! On disk a layer is a directory: `index` (where each content lies, then the tree) and `pack` (contents one after the other,
//! each once). A layer above another holds only contents that the lower ones lack.

mod check;
mod index;
mod pack;

pub use check::check;
pub use index::{FORMAT, LayerHead, LayerIndex};
pub use pack::{Layer, LayerError, LayerFiles, PackWriter};

/// The file of a layer's directory that has its index.
pub const INDEX: &str = "index";
/// The file of a layer's directory that has its contents.
pub const PACK: &str = "pack";
