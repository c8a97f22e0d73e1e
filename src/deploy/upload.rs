//! Which bytes of an archive have to be sent: frames that no archive on the node has.
//!
//! The node puts the archive together from pieces, copied from files it has and received, and hashes the whole.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write};

use super::facts::{Facts, ROOT};
use super::shell::with_variables;
use super::target::{Artifact, Target};
use crate::digest::Sha256;

const SCRIPT: &str = include_str!("node/receive.sh");

/// A run of bytes of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Sent: where it begins in the archive, and its length.
    Send(u64, u64),
    /// Copied on the node: from which file, where it begins there, its length.
    Copy(String, u64, u64),
}

/// How an archive gets to the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// What it is put together from.
    pub pieces: Vec<Piece>,
    /// Bytes that are sent of it.
    pub bytes: u64,
    /// Frames that are sent.
    pub frames: usize,
    /// Lines of `frames`, for later.
    frame_list: String,
    /// Lines of `brings`, for later.
    brings: String,
}

impl Upload {
    /// The upload of `artifact`; of everything, unless `reuse`.
    pub fn new(target: &Target, artifact: &Artifact, facts: &Facts, reuse: bool) -> Self {
        let own = format!("{ROOT}/{}/{}/{}.part", target.vmid, artifact.id(), artifact.file);
        let mut there: BTreeMap<Sha256, (String, u64, u64)> = BTreeMap::new();
        for kept in facts.kept.values().filter(|_| reuse) {
            // A part that an upload left is set aside while it is used.
            let path = if kept.path == own {
                format!("{ROOT}/{}/{}/old.part", target.vmid, artifact.id())
            } else {
                kept.path.clone()
            };
            for (sha256, offset, size) in &kept.frames {
                if offset.checked_add(*size).is_some_and(|end| end <= kept.size) {
                    there.insert(*sha256, (path.clone(), *offset, *size));
                }
            }
        }
        let (mut pieces, mut frame_list, mut frames, mut at) = (Vec::new(), String::new(), 0, 0);
        for frame in &artifact.frames {
            let _ = writeln!(frame_list, "{} {at} {}", frame.sha256, frame.size);
            match there.get(&frame.sha256).filter(|(_, _, size)| *size == frame.size) {
                Some((path, offset, size)) => add(&mut pieces, Piece::Copy(path.clone(), *offset, *size)),
                None => {
                    frames += 1;
                    add(&mut pieces, Piece::Send(at, frame.size));
                }
            }
            at += frame.size;
        }
        if at < artifact.size {
            add(&mut pieces, Piece::Send(at, artifact.size - at));
        }
        let marks = target.states.iter().filter_map(|state| state.mark.as_ref());
        let brings = marks.map(|(file, version)| format!("{file}\t{version}\n")).collect();
        let bytes =
            pieces.iter().map(|piece| if let Piece::Send(_, length) = piece { *length } else { 0 }).sum();
        Self { pieces, bytes, frames, frame_list, brings }
    }

    /// The script that receives it.
    pub fn script(&self, target: &Target, artifact: &Artifact) -> String {
        with_variables(
            &[
                ("root", ROOT),
                ("home", &target.home()),
                ("name", &artifact.id()),
                ("file", &artifact.file),
                ("size", &artifact.size.to_string()),
                ("sha256", &artifact.sha256.to_string()),
            ],
            SCRIPT,
        )
    }

    /// The list of pieces, as the script reads it.
    pub fn list(&self) -> String {
        let mut text = String::new();
        for piece in &self.pieces {
            let _ = match piece {
                Piece::Send(_, length) => writeln!(text, "send - - {length}"),
                Piece::Copy(path, offset, length) => writeln!(text, "copy {path} {offset} {length}"),
            };
        }
        text
    }

    /// Writes what the script reads; says how many bytes of the archive are on their way.
    ///
    /// # Errors
    /// When the archive cannot be read, or nobody reads any more.
    pub fn write(
        &self,
        artifact: &Artifact,
        out: &mut impl Write,
        mut sent: impl FnMut(u64),
    ) -> io::Result<()> {
        let lists = [self.list(), self.frame_list.clone(), self.brings.clone()];
        let lengths: Vec<_> = lists.iter().map(|list| list.len().to_string()).collect();
        writeln!(out, "{}", lengths.join(" "))?;
        for list in &lists {
            out.write_all(list.as_bytes())?;
        }
        let mut file = File::open(&artifact.path)?;
        let (mut buffer, mut total) = (vec![0; 64 << 10], 0);
        for piece in &self.pieces {
            let Piece::Send(offset, length) = piece else { continue };
            file.seek(SeekFrom::Start(*offset))?;
            let mut part = (&mut file).take(*length);
            loop {
                let read = part.read(&mut buffer)?;
                if read == 0 {
                    break;
                }
                out.write_all(&buffer[..read])?;
                total += read as u64;
                sent(total);
            }
        }
        out.flush()
    }
}

/// Adds a piece, to the one before it where it goes on there.
fn add(pieces: &mut Vec<Piece>, piece: Piece) {
    match (pieces.last_mut(), &piece) {
        (Some(Piece::Send(start, length)), Piece::Send(at, more)) if *start + *length == *at => {
            *length += more
        }
        (Some(Piece::Copy(path, start, length)), Piece::Copy(other, at, more))
            if path == other && *start + *length == *at =>
        {
            *length += more;
        }
        _ => pieces.push(piece),
    }
}
