//! `why`: the chain of dependencies that brings a package into an image.

use serde::Serialize;

use crate::apt::lockfile::{Lock, Reason, SetMember};
use crate::apt::locking::nearest_name;

/// One link of the chain, from the asked package up to what a recipe names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Link {
    /// The package.
    pub package: String,
    /// Its version.
    pub version: String,
    /// Its architecture.
    pub architecture: String,
    /// Why it is there.
    pub reason: Reason,
    /// The package that asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// The recipe whose packages it came with.
    pub recipe: String,
}

/// The package is not in the image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("package `{package}` is not in image `{image}`{}", near.as_deref().map(|n| format!("; is it `{n}`?")).unwrap_or_default())]
pub struct NotInImage {
    package: String,
    image: String,
    near: Option<String>,
}

/// The chain from `package` to what asked for it first, by the lock alone. `recipes` are the image's.
///
/// # Errors
/// When the package is in none of the image's sets.
pub fn why(lock: &Lock, image: &str, recipes: &[String], package: &str) -> Result<Vec<Link>, NotInImage> {
    let sets = (1..=recipes.len()).filter_map(|length| lock.set(&recipes[..length]));
    let members: Vec<(&SetMember, &str)> = sets
        .flat_map(|set| {
            let recipe = set.recipes.last().map_or("", String::as_str);
            set.packages.iter().map(move |member| (member, recipe))
        })
        .collect();
    let find = |name: &str| members.iter().find(|(member, _)| member.name == name);
    let mut chain: Vec<Link> = Vec::new();
    let mut next = Some(package.to_owned());
    while let Some(name) = next.take() {
        let Some((member, recipe)) = find(&name) else {
            if chain.is_empty() {
                let known = members.iter().map(|(member, _)| member.name.as_str());
                let near = nearest_name(package, known).map(str::to_owned);
                return Err(NotInImage { package: package.to_owned(), image: image.to_owned(), near });
            }
            break;
        };
        let seen = chain.iter().any(|link| link.package == member.name);
        if seen {
            break;
        }
        chain.push(Link {
            package: member.name.clone(),
            version: member.version.clone(),
            architecture: member.architecture.clone(),
            reason: member.reason,
            by: member.by.clone(),
            recipe: (*recipe).to_owned(),
        });
        next = member.by.clone();
    }
    Ok(chain)
}
