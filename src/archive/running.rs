//! The hash of the uncompressed tar, kept from build to build.
//!
//! SHA-256 cannot be computed in parallel, so hashing the tar would cost a rebuild more than everything else. But its
//! state after some frames depends on those frames only: states are kept in the store under the chain of the keys of
//! all frames before, and a rebuild hashes from the first changed frame on.

use std::io;
use std::path::Path;

use sha2::Digest as _;
use sha2::digest::common::hazmat::{SerializableState, SerializedState};

use super::frame::{drop_damaged, keep_sealed};
use crate::digest::Sha256;
use crate::store::{Damage, Kind, Object, Store, StoreError, Unusable, touch};

/// First bytes of a kept state.
const MAGIC: &[u8; 16] = b"build-images h1\n";

/// SHA-256 of what was fed so far.
#[derive(Clone, Default)]
pub(super) struct RunningHash(sha2::Sha256);

impl RunningHash {
    /// Takes further bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all bytes.
    pub fn finish(self) -> Sha256 {
        Sha256::from_bytes(self.0.finalize().into())
    }

    /// The last state that is kept of `chain`, and how many frames it covers.
    pub fn last(store: &Store, chain: &[Sha256]) -> (usize, Self) {
        let kept = (0..chain.len()).rev().find_map(|at| Some((at + 1, Self::load(store, chain[at])?)));
        kept.unwrap_or_default()
    }

    /// The state kept for `chain`, and says that it is used now; nothing when it is absent or damaged. Damage is noted, and
    /// the file removed: who goes on from another state may keep none here.
    pub fn load(store: &Store, chain: Sha256) -> Option<Self> {
        let path = store.path(Kind::Frame, name(chain));
        match read(&path, chain) {
            Ok(state) => {
                touch(&path);
                Some(state)
            }
            Err(Unusable::Missing) => None,
            Err(Unusable::Damaged(reason)) => {
                drop_damaged(store, &path, Damage::new(Object::HashState, chain, reason));
                None
            }
        }
    }

    /// Keeps the state for `chain`.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn keep(&self, store: &Store, chain: Sha256) -> Result<(), StoreError> {
        let state = self.0.serialize();
        let seal = seal(chain, &state);
        keep_sealed(store, &name(chain), &[MAGIC, seal.as_bytes(), &state])
    }
}

/// The state for `chain` in the file at `path`, every byte of it checked.
pub(super) fn read(path: &Path, chain: Sha256) -> Result<RunningHash, Unusable> {
    let damaged = |reason: &str| Unusable::Damaged(reason.to_owned());
    let bytes = std::fs::read(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Unusable::Missing,
        _ => damaged(&error.to_string()),
    })?;
    let state = bytes.get(48..).ok_or_else(|| damaged("it is cut off"))?;
    if bytes[..16] != *MAGIC || bytes[16..48] != *seal(chain, state).as_bytes() {
        return Err(damaged("it does not match its own hash"));
    }
    let state = SerializedState::<sha2::Sha256>::try_from(state);
    let state = state.ok().and_then(|state| sha2::Sha256::deserialize(&state).ok());
    state.map(RunningHash).ok_or_else(|| damaged("it is no state of SHA-256"))
}

/// How the file of a state ends; before that, it is the chain.
pub(super) const SUFFIX: &str = ".state";

fn name(chain: Sha256) -> String {
    format!("{chain}{SUFFIX}")
}

/// Covers the chain too: a state under another's name is noticed.
fn seal(chain: Sha256, state: &[u8]) -> Sha256 {
    Sha256::of([chain.as_bytes(), state].concat())
}

/// For each frame, the hash over its key and those of all before it; states are kept in the store under it.
pub(crate) fn chain(keys: &[Sha256]) -> Vec<Sha256> {
    let mut last = Sha256::of("tar of frames");
    let next = keys.iter().map(|key| {
        last = Sha256::of([last.as_bytes().as_slice(), key.as_bytes()].concat());
        last
    });
    next.collect()
}
