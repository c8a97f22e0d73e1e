//! From what was written to what is meant: every rule, every problem reported, nothing stops at the first.
//!
//! [`recipe`], [`image`] and [`site`] check one file; [`combine`] the recipes of one image together; [`across`] all
//! images of the project. Drafts keep the places of values, so that a collision can show both sides.

pub mod accounts;
pub mod across;
pub mod archive;
pub mod combine;
pub mod files;
pub mod gpu;
mod handover;
pub mod image;
pub mod mounts;
pub mod offer;
pub mod owners;
pub mod recipe;
pub mod service;
pub mod site;
pub mod tarball;

use std::collections::BTreeMap;
use std::ops::Range;

use super::diagnostics::{Diagnostic, Diagnostics};
use super::source::{Place, SourceFile};
use super::syntax::At;
use super::words::Complaint;

/// One file being checked, and where its problems go.
pub struct Scope<'a> {
    /// The file.
    pub file: &'a SourceFile,
    /// The problems of all files.
    pub problems: &'a mut Diagnostics,
    /// Whether this file had an error.
    pub failed: bool,
}

impl<'a> Scope<'a> {
    /// Starts with a file.
    pub fn new(file: &'a SourceFile, problems: &'a mut Diagnostics) -> Self {
        Self { file, problems, failed: false }
    }

    /// Where `at` is.
    pub fn place<T>(&self, at: &At<T>) -> Place {
        self.file.place(at.span.clone())
    }

    /// Reports an error at bytes of this file.
    pub fn error(&mut self, span: &Range<usize>, message: impl Into<String>) -> &mut Diagnostic {
        self.failed = true;
        self.problems.error(self.file.place(span.clone()), message)
    }

    /// Reports a warning at bytes of this file.
    pub fn warning(&mut self, span: &Range<usize>, message: impl Into<String>) -> &mut Diagnostic {
        self.problems.warning(self.file.place(span.clone()), message)
    }

    /// The value, or its complaint reported.
    pub fn take<T>(&mut self, span: &Range<usize>, result: Result<T, Complaint>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(Complaint { message, help }) => {
                let problem = self.error(span, message);
                if !help.is_empty() {
                    problem.help(help);
                }
                None
            }
        }
    }

    /// A number from `least` to `most`; `what` begins the message.
    pub fn within<N: TryFrom<i64>>(&mut self, at: &At<i64>, least: i64, most: i64, what: &str) -> Option<N> {
        if (least..=most).contains(&at.value) {
            return N::try_from(at.value).ok();
        }
        let message = format!("{what} is {}, not between {least} and {most}", at.value);
        self.error(&at.span, message).help(format!("write a number from {least} to {most}"));
        None
    }

    /// Reports every item of a list that stands in it twice.
    pub fn unique(&mut self, items: &[At<String>]) {
        let mut seen: BTreeMap<&str, &At<String>> = BTreeMap::new();
        for item in items {
            if let Some(first) = seen.get(item.value.as_str()) {
                let first = self.file.place(first.span.clone());
                self.error(&item.span, format!("`{}` is listed twice", item.value))
                    .related(&first, "first here")
                    .help("leave one out");
            } else {
                seen.insert(&item.value, item);
            }
        }
    }
}
