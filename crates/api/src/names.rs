//! Labels, annotations and names that Kustody puts on objects of others; they are constants only here.

/// API group of all kinds.
pub const GROUP: &str = "kustody.dev";
/// Their version.
pub const VERSION: &str = "v1alpha1";
/// The verb that whoever names a provider or a key in an object needs on it.
pub const USE_VERB: &str = "use";
/// On a pod: `"true"`, `"false"` or the name of a binding. On a namespace: `enabled` or `required`.
pub const INJECT_LABEL: &str = "kustody.dev/inject";
/// On an injected pod: which bindings serve which containers, and the digest of the plan. For people and for reinvocation.
pub const INJECTED_ANNOTATION: &str = "kustody.dev/injected";
/// On a binding: a token; its values are sealed anew, once for each token, and appear in `status.resealed` while the annotation is there.
pub const RESEAL_ANNOTATION: &str = "kustody.dev/reseal-requested";
/// On a `SecretBinding`: a token; each change of it has the binding resolved again. What `kubectl kustody refresh` writes.
pub const REFRESH_ANNOTATION: &str = "kustody.dev/refresh-requested";
/// Name of the init container that fetches.
pub const AGENT_CONTAINER: &str = "kustody-agent";
/// Name of the native sidecar that follows changes.
pub const WATCH_CONTAINER: &str = "kustody-watch";
/// Name of the volume that holds the agent's own token.
pub const TOKEN_VOLUME: &str = "kustody-token";
/// Prefix of a volume of files; what follows identifies the binding.
pub const FILES_VOLUME_PREFIX: &str = "kustody-files-";
/// Prefix of a volume of an environment file; what follows identifies the binding.
pub const ENV_VOLUME_PREFIX: &str = "kustody-env-";
/// Values of [`INJECT_LABEL`] that can therefore not be names of bindings.
pub const RESERVED_BINDING_NAMES: [&str; 4] = ["true", "false", "enabled", "required"];
/// Namespaces whose pods never ask, whatever their labels.
pub const EXCLUDED_NAMESPACES: [&str; 3] = ["kube-system", "kube-public", "kube-node-lease"];
