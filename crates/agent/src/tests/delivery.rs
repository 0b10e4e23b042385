//! What a volume holds at each moment.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use kustody_core::wire::Release;

use super::broker::values;
use super::{everything, pod};
use crate::deliver::deliver;
use crate::failure::Failure;
use crate::{Options, plan};

const PAIR: &str = r#"{"version":1,"bindings":[{"name":"db","uid":"1","files":[
    {"path":"user","secret":"user","mode":292},{"path":"sub/password","secret":"password","mode":292}],
    "env":[{"name":"A","secret":"user"}]}]}"#;

fn options(pod: &Path, plan: &str) -> Options {
    Options {
        plan: plan.to_owned(),
        broker: ([127, 0, 0, 1], 1).into(),
        authorities: Vec::new(),
        deadline: std::time::Duration::from_secs(1),
        token: pod.join("token"),
        files: pod.join("files"),
        env: pod.join("env"),
    }
}

fn generation(text: &str) -> Release {
    values(&[("db", "user", None, text), ("db", "password", None, text)])
}

fn entries(volume: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(volume).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_second_run_replaces_everything_and_leaves_nothing_behind() {
    let pod = pod();
    let volume = pod.path().join("files/db");
    let (options, plan) = (options(pod.path(), PAIR), plan::read(PAIR).unwrap());
    deliver(&options, &plan, &generation("one")).unwrap();
    // What an interrupted run leaves.
    fs::create_dir_all(volume.join("..half/sub")).unwrap();
    std::os::unix::fs::symlink("..half", volume.join("..next")).unwrap();
    fs::write(pod.path().join("env/db/..next"), "half").unwrap();
    deliver(&options, &plan, &generation("two")).unwrap();
    assert_eq!(fs::read_to_string(volume.join("sub/password")).unwrap(), "two");
    assert_eq!(fs::read_to_string(pod.path().join("env/db/env")).unwrap(), "A='two'\n");
    let hidden = fs::read_link(volume.join("..data")).unwrap().into_os_string().into_string().unwrap();
    let mut expected = vec![hidden, "..data".to_owned(), "sub".to_owned(), "user".to_owned()];
    expected.sort();
    assert_eq!(entries(&volume), expected);
    assert_eq!(fs::read_link(volume.join("sub")).unwrap(), Path::new("..data/sub"));
}

#[test]
fn no_reader_ever_sees_a_mix_of_two_runs() {
    let pod = pod();
    let volume = pod.path().join("files/db");
    let (options, plan) = (options(pod.path(), PAIR), plan::read(PAIR).unwrap());
    deliver(&options, &plan, &generation("0")).unwrap();
    let done = AtomicBool::new(false);
    let seen = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = 0;
            while !done.load(Ordering::Relaxed) {
                // As programs do that follow the kubelet's volumes: resolve once, read all; gone means replaced meanwhile.
                let now = volume.join(fs::read_link(volume.join("..data")).expect("..data is always there"));
                let read = fs::read_to_string(now.join("user")).and_then(|user| Ok((user, fs::read_to_string(now.join("sub/password"))?)));
                match read {
                    Ok((user, password)) => {
                        assert_eq!(user, password);
                        seen += 1;
                    }
                    Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound),
                }
            }
            seen
        });
        for number in 1..300 {
            deliver(&options, &plan, &generation(&number.to_string())).unwrap();
        }
        done.store(true, Ordering::Relaxed);
        reader.join().unwrap()
    });
    assert!(seen > 0);
}

#[test]
fn one_binding_that_cannot_be_written_keeps_the_other_from_being_swapped() {
    let pod = pod();
    let plan_of_both = super::PLAN;
    let (options, plan) = (options(pod.path(), plan_of_both), plan::read(plan_of_both).unwrap());
    fs::remove_dir(pod.path().join("files/hub")).unwrap();
    let failure = deliver(&options, &plan, &everything()).unwrap_err();
    assert!(matches!(failure, Failure::Volume { .. }) && !failure.heals());
    assert!(failure.to_string().contains("files/hub"), "{failure}");
    assert!(entries(&pod.path().join("files/db")).is_empty() && entries(&pod.path().join("env/db")).is_empty());
}

#[test]
fn paths_that_collide_are_refused_and_nothing_stays() {
    let pod = pod();
    let collide = PAIR.replace("sub/password", "user/password");
    let failure = deliver(&options(pod.path(), &collide), &plan::read(&collide).unwrap(), &generation("x")).unwrap_err();
    let said = failure.to_string();
    assert!(said.starts_with("cannot create ") && said.contains("/user: ") && said.contains("see the agent's volumes"), "{said}");
    assert!(entries(&pod.path().join("files/db")).is_empty());
}

#[test]
fn modes_do_not_depend_on_who_may_write_the_volume() {
    let pod = pod();
    let volume = pod.path().join("files/db");
    fs::set_permissions(&volume, fs::Permissions::from_mode(0o777)).unwrap();
    let plan_of_one = PAIR.replace("292", "256");
    deliver(&options(pod.path(), &plan_of_one), &plan::read(&plan_of_one).unwrap(), &generation("x")).unwrap();
    assert_eq!(super::mode(&volume.join("user")), 0o400);
    assert_eq!(super::mode(&volume.join("sub")), 0o755);
}
