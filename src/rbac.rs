//! The rights that each role needs, as data with reasons; `cargo xtask generate` writes the chart's RBAC from it.

/// Where a rule holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// In every namespace, and for what has none.
    Cluster,
    /// In the namespace of the installation.
    Installation,
}

/// One rule.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Where it holds.
    pub scope: Scope,
    /// API group; empty for the core.
    pub group: &'static str,
    /// Resources.
    pub resources: &'static [&'static str],
    /// Names, `{name}` being the installation's; empty for all.
    pub names: &'static [&'static str],
    /// Verbs.
    pub verbs: &'static [&'static str],
    /// What it is for.
    pub reason: &'static str,
    /// The value of the chart without which nobody needs it.
    pub when: Option<When>,
}

/// A value of the chart and what it must be.
#[derive(Clone, Copy, Debug)]
pub struct When {
    /// Name of the value.
    pub value: &'static str,
    /// What it must be.
    pub is: &'static str,
}

/// A role of the operator and its rules.
#[derive(Clone, Copy, Debug)]
pub struct Role {
    /// Its name, and the end of its service account's.
    pub name: &'static str,
    /// Its rules.
    pub rules: &'static [Rule],
}

const fn cluster(group: &'static str, resources: &'static [&'static str], verbs: &'static [&'static str], reason: &'static str) -> Rule {
    Rule { scope: Scope::Cluster, group, resources, names: &[], verbs, reason, when: None }
}

const fn ours(group: &'static str, resources: &'static [&'static str], verbs: &'static [&'static str], reason: &'static str) -> Rule {
    Rule { scope: Scope::Installation, group, resources, names: &[], verbs, reason, when: None }
}

const fn named(rule: Rule, names: &'static [&'static str]) -> Rule {
    Rule { names, ..rule }
}

/// A rule that only an installation that evicts pods without their secrets needs.
const fn evicting(rule: Rule) -> Rule {
    Rule { when: Some(When { value: "controller.podsWithoutSecrets", is: "Evict" }), ..rule }
}

const GROUP: &str = kustody_api::names::GROUP;
const KINDS: &[&str] = &["keyproviders", "encryptionkeys", "secretbindings"];
const STATUSES: &[&str] = &["keyproviders/status", "encryptionkeys/status", "secretbindings/status"];

/// Every role.
pub const ROLES: &[Role] = &[
    Role {
        name: "controller",
        rules: &[
            cluster(GROUP, KINDS, &["get", "list", "watch"], "reconcile them; a key is read live before anything is decided about it"),
            cluster(GROUP, STATUSES, &["patch"], "say what was seen and done"),
            cluster(
                "",
                &["namespaces"],
                &["get", "list", "watch"],
                "labels decide who may reach a provider; the UID of kube-system names the cluster",
            ),
            cluster("", &["pods"], &["list", "watch"], "count the pods that a binding selects, and find those that lack its secrets"),
            cluster("events.k8s.io", &["events"], &["create", "patch"], "tell people of transitions"),
            named(
                cluster(
                    "admissionregistration.k8s.io",
                    &["mutatingwebhookconfigurations"],
                    &["get", "list", "watch", "patch"],
                    "put the authority into caBundle, and heal it",
                ),
                &["zz-{name}"],
            ),
            named(
                cluster(
                    "admissionregistration.k8s.io",
                    &["validatingwebhookconfigurations"],
                    &["get", "list", "watch", "patch"],
                    "the same for the gate before our own kinds",
                ),
                &["{name}-gates"],
            ),
            ours(
                "",
                &["secrets"],
                &["get", "list", "create", "update"],
                "records of the embedded KMS, the authority and the certificates that it signs",
            ),
            named(
                ours("", &["secrets"], &["watch"], "renew a certificate whose Secret was changed, or trust what cert-manager issued"),
                &["{name}-ca", "{name}-webhook-tls", "{name}-broker-tls", "{name}-webhook-cert-manager", "{name}-broker-cert-manager"],
            ),
            ours("coordination.k8s.io", &["leases"], &["get", "create", "patch", "update"], "one replica acts"),
            evicting(cluster("", &["pods/eviction"], &["create"], "evict pods that lack their secrets, as disruption budgets allow")),
            evicting(cluster("batch", &["jobs"], &["get"], "a pod whose Job would count that as a failure is not evicted")),
            evicting(named(
                ours("apps", &["deployments"], &["get"], "nothing is evicted while the webhook is not there"),
                &["{name}-webhook"],
            )),
        ],
    },
    Role {
        name: "webhook",
        rules: &[
            cluster(GROUP, &["secretbindings"], &["list", "watch"], "which pods get what"),
            cluster("", &["namespaces"], &["list", "watch"], "labels decide whose pods ask"),
            cluster("", &["nodes"], &["list", "watch"], "environment files need every kubelet to know them"),
            cluster("", &["resourcequotas", "limitranges"], &["list", "watch"], "whether a namespace demands a CPU limit"),
            cluster(
                "authorization.k8s.io",
                &["subjectaccessreviews"],
                &["create"],
                "whether whoever writes an object of ours may use what it names",
            ),
            named(ours("", &["services"], &["list", "watch"], "the address that agents are given"), &["{name}-broker"]),
            named(
                ours("", &["secrets"], &["get", "list", "watch"], "its own certificate, and no other Secret"),
                &["{name}-webhook-tls", "{name}-webhook-cert-manager"],
            ),
        ],
    },
    Role {
        name: "broker",
        rules: &[
            cluster(GROUP, KINDS, &["list", "watch"], "who may have what, at the moment of release"),
            cluster(
                "",
                &["pods"],
                &["get", "list", "watch"],
                "whether the pod of a token is alive; one that is not in the cache yet is read",
            ),
            cluster("", &["serviceaccounts"], &["get", "list", "watch"], "whether the service account of a token is still the same"),
            cluster("", &["namespaces"], &["list", "watch"], "labels decide who may reach a provider"),
            cluster("authentication.k8s.io", &["tokenreviews"], &["create"], "when the cache does not know the pod yet"),
            ours("", &["secrets"], &["get", "list"], "wrapped keys of the embedded KMS and its root key"),
            named(ours("", &["secrets"], &["watch"], "its own certificate"), &["{name}-broker-tls", "{name}-broker-cert-manager"]),
        ],
    },
];

/// A role for people, which whoever runs the cluster binds.
#[derive(Clone, Copy, Debug)]
pub struct Person {
    /// Its name, after the installation's.
    pub name: &'static str,
    /// The role of Kubernetes' own that contains it by aggregation, if one does.
    pub within: Option<&'static str>,
    /// Who is meant.
    pub who: &'static str,
    /// Its rules.
    pub rules: &'static [Rule],
}

const READ: &[&str] = &["get", "list", "watch"];

/// Every role for people. None of them reads a Secret, and none writes a `KeyProvider`: that is for who runs the cluster.
pub const PEOPLE: &[Person] = &[
    Person {
        name: "viewer",
        within: Some("view"),
        who: "whoever may see a namespace",
        rules: &[cluster(GROUP, KINDS, READ, "see what is asked for and what came of it; no field holds a value")],
    },
    Person {
        name: "editor",
        within: Some("edit"),
        who: "whoever may change a namespace's workloads (and its admins, whose role contains edit)",
        rules: &[
            cluster(
                GROUP,
                &["encryptionkeys", "secretbindings"],
                &["create", "update", "patch", "delete", "deletecollection"],
                "say which keys there are and which pods get what",
            ),
            cluster(GROUP, KINDS, READ, "see what came of it"),
            cluster(GROUP, &["encryptionkeys"], &["use"], "write bindings that name them; grants say what is opened"),
            cluster(
                GROUP,
                &["keyproviders"],
                &["use"],
                "write keys that name them; it counts where the role is bound in the whole cluster, since a provider has no namespace",
            ),
        ],
    },
    Person {
        name: "auditor",
        within: None,
        who: "whoever answers for the cluster; bind it in the whole cluster",
        rules: &[
            cluster(GROUP, KINDS, READ, "which keys and bindings there are, and who is granted what"),
            cluster("", &["namespaces", "pods", "serviceaccounts"], READ, "which pods were served, and where access reaches by label"),
            cluster("", &["events"], READ, "what was told of them"),
            cluster("events.k8s.io", &["events"], READ, "what was told of them"),
            cluster(
                "rbac.authorization.k8s.io",
                &["clusterroles", "clusterrolebindings", "roles", "rolebindings"],
                READ,
                "who may write them, and who may read Secrets",
            ),
            cluster(
                "admissionregistration.k8s.io",
                &[
                    "mutatingwebhookconfigurations",
                    "validatingwebhookconfigurations",
                    "validatingadmissionpolicies",
                    "validatingadmissionpolicybindings",
                ],
                READ,
                "whether admission is as the chart made it",
            ),
        ],
    },
];

#[cfg(test)]
mod tests {
    use super::{PEOPLE, ROLES, Rule};

    fn rules() -> impl Iterator<Item = (&'static str, &'static Rule)> {
        ROLES.iter().flat_map(|role| role.rules.iter().map(|rule| (role.name, rule)))
    }

    #[test]
    fn a_right_to_evict_is_the_controller_s_alone_and_only_where_the_installation_evicts() {
        let evicting = rules().filter(|(_, rule)| rule.resources.contains(&"pods/eviction"));
        let evicting: Vec<_> = evicting.map(|(role, rule)| (role, rule.when.map(|when| (when.value, when.is)))).collect();
        assert_eq!(evicting, [("controller", Some(("controller.podsWithoutSecrets", "Evict")))]);
        let read = ["get", "list", "watch"];
        for (role, rule) in rules().filter(|(_, rule)| rule.resources.contains(&"pods")) {
            assert!(rule.verbs.iter().all(|verb| read.contains(verb)), "{role}: {:?}", rule.verbs);
        }
    }

    #[test]
    fn admission_configurations_that_are_written_are_named_and_ours() {
        let of_people = PEOPLE.iter().flat_map(|person| person.rules.iter().map(|rule| (person.name, rule)));
        let of_admission = rules().chain(of_people).filter(|(_, rule)| rule.group == "admissionregistration.k8s.io");
        let writes = |rule: &Rule| rule.verbs.iter().any(|verb| !["get", "list", "watch"].contains(verb));
        let written: Vec<_> = of_admission.filter(|(_, rule)| writes(rule)).collect();
        assert_eq!(written.len(), 2);
        for (role, rule) in written {
            assert_eq!(role, "controller");
            assert!(!rule.names.is_empty() && rule.names.iter().all(|name| name.contains("{name}")), "{:?}", rule.names);
        }
    }
}
