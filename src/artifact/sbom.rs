//! SPDX 2.3: which packages are in an image, for scanners and auditors.

use serde_json::{Value, json};

use crate::plan::Plan;

/// The SPDX document of `plan`'s packages, by the lock alone: the same plan gives the same text.
///
/// Form: SPDX 2.3, JSON; one SPDX package per Debian package, with a purl and the hash of its .deb, and
/// one per tarball, with its URL and hash.
pub fn sbom(plan: &Plan) -> String {
    let image = &plan.evaluated.image.name;
    let release = plan.evaluated.recipes.iter().find_map(|recipe| recipe.recipe.release.as_deref());
    let release = release.unwrap_or_default();
    let rows = plan.stages.iter().flat_map(|stage| &stage.packages);
    let mut packages: Vec<_> = rows.collect();
    packages.sort();
    let id = |name: &str, architecture: &str| {
        let clean = |c: char| if c.is_ascii_alphanumeric() || c == '.' || c == '-' { c } else { '-' };
        format!(
            "SPDXRef-Package-{}-{architecture}",
            name.replace('+', "plus").chars().map(clean).collect::<String>()
        )
    };
    let described = json!({
        "SPDXID": "SPDXRef-Image",
        "name": image,
        "versionInfo": plan.key.to_string(),
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": false,
        "primaryPackagePurpose": "CONTAINER",
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "NOASSERTION",
        "copyrightText": "NOASSERTION",
    });
    let debs = packages.iter().map(|package| {
        let purl = format!(
            "pkg:deb/{}/{}@{}?arch={}&distro={release}",
            if package.archive.starts_with("debian") { "debian" } else { package.archive.as_str() },
            percent_encode(&package.name),
            percent_encode(&package.version),
            package.architecture
        );
        json!({
            "SPDXID": id(&package.name, &package.architecture),
            "name": package.name,
            "versionInfo": package.version,
            "packageFileName": package.path,
            "downloadLocation": "NOASSERTION",
            "filesAnalyzed": false,
            "checksums": [{ "algorithm": "SHA256", "checksumValue": package.sha256.to_string() }],
            "externalRefs": [{
                "referenceCategory": "PACKAGE-MANAGER",
                "referenceType": "purl",
                "referenceLocator": purl,
            }],
            "licenseConcluded": "NOASSERTION",
            "licenseDeclared": "NOASSERTION",
            "copyrightText": "NOASSERTION",
        })
    });
    let tarball_id = |name: &str| id(name, "tarball");
    let tarballs = plan.tarballs.iter().map(|tarball| {
        json!({
            "SPDXID": tarball_id(&tarball.name),
            "name": tarball.name,
            "packageFileName": crate::fetch::file_name(&tarball.url).unwrap_or_default(),
            "downloadLocation": tarball.url,
            "filesAnalyzed": false,
            "checksums": [{ "algorithm": "SHA256", "checksumValue": tarball.sha256.to_string() }],
            "licenseConcluded": "NOASSERTION",
            "licenseDeclared": "NOASSERTION",
            "copyrightText": "NOASSERTION",
        })
    });
    let ids = packages.iter().map(|package| id(&package.name, &package.architecture));
    let ids = ids.chain(plan.tarballs.iter().map(|tarball| tarball_id(&tarball.name)));
    let contains = ids.map(|id| {
        json!({
            "spdxElementId": "SPDXRef-Image",
            "relationshipType": "CONTAINS",
            "relatedSpdxElement": id,
        })
    });
    let describes = json!({
        "spdxElementId": "SPDXRef-DOCUMENT",
        "relationshipType": "DESCRIBES",
        "relatedSpdxElement": "SPDXRef-Image",
    });
    let document = json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": image,
        "documentNamespace": format!("https://spdx.org/spdxdocs/{image}-{}", plan.key),
        "creationInfo": {
            "created": plan.lock_time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            "creators": [format!("Tool: build-images-{}", env!("CARGO_PKG_VERSION"))],
        },
        "packages": std::iter::once(described).chain(debs).chain(tarballs).collect::<Vec<Value>>(),
        "relationships": std::iter::once(describes).chain(contains).collect::<Vec<Value>>(),
    });
    format!("{document:#}\n")
}

/// Percent-encodes what a purl's name and version may not hold as they are.
fn percent_encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'~');
    text.bytes().map(|b| if plain(b) { (b as char).to_string() } else { format!("%{b:02X}") }).collect()
}
