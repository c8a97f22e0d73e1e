//! What the user hands over with a deployment: secrets and public keys, read before anything is done.

use std::collections::BTreeMap;

use super::CommandError;
use super::deploy::DeployOptions;
use super::session::Session;
use crate::deploy::secrets;

/// Secrets and keys as they are read, before anything is done.
#[derive(Default)]
pub(super) struct Secrets {
    /// By image and name.
    pub given: BTreeMap<(String, String), Vec<u8>>,
    /// Public keys for root.
    pub keys: Option<Vec<u8>>,
}

/// Names of the secrets that are given for `image`.
pub(super) fn given(options: &DeployOptions, image: &str) -> Vec<String> {
    options.secrets.keys().filter(|(of, _)| of == image).map(|(_, name)| name.clone()).collect()
}

/// Reads what is given; a secret that no image takes is a mistake.
pub(super) fn check_secrets(
    session: &Session,
    options: &DeployOptions,
    names: &[String],
) -> Result<Secrets, CommandError> {
    for (image, name) in options.secrets.keys() {
        let taken: Vec<String> = names
            .iter()
            .filter_map(|name| session.project.images.get(name))
            .flat_map(|image| {
                let recipes = image.recipes.iter().filter_map(|name| session.project.recipes.get(name));
                recipes
                    .flat_map(|recipe| &recipe.secrets)
                    .map(|secret| format!("{}.{}", image.name, secret.name))
            })
            .collect();
        if !taken.contains(&format!("{image}.{name}")) {
            let there = if taken.is_empty() {
                "they take none".to_owned()
            } else {
                format!("they take: {}", taken.join(", "))
            };
            return Err(CommandError::Usage(format!(
                "no image that is deployed takes a secret `{image}.{name}`; {there}"
            )));
        }
    }
    if options.dry_run {
        return Ok(Secrets::default());
    }
    let mut read = Secrets::default();
    for (key, source) in &options.secrets {
        let secret = secrets::read(&format!("{}.{}", key.0, key.1), source);
        read.given.insert(key.clone(), secret.map_err(|error| CommandError::Usage(error.to_string()))?);
    }
    if let Some(path) = &options.ssh_keys {
        let keys = secrets::read_file(path).map_err(|error| CommandError::Usage(error.to_string()))?;
        check_keys(&path.display().to_string(), &keys)?;
        read.keys = Some(keys);
    }
    Ok(read)
}

/// Public keys, and nothing private.
fn check_keys(path: &str, keys: &[u8]) -> Result<(), CommandError> {
    let text = std::str::from_utf8(keys).unwrap_or_default();
    let known = ["ssh-", "ecdsa-", "sk-ssh-", "sk-ecdsa-"];
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    for (number, line) in
        text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'))
    {
        if line.contains("PRIVATE KEY")
            || !line.split_whitespace().any(|word| known.iter().any(|kind| word.starts_with(kind)))
        {
            let message = format!(
                "{path}:{}: this is no public key; give a file as ~/.ssh/authorized_keys is one",
                number + 1
            );
            return Err(CommandError::Usage(message));
        }
    }
    if lines.count() == 0 {
        return Err(CommandError::Usage(format!("{path} has no public key")));
    }
    Ok(())
}
