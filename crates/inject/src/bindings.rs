//! The bindings of a namespace, found without looking at each.

use std::collections::HashMap;
use std::sync::Arc;

use crate::binding::Binding;

/// The bindings of one namespace, in order of name.
#[derive(Debug, Default)]
pub struct Bindings {
    all: Vec<Arc<Binding>>,
    /// Places in `all`, in order.
    by_account: HashMap<String, Vec<usize>>,
}

impl FromIterator<Arc<Binding>> for Bindings {
    fn from_iter<I: IntoIterator<Item = Arc<Binding>>>(bindings: I) -> Self {
        let mut all: Vec<_> = bindings.into_iter().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        let mut by_account: HashMap<String, Vec<usize>> = HashMap::new();
        for (place, binding) in all.iter().enumerate() {
            for account in &binding.service_accounts {
                let places = match by_account.get_mut(account) {
                    Some(places) => places,
                    None => by_account.entry(account.clone()).or_default(),
                };
                // An account that is named twice is one.
                if places.last() != Some(&place) {
                    places.push(place);
                }
            }
        }
        Self { all, by_account }
    }
}

impl Bindings {
    /// The binding of this name.
    pub fn named(&self, name: &str) -> Option<&Arc<Binding>> {
        self.all.binary_search_by(|binding| binding.name.as_str().cmp(name)).ok().and_then(|place| self.all.get(place))
    }

    /// Those that name the service account.
    pub fn of_account(&self, account: &str) -> impl Iterator<Item = &Arc<Binding>> {
        self.by_account.get(account).into_iter().flatten().filter_map(|place| self.all.get(*place))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Binding>> {
        self.all.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(name: &str, accounts: &[&str]) -> Arc<Binding> {
        let object = serde_json::json!({
            "apiVersion": "kustody.dev/v1alpha1", "kind": "SecretBinding", "metadata": {"name": name},
            "spec": {"workloads": {"serviceAccounts": accounts}, "secrets": [], "deliver": {}},
        });
        Arc::new(Binding::new(&serde_json::from_value(object).unwrap()))
    }

    #[test]
    fn bindings_are_found_by_name_and_by_account_in_order_of_name() {
        let bindings: Bindings = [binding("c", &["x"]), binding("a", &["x", "x", "y"]), binding("b", &["y"])].into_iter().collect();
        let names = |found: Vec<&Arc<Binding>>| found.iter().map(|binding| binding.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(bindings.of_account("x").collect()), ["a", "c"]);
        assert_eq!(names(bindings.of_account("y").collect()), ["a", "b"]);
        assert_eq!(bindings.of_account("z").count(), 0);
        assert_eq!(bindings.named("b").map(|binding| binding.name.as_str()), Some("b"));
        assert!(bindings.named("d").is_none());
        assert_eq!(
            (names(bindings.iter().collect()), bindings.len(), bindings.is_empty()),
            (vec!["a".into(), "b".into(), "c".into()], 3, false)
        );
    }
}
