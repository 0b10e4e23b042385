//! Every generated file, from the code that is its source.

use std::io;
use std::path::{Path, PathBuf};
use std::{fs, iter};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use kustody_api::{EncryptionKey, KeyProvider, SecretBinding};

use crate::{reference, roles, values};

/// What every generated YAML file begins with.
const HEADER: &str = "# Generated: run `cargo xtask generate` after a change of its source.\n";

/// Writes the files, or checks them and answers whether all are as they would be written.
pub(crate) fn run(check: bool) -> io::Result<bool> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut fresh = true;
    for (path, text) in files(&root)? {
        let target = root.join(&path);
        let same = fs::read_to_string(&target).is_ok_and(|found| found == text);
        if same {
            continue;
        }
        if check {
            eprintln!("{} is stale; run: cargo xtask generate", path.display());
            fresh = false;
            continue;
        }
        if let Some(directory) = target.parent() {
            fs::create_dir_all(directory)?;
        }
        fs::write(&target, text)?;
        eprintln!("wrote {}", path.display());
    }
    Ok(fresh)
}

fn files(root: &Path) -> io::Result<Vec<(PathBuf, String)>> {
    let crds = [KeyProvider::crd(), EncryptionKey::crd(), SecretBinding::crd()];
    let mut files = Vec::new();
    for crd in &crds {
        let name = crd.spec.names.plural.clone();
        let yaml = yaml(crd)?;
        files.push((format!("crds/{name}.yaml").into(), format!("{HEADER}{yaml}")));
        files.push((format!("charts/kustody/templates/crds/{name}.yaml").into(), format!("{HEADER}{}", template(&yaml))));
        files.push((format!("docs/reference/{}.md", crd.spec.names.singular.clone().unwrap_or(name)).into(), reference::kind(crd)));
    }
    files.push(("charts/kustody/templates/rbac.yaml".into(), format!("{HEADER}{}", roles::template())));
    files.push(("charts/kustody/templates/people.yaml".into(), format!("{HEADER}{}", roles::people())));
    files.push(("docs/reference/rbac.md".into(), roles::page()));
    let commented = fs::read_to_string(root.join("charts/kustody/values.yaml"))?;
    let parsed = values::parse(&commented)?;
    files.push(("charts/kustody/values.schema.json".into(), values::schema(&parsed)?));
    files.push(("docs/reference/values.md".into(), values::page(&parsed)));
    Ok(files)
}

fn yaml(crd: &CustomResourceDefinition) -> io::Result<String> {
    // Through JSON, so that numbers and absent fields are as the API server will have them.
    let value = serde_json::to_value(crd)?;
    let text = serde_saphyr::to_string(&value).map_err(io::Error::other)?;
    Ok(if text.ends_with('\n') { text } else { text + "\n" })
}

/// The definition as a template: kept when the release goes, since every object of its kind would go with it.
fn template(yaml: &str) -> String {
    let escaped = yaml.replace("{{", "{{ \"{{\" }}");
    let lines = escaped.lines().flat_map(|line| {
        let kept = (line == "metadata:").then_some("  annotations:\n    helm.sh/resource-policy: keep");
        iter::once(line).chain(kept)
    });
    lines.fold(String::new(), |text, line| text + line + "\n")
}
