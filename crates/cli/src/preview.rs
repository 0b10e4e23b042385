//! `inject`: what the webhook would do to a pod, by the webhook's own code.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kustody_inject::view::Pod;
use kustody_inject::{Explanation, explain, respond};
use serde_json::{Value, json};

use crate::cluster::{Cluster, Connection};
use crate::failure::Failure;
use crate::manifests::{self, Object};
use crate::output::{self, Format};
use crate::report::{Report, Subject};
use crate::world::{AGENT_IMAGE, World};

const HELP: &str = "\
Examples:
  # offline: the pod, and the bindings that are to serve it
  kubectl kustody inject -f pod.yaml -f binding.yaml

  # a Job against the bindings of the cluster, only in words
  kubectl kustody inject -f job.yaml --from-cluster -o text

  # what a changed binding would do to a pod that runs
  kubectl -n vision get pod train -o yaml | kubectl kustody inject -f - -f binding.yaml --from-cluster

Files may hold several objects: Pods and whatever makes pods (Job, CronJob, Deployment, StatefulSet, DaemonSet, ReplicaSet)
are previewed; SecretBinding, Namespace, Node, ResourceQuota and LimitRange are what the webhook would know. A binding of a
file has no status and is taken to be ready. Rules of the schema are the API server's: kubectl apply --dry-run=server.
Nothing is written, no value is opened. What is assumed is said on standard error.

Exit codes: 0 every pod would be admitted; 1 one would be denied, or a file cannot be used; 2 wrong command line; 3 the cluster.";

/// Settings of `inject`.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct InjectArgs {
    /// File with pods, or what admission looks at; `-` for standard input. Repeatable.
    #[arg(short, long = "filename", value_name = "FILE", required = true)]
    filename: Vec<PathBuf>,
    /// Read bindings, labels of the namespace, kubelets, quotas and the installation from the cluster; files win over it.
    #[arg(long)]
    from_cluster: bool,
    /// The agent's image; absent: what the cluster's webhook adds, offline the chart's own.
    #[arg(long, value_name = "IMAGE")]
    agent_image: Option<String>,
    /// The patched pods as yaml or json, or in words.
    #[arg(short, long, value_enum, default_value_t = Format::Yaml)]
    output: Format,
    #[command(flatten)]
    connection: Connection,
}

/// A pod of a file.
struct Candidate {
    title: String,
    namespace: String,
    pod: Value,
}

/// Previews every pod of the files; the first denial is the answer once all are printed.
pub(crate) async fn run(args: &InjectArgs) -> Result<(), Failure> {
    let objects = manifests::read(&args.filename)?;
    let cluster = if args.from_cluster { Some(Cluster::connect(&args.connection).await?) } else { None };
    let default = cluster.as_ref().map(Cluster::namespace).or(args.connection.namespace.as_deref()).unwrap_or("default");
    let candidates = candidates(&objects, default, args)?;
    let mut world = World::default();
    if let Some(cluster) = &cluster {
        let mut namespaces: Vec<&str> = candidates.iter().map(|candidate| candidate.namespace.as_str()).collect();
        namespaces.sort_unstable();
        namespaces.dedup();
        for namespace in namespaces {
            world.read(cluster, namespace).await?;
            world.read_rest(cluster, namespace).await?;
        }
    } else {
        let image = args.agent_image.as_deref().unwrap_or(AGENT_IMAGE);
        world.notes.push(format!(
            "offline: the agent's image is taken to be {image}, every kubelet 1.35 or newer unless a file has Nodes, and BROKER and AUTHORITY stand for what the cluster knows; --from-cluster looks"
        ));
    }
    for object in &objects {
        world.add(object, default)?;
    }
    let mut previews = Vec::new();
    for candidate in candidates {
        previews.push(preview(candidate, &world, args.agent_image.as_deref())?);
    }
    print(&previews, &world, args.output)
}

fn candidates(objects: &[Object], default: &str, args: &InjectArgs) -> Result<Vec<Candidate>, Failure> {
    let mut found = Vec::new();
    for object in objects {
        let Some(pod) = manifests::pod(&object.value) else { continue };
        if let (Some(said), Some(wanted)) = (object.namespace(), args.connection.namespace.as_deref())
            && said != wanted
        {
            let (found, wanted) = (said.to_owned(), wanted.to_owned());
            return Err(manifests::Error::OtherNamespace { pod: object.title(), found, wanted }.into());
        }
        let title = if object.kind() == "Pod" { object.title() } else { format!("the pod of {}", object.title()) };
        found.push(Candidate { title, namespace: object.namespace().unwrap_or(default).to_owned(), pod });
    }
    if found.is_empty() {
        let from: Vec<String> = args.filename.iter().map(|path| path.display().to_string()).collect();
        return Err(manifests::Error::NoPod { from: from.join(", ") }.into());
    }
    Ok(found)
}

/// What came of one pod.
struct Preview {
    candidate: Candidate,
    explanation: Explanation,
    /// The pod as it would be; or why it would be denied.
    result: Result<Value, String>,
    remarks: Vec<String>,
}

/// Asks the webhook's code as the API server would, and applies the patch as the API server would.
fn preview(candidate: Candidate, world: &World, agent_image: Option<&str>) -> Result<Preview, Failure> {
    let Candidate { title, namespace, pod } = &candidate;
    let (facts, config) = (world.facts(namespace), world.config(agent_image));
    let review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {"uid": "preview", "operation": "CREATE", "namespace": namespace, "object": pod},
    });
    let unanswered = |source| Failure::Unanswered { pod: title.clone(), source };
    let answer = respond(review.to_string().as_bytes(), |_| Some(facts.clone()), &config).map_err(unanswered)?;
    let text = pod.to_string();
    let view: Pod<'_> = serde_json::from_str(&text).map_err(|source| unanswered(kustody_inject::answer::Error::Malformed(source)))?;
    let explanation = explain(&view, namespace, &facts, &config);
    let broken = |source: Box<dyn std::error::Error + Send + Sync>| Failure::Patch { pod: title.clone(), source };
    let body: Value = serde_json::from_slice(&answer.body).map_err(|error| broken(Box::new(error)))?;
    let response = &body["response"];
    let result = if response["allowed"] == true {
        Ok(patched(pod, response["patch"].as_str()).map_err(broken)?)
    } else {
        Err(response["status"]["message"].as_str().unwrap_or_default().to_owned())
    };
    let remarks = response["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str).map(ToOwned::to_owned).collect();
    Ok(Preview { candidate, explanation, result, remarks })
}

fn patched(pod: &Value, patch: Option<&str>) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
    let mut pod = pod.clone();
    if let Some(patch) = patch {
        let patch: json_patch::Patch = serde_json::from_slice(&STANDARD.decode(patch)?)?;
        json_patch::patch(&mut pod, &patch)?;
    }
    Ok(pod)
}

fn print(previews: &[Preview], world: &World, format: Format) -> Result<(), Failure> {
    let admitted: Vec<&Value> = previews.iter().filter_map(|preview| preview.result.as_ref().ok()).collect();
    match format {
        Format::Text => {
            let text: Vec<String> = previews.iter().map(|preview| report(preview, world).to_string()).collect();
            output::say(&text.join("\n"))?;
        }
        Format::Yaml => {
            let documents: Vec<String> = admitted.iter().map(output::yaml).collect::<Result<_, _>>()?;
            output::say(&documents.join("---\n"))?;
        }
        Format::Json => match admitted.as_slice() {
            [] => {}
            [one] => output::say(&output::json(one)?)?,
            several => output::say(&output::json(&json!({"apiVersion": "v1", "kind": "List", "items": several}))?)?,
        },
    }
    if format != Format::Text {
        for note in &world.notes {
            output::note(note);
        }
    }
    let mut denied = None;
    for Preview { candidate: Candidate { title, .. }, explanation, result, remarks } in previews {
        for remark in remarks {
            output::note(&format!("{title}: {remark}"));
        }
        match (result, &explanation.decision) {
            (Err(why), _) => denied = denied.or(Some((title, why))),
            (Ok(_), kustody_inject::Decision::Skip(why)) if format != Format::Text => {
                output::note(&format!("{title} would be left alone: {why}"));
            }
            _ => {}
        }
    }
    denied.map_or(Ok(()), |(pod, why)| Err(Failure::Denied { pod: pod.clone(), why: why.clone() }))
}

fn report(preview: &Preview, world: &World) -> Report {
    let Candidate { title, namespace, .. } = &preview.candidate;
    let subject = Subject { title: format!("{title} in namespace {namespace}"), namespace: namespace.clone(), exists: false, agent: None };
    let bindings: Vec<_> = world.bindings_of(namespace).collect();
    Report::new(&subject, &preview.explanation, &bindings, world.notes.clone())
}
