//! The search of an image for secrets. What recipes bring, and what only its path makes suspicious, is searched before the archive
//! is written, the packages' files on the way into it: to read them a second time would take longer than to search them.

use std::collections::BTreeSet;

use super::CommandError;
use super::session::Session;
use crate::build::secrets::{self, Clean, CleanContents, Located, Report};
use crate::digest::Sha256;
use crate::plan::Plan;
use crate::tree::{Contents, Node, Tree};

/// So few contents are not postponed: to go through all paths a second time would take longer. Samples of keys in documentation
/// are never known to be clean.
const FEW: usize = 100;

/// The search of one image. Contents of each layer are searched once.
pub(super) struct Search<'a> {
    image: &'a str,
    clean: &'a Clean,
    /// Of the topmost layer.
    list: Option<CleanContents<'a>>,
    /// What was on it.
    listed: Option<BTreeSet<Sha256>>,
    /// What the packages brought and nobody has searched yet.
    postponed: BTreeSet<Sha256>,
}

impl<'a> Search<'a> {
    /// Searches `tree`, but for contents of `packages`, the tree of the topmost layer, that are not known to be `clean`.
    ///
    /// # Errors
    /// When a content cannot be read, or a file holds a secret.
    pub fn begin(
        session: &'a Session<'_>,
        plan: &'a Plan,
        packages: &Tree,
        (tree, contents): (&Tree, &dyn Contents),
        clean: &'a Clean,
    ) -> Result<Self, CommandError> {
        let mut lists: Vec<_> =
            plan.stages.iter().map(|stage| CleanContents::of(&session.store, stage.key)).collect();
        let (mut known, mut listed) = (clean.known(), None);
        for list in &lists {
            listed = list.read();
            known.extend(listed.iter().flatten());
        }
        let brought = packages.values().filter_map(|node| node.content()).filter(|content| content.size > 0);
        let mut postponed: BTreeSet<_> =
            brought.map(|content| content.sha256).filter(|sha256| !known.contains(sha256)).collect();
        if postponed.len() <= FEW {
            postponed.clear();
        }
        let image = &plan.evaluated.image.name;
        let mut search = Self { image, clean, list: lists.pop(), listed, postponed };
        if search.postponed.is_empty() {
            let report = search.scan(tree, contents, &known)?;
            search.stop_at(&report.findings)?;
            search.remember(&report.clean)?;
            return Ok(search);
        }
        clean.extend(known.iter().copied());
        known.extend(&search.postponed);
        let mut report = search.scan(tree, contents, &known)?;
        if !report.findings.is_empty() {
            // It is all over, so now there is time to tell everything at once.
            report = search.scan(tree, contents, &clean.known())?;
        }
        search.stop_at(&report.findings)?;
        clean.extend(report.clean.difference(&search.postponed).copied());
        Ok(search)
    }

    /// Searches what is left, once the archive is written, with what has become known of it meanwhile.
    ///
    /// # Errors
    /// As [`begin`](Self::begin).
    pub fn finish(mut self, tree: &Tree, contents: &dyn Contents) -> Result<(), CommandError> {
        if self.postponed.is_empty() {
            return Ok(());
        }
        let known = self.clean.known();
        self.postponed.retain(|sha256| !known.contains(sha256));
        let left =
            |node: &Node| node.content().is_some_and(|content| self.postponed.contains(&content.sha256));
        // The rest of the tree was searched before.
        let rest: Tree = tree
            .iter()
            .filter(|(_, node)| left(node))
            .map(|(path, node)| (path.clone(), node.clone()))
            .collect();
        let Report { findings, clean } = self.scan(&rest, contents, &known)?;
        self.stop_at(&findings)?;
        self.clean.extend(clean);
        self.remember(&self.clean.known_of(tree))
    }

    /// Puts `clean` on the list of the topmost layer. Contents of lower layers are on their own lists too.
    fn remember(&mut self, clean: &BTreeSet<Sha256>) -> Result<(), CommandError> {
        Ok(self.list.take().map_or(Ok(()), |list| list.keep(clean, self.listed.as_ref()))?)
    }

    /// Searches all that is not `known`.
    fn scan(
        &self,
        tree: &Tree,
        contents: &dyn Contents,
        known: &BTreeSet<Sha256>,
    ) -> Result<Report, CommandError> {
        let image = self.image;
        secrets::scan(tree, contents, known)
            .map_err(|error| CommandError::failed(&format!("{image}: cannot search for secrets"), &error))
    }

    /// Fails when there are any.
    fn stop_at(&self, findings: &[Located]) -> Result<(), CommandError> {
        if findings.is_empty() {
            return Ok(());
        }
        let image = self.image;
        let lines: Vec<_> = findings.iter().map(|found| format!("  {found}")).collect();
        Err(CommandError::Failed(format!(
            "{image}: it would hold secrets; they belong into its state, at deployment\n{}",
            lines.join("\n")
        )))
    }
}
