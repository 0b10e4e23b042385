//! An empty cluster, git, the export and its root key: the key comes back, and what was sealed opens.

use kustody_providers::local::recovery::{self, Secrets};

use super::*;

/// What is left of a cluster: what git has, and an export with its passphrase.
struct Left {
    directory: tempfile::TempDir,
    export: String,
    id: String,
    sealed: String,
    document: String,
}

impl Left {
    async fn of(world: &World) -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let status = status_of(&world.made().await);
        let document = status.sealing_key.unwrap().document;
        let place = core_sealing::Place { namespace: "vision", binding: "b", secret: "s" };
        let value = SecretBytes::new(b"value".to_vec());
        let sealed = core_sealing::seal(&KeyDocument::parse(&document).unwrap(), &place, &value).unwrap().to_string();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("words");
        std::fs::write(&path, "correct horse battery staple\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
        let mut left = Self { directory, export: String::new(), id: status.key_id.unwrap(), sealed, document };
        let now = "2026-03-01T00:00:00Z".parse().unwrap();
        left.export = recovery::export(world.store.as_ref(), "main", &left.secrets(), now).await.unwrap().text;
        left
    }

    fn secrets(&self) -> Secrets {
        Secrets { root: None, passphrase: Some(self.directory.path().join("words")) }
    }

    /// Another cluster, with other UIDs and an empty store, after the import.
    async fn imported(&self) -> World {
        let mut world = World::new();
        let claim = &mut world.facts.claim;
        (claim.cluster, claim.namespace_uid, claim.owner_uid) = ("c2".to_owned(), "n2".to_owned(), "k2".to_owned());
        recovery::import(world.store.as_ref(), &self.export, &self.secrets()).await.unwrap();
        world
    }

    async fn opens(&self, world: &World) -> usize {
        let sealed = SealedValue::parse(&self.sealed).unwrap();
        let context = core_sealing::wrap_context("vision", "team-key", sealed.header.version, &sealed.header.public_key_sha256);
        let seed = world.provider(&Arc::default()).unwrap(&self.id, &sealed.header.wrapped_seed, &context).await.unwrap();
        let place = core_sealing::Place { namespace: "vision", binding: "b", secret: "s" };
        core_sealing::open(&seed, &sealed, &place).unwrap().len()
    }
}

#[tokio::test]
async fn the_same_yaml_on_an_empty_cluster_makes_no_new_key_beside_an_imported_one() {
    let left = Left::of(&World::new()).await;
    let world = left.imported().await;
    let (_, result, _) = world.pass(world.object(None), &[], Fuse::default()).await;
    let (found, message) = reason(result);
    assert_eq!((found, world.keys()), (Reason::RetainedKeyFound, 1));
    assert!(message.contains(&format!("spec.adopt.keyId: {}", left.id)), "{message}");
}

#[tokio::test]
async fn an_imported_key_is_taken_back_by_who_access_names_and_what_was_sealed_opens() {
    let left = Left::of(&World::new()).await;
    // With and without the key documents: the imported record knows its sealing keys.
    for documents in [json!([]), json!([left.document])] {
        let mut world = left.imported().await;
        let adopt = || Some(json!({"keyId": left.id, "sealingKeys": documents}));
        let (_, result, _) = world.pass(world.object(adopt()), &[], Fuse::default()).await;
        let (found, message) = reason(result);
        assert_eq!(found, Reason::AccessDenied);
        assert!(message.contains("KeyProvider main") && message.contains("adopt entry"), "{message}");

        world.access(json!([{"namespaces": {}, "adopt": [{"ids": ["{namespace}/*"], "operations": ["Use"]}]}]));
        let (object, result, _) = world.pass(world.object(adopt()), &[], Fuse::default()).await;
        result.unwrap();
        let status = status_of(&object);
        let sealed = SealedValue::parse(&left.sealed).unwrap();
        kustody_api::policy::sealed_for(&object, &left.id, &core_sealing::format::hex(&sealed.header.public_key_sha256)).unwrap();
        assert_eq!((status.key_id.as_ref(), status.sealing_keys.len(), world.keys()), (Some(&left.id), 2, 1));
        assert_eq!(left.opens(&world).await, 5);

        // Taken back once: the next pass, and the line removed, change nothing.
        world.access(json!([{"namespaces": {}}]));
        let (again, result, calls) = world.pass(object, &[], Fuse::default()).await;
        result.unwrap();
        assert_eq!((status_of(&again), calls), (status, vec!["describe_key"]));
    }
}

#[tokio::test]
async fn a_sealing_key_that_is_younger_than_the_export_is_learnt_from_its_document() {
    let old = World::new();
    let left = Left::of(&old).await;
    // After the export the old cluster took the key over once more and published another sealing key.
    let mut later = World { store: Arc::clone(&old.store), facts: old.facts.clone(), now: old.now, slept: old.slept };
    later.facts.claim.owner_uid = "k1b".to_owned();
    let (object, result, _) = later.pass(later.object(Some(json!({"keyId": left.id}))), &[], Fuse::default()).await;
    result.unwrap();
    let younger = status_of(&object).sealing_key.unwrap();
    assert_eq!(younger.version, 2);

    let mut world = left.imported().await;
    world.access(json!([{"namespaces": {}, "adopt": [{"ids": ["{namespace}/*"], "operations": ["Use"]}]}]));
    let adopt = json!({"keyId": left.id, "sealingKeys": [younger.document]});
    let (object, result, _) = world.pass(world.object(Some(adopt)), &[], Fuse::default()).await;
    result.unwrap();
    let status = status_of(&object);
    let versions: Vec<i32> = status.sealing_keys.iter().map(|record| record.version).collect();
    assert_eq!(versions, [1, 2, 3]);
    assert_eq!(status.sealing_keys[1].public_key_sha256, younger.public_key_sha256);
}

#[tokio::test]
async fn a_crash_anywhere_while_an_imported_key_is_taken_back_is_finished_by_the_next_pass() {
    let left = Left::of(&World::new()).await;
    for step in 0..6 {
        let mut world = left.imported().await;
        world.access(json!([{"namespaces": {}, "createKeys": true, "adopt": [{"ids": ["{namespace}/*"], "operations": ["Use"]}]}]));
        let fuse = Fuse { left: Mutex::new(Some(step)), after: step % 2 == 0 };
        let (crashed, _, _) = world.pass(world.object(Some(json!({"keyId": left.id}))), &[], fuse).await;
        let (object, result, _) = world.pass(crashed, &[], Fuse::default()).await;
        result.unwrap();
        assert_eq!((status_of(&object).key_id.as_ref(), world.keys()), (Some(&left.id), 1), "step {step}");
        assert_eq!(left.opens(&world).await, 5);
    }
}
