//! `explain`: why a pod of the cluster was given what it was given, or nothing.

use kustody_inject::explain;
use kustody_inject::view::Pod;
use serde_json::Value;

use crate::agent::Agent;
use crate::cluster::{self, Cluster, Connection, Resource};
use crate::failure::Failure;
use crate::manifests;
use crate::names;
use crate::output::{self, Format};
use crate::report::{Report, Subject};
use crate::world::World;

const HELP: &str = "\
Examples:
  # why does this pod have, or lack, its secrets?
  kubectl kustody explain pod/train-x7k2p -n vision

  # a pod that was denied does not exist: ask about what makes it
  kubectl kustody explain job/train -n vision

  # for programs: `outcome` is injected, leftAlone, missed, wouldBeInjected or wouldBeDenied
  kubectl kustody explain pod/train-x7k2p -n vision -o json

Every SecretBinding of the namespace is listed: whether it serves the pod or why not, which containers, which files and
variables, and for each secret where it comes from and whether the pod was given it. The decision is the webhook's own code
over what the cluster says at this moment; a pod that was admitted is held against the plan that it carries. The agent gives
all that a pod was promised or nothing, so its state in the pod's status tells what was given. No value is shown or opened.

Takes the rights to get pods (or the kind that is asked about) and to list secretbindings of the namespace; without get on
namespaces and list on nodes, notes say what is assumed.

Exit codes: 0 explained, whatever the outcome; 2 wrong command line; 3 the object or what decides about it cannot be read.";

/// Settings of `explain`.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct ExplainArgs {
    /// pod/NAME; or job/, cronjob/, deployment/, statefulset/, daemonset/, replicaset/NAME for the pods that it makes.
    #[arg(value_name = "KIND/NAME")]
    target: Target,
    /// For people or for programs.
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    output: Format,
    #[command(flatten)]
    connection: Connection,
}

/// What is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    resource: Resource,
    name: String,
}

impl std::str::FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, name) = text.split_once('/').ok_or_else(|| format!("write it as KIND/NAME, for example pod/{text}"))?;
        let resource = match kind {
            "pod" | "pods" | "po" => cluster::PODS,
            "job" | "jobs" => cluster::JOBS,
            "cronjob" | "cronjobs" | "cj" => cluster::CRON_JOBS,
            "deployment" | "deployments" | "deploy" => cluster::DEPLOYMENTS,
            "statefulset" | "statefulsets" | "sts" => cluster::STATEFUL_SETS,
            "daemonset" | "daemonsets" | "ds" => cluster::DAEMON_SETS,
            "replicaset" | "replicasets" | "rs" => cluster::REPLICA_SETS,
            other => {
                return Err(format!(
                    "{other} is not a kind whose pods are known (pod, job, cronjob, deployment, statefulset, daemonset, replicaset); ask about one of its pods"
                ));
            }
        };
        Ok(Self { resource, name: names::object(name)? })
    }
}

/// Reads the pod and what decides about it, and says why. Nothing is written.
///
/// Requires: `get` on the target; what [`World::read`] requires.
pub(crate) async fn run(args: &ExplainArgs) -> Result<(), Failure> {
    let Target { resource, name } = &args.target;
    let cluster = Cluster::connect(&args.connection).await?;
    let namespace = cluster.namespace().to_owned();
    let is_pod = *resource == cluster::PODS;
    let mut object = match cluster.get(*resource, Some(&namespace), name).await {
        Err(cluster::Error::Absent { object }) if is_pod => return Err(Failure::Gone(no_pod(&object, &namespace))),
        found => found?,
    };
    // What makes a pod of it looks at the kind, which an answer need not repeat.
    if let Some(object) = object.as_object_mut() {
        object.insert("kind".to_owned(), Value::from(resource.kind));
    }
    let title = cluster::object(*resource, Some(&namespace), name);
    let Some(pod) = manifests::pod(&object) else {
        return Err(Failure::Gone(format!("{title} is not what the API server should have answered with")));
    };
    let mut world = World::default();
    world.read(&cluster, &namespace).await?;
    let text = pod.to_string();
    let view: Pod<'_> = serde_json::from_str(&text).map_err(|source| cluster::Error::Unreadable { object: title.clone(), source })?;
    let explanation = explain(&view, &namespace, &world.facts(&namespace), &world.config(None));
    let subject = Subject {
        title: if is_pod { title } else { format!("The next pod of {title}") },
        exists: is_pod,
        agent: Agent::of(&object).filter(|_| is_pod),
        namespace: namespace.clone(),
    };
    let bindings: Vec<_> = world.bindings_of(&namespace).collect();
    output::print(args.output, &Report::new(&subject, &explanation, &bindings, world.notes.clone()))
}

fn no_pod(object: &str, namespace: &str) -> String {
    format!(
        "{object} does not exist: a pod that was denied never does; ask about what makes it (kubectl kustody explain job/NAME -n {namespace}), or about its manifest (kubectl kustody inject -f FILE --from-cluster -o text)"
    )
}

#[cfg(test)]
mod tests {
    use super::Target;
    use crate::cluster;

    #[test]
    fn a_target_is_a_kind_whose_pods_are_known_and_a_name() {
        assert_eq!("pod/train".parse(), Ok(Target { resource: cluster::PODS, name: "train".to_owned() }));
        assert_eq!("deploy/serve".parse::<Target>().unwrap().resource, cluster::DEPLOYMENTS);
        for (text, part) in
            [("train", "pod/train"), ("pytorchjob/train", "ask about one of its pods"), ("pod/", "1 to 253"), ("pod/A", "lower-case")]
        {
            let error = text.parse::<Target>().unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
