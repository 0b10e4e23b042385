//! Puts a release where the plan says: everything is written aside first, then swapped in.
//!
//! A binding's directory looks as the kubelet's own: `..data` points to a hidden directory with the files, and each visible
//! name points into `..data`, so that renaming one link replaces all files at once. The hidden directory is called
//! `..<revision>-<random>` when the broker said of which revision the files are: what is held and its name change together.

use std::collections::BTreeSet;
use std::collections::hash_map::RandomState;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use kustody_core::envfile;
use kustody_core::secret::SecretBytes;
use kustody_core::wire::watch::is_revision;
use kustody_core::wire::{ENV_FILE, Plan, PlannedBinding, PlannedFile, Release, ReleasedValue, Withdrawn};

use crate::failure::Failure;
use crate::options::Options;

/// The link that is swapped.
const DATA: &str = "..data";
/// What is renamed over a link or an environment file.
const NEXT: &str = "..next";
/// Directories, and environment files (the kubelet reads them as root).
const DIRECTORY_MODE: u32 = 0o755;
const ENV_MODE: u32 = 0o444;

/// How much was delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// Bindings of the plan.
    pub bindings: usize,
    /// Files of all bindings.
    pub files: usize,
    /// Variables of all bindings.
    pub variables: usize,
}

/// What of a binding changed in a running pod.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Refreshed {
    /// Files that were given anew; 0 when nothing was swapped.
    pub(crate) files: usize,
    /// Whether every file of the binding is now of the release's revision.
    pub(crate) complete: bool,
    /// What was not given. Its files are as they were.
    pub(crate) withdrawn: Vec<Withdrawn>,
}

/// Delivers all of `plan` or nothing. What `release` holds beyond the plan is ignored.
pub(crate) fn deliver(options: &Options, plan: &Plan, release: &Release) -> Result<Delivered, Failure> {
    let missing: Vec<_> = plan.bindings.iter().flat_map(|binding| missing(binding, release)).collect();
    if !missing.is_empty() {
        return Err(Failure::Withdrawn(missing));
    }
    all_or_nothing(|staged| {
        plan.bindings.iter().try_for_each(|binding| stage(options, binding, release, revision(release, &binding.name), staged))
    })?;
    let count = |of: fn(&PlannedBinding) -> usize| plan.bindings.iter().map(of).sum();
    Ok(Delivered { bindings: plan.bindings.len(), files: count(|b| b.files.len()), variables: count(|b| b.env.len()) })
}

/// Replaces the files of one binding of a running pod, all at once; those of what `release` does not give stay as they are.
///
/// Guarantees: writes files alone. What is wanted of `binding` must hold no variables: an environment file is written once for
/// each start of a container, never while one may be reading it.
pub(crate) fn refresh(options: &Options, binding: &PlannedBinding, release: &mut Release) -> Result<Refreshed, Failure> {
    let given = |file: &&PlannedFile| value(release, &binding.name, &file.secret, file.property.as_deref()).is_some();
    let files = binding.files.iter().filter(given).count();
    let (complete, withdrawn) = (files == binding.files.len(), missing(binding, release));
    if files > 0 {
        let of = if complete { revision(release, &binding.name).map(str::to_owned) } else { held(options, binding) };
        keep(options, binding, release)?;
        all_or_nothing(|staged| stage(options, binding, release, of.as_deref(), staged))?;
    }
    Ok(Refreshed { files, complete, withdrawn })
}

/// The revision that the files of the binding are of.
pub(crate) fn held(options: &Options, binding: &PlannedBinding) -> Option<String> {
    let hidden = fs::read_link(options.files.join(&binding.name).join(DATA)).ok()?;
    let (revision, _) = hidden.to_str()?.strip_prefix("..")?.split_once('-')?;
    is_revision(revision).then(|| revision.to_owned())
}

/// The revision of the binding in this release.
pub(crate) fn revision<'a>(release: &'a Release, binding: &str) -> Option<&'a str> {
    let found = release.revisions.iter().find(|revision| revision.binding == binding);
    found.map(|found| found.revision.as_str()).filter(|text| is_revision(text))
}

/// Adds to `release` what files of the binding hold that it does not give.
fn keep(options: &Options, binding: &PlannedBinding, release: &mut Release) -> Result<(), Failure> {
    for file in &binding.files {
        if value(release, &binding.name, &file.secret, file.property.as_deref()).is_none() {
            let path = options.files.join(&binding.name).join(&file.path);
            let value = SecretBytes::new(fs::read(&path).map_err(failed("read", &path))?);
            let (binding, secret, property) = (binding.name.clone(), file.secret.clone(), file.property.clone());
            release.values.push(ReleasedValue { binding, secret, property, value });
        }
    }
    Ok(())
}

/// Swaps in what `stage` wrote aside, or takes it away again.
fn all_or_nothing<'a>(stage: impl FnOnce(&mut Vec<Staged<'a>>) -> Result<(), Failure>) -> Result<(), Failure> {
    let mut staged = Vec::new();
    let outcome = stage(&mut staged);
    outcome.and_then(|()| staged.iter().try_for_each(Staged::swap_in)).inspect_err(|_| staged.iter().for_each(Staged::discard))
}

/// What the binding's part of the plan names and the release does not give, with the broker's reason if it has one.
fn missing(binding: &PlannedBinding, release: &Release) -> Vec<Withdrawn> {
    let said = |w: &&Withdrawn| w.binding == binding.name && (w.item.is_empty() || wanted(binding).any(|(secret, _)| secret == w.item));
    let mut missing: Vec<_> = release.withdrawn.iter().filter(said).cloned().collect();
    for (secret, property) in wanted(binding) {
        let known = |w: &Withdrawn| w.item.is_empty() || w.item == secret;
        if value(release, &binding.name, secret, property).is_none() && !missing.iter().any(known) {
            missing.push(absent(binding, secret, property));
        }
    }
    missing
}

fn absent(binding: &PlannedBinding, secret: &str, property: Option<&str>) -> Withdrawn {
    let what = property.map_or_else(|| "its value".to_owned(), |property| format!("its property {property}"));
    let reason = format!("{what} is not in the broker's answer, and neither is a reason: see the broker's log");
    Withdrawn { binding: binding.name.clone(), item: secret.to_owned(), reason }
}

/// Each secret, and member of it, that a file or variable of `binding` asks for.
fn wanted(binding: &PlannedBinding) -> impl Iterator<Item = (&str, Option<&str>)> {
    let files = binding.files.iter().map(|file| (file.secret.as_str(), file.property.as_deref()));
    files.chain(binding.env.iter().map(|variable| (variable.secret.as_str(), variable.property.as_deref())))
}

fn value<'a>(release: &'a Release, binding: &str, secret: &str, property: Option<&str>) -> Option<&'a SecretBytes> {
    let is_it = |v: &&ReleasedValue| v.binding == binding && v.secret == secret && v.property.as_deref() == property;
    release.values.iter().find(is_it).map(|v| &v.value)
}

/// Something that was written aside.
enum Staged<'a> {
    /// The files of a binding.
    Files { volume: PathBuf, hidden: String, names: BTreeSet<&'a str> },
    /// The environment file of a binding.
    Env { volume: PathBuf },
}

fn stage<'a>(
    options: &Options,
    binding: &'a PlannedBinding,
    release: &Release,
    revision: Option<&str>,
    staged: &mut Vec<Staged<'a>>,
) -> Result<(), Failure> {
    let find = |secret: &str, property: Option<&str>| {
        value(release, &binding.name, secret, property).ok_or_else(|| Failure::Withdrawn(vec![absent(binding, secret, property)]))
    };
    if !binding.files.is_empty() {
        let volume = options.files.join(&binding.name);
        sweep(&volume)?;
        // Never the name of the one in force, whatever ran before.
        let random = RandomState::new().build_hasher().finish();
        let hidden = revision.map_or_else(|| format!("..{random:016x}"), |revision| format!("..{revision}-{random:016x}"));
        let directory = volume.join(&hidden);
        let names = binding.files.iter().map(|file| file.path.split('/').next().unwrap_or_default()).collect();
        staged.push(Staged::Files { volume, hidden, names });
        create_directory(&directory)?;
        for file in &binding.files {
            let value = find(&file.secret, file.property.as_deref())?;
            create_parents(&directory, &file.path)?;
            write(&directory.join(&file.path), value, file.mode)?;
        }
    }
    if !binding.env.is_empty() {
        let volume = options.env.join(&binding.name);
        sweep(&volume)?;
        let variables: Vec<_> =
            binding.env.iter().map(|v| Ok((v.name.as_str(), find(&v.secret, v.property.as_deref())?))).collect::<Result<_, Failure>>()?;
        let text = envfile::render(&variables).map_err(|cause| Failure::Unrepresentable { binding: binding.name.clone(), cause })?;
        let next = volume.join(NEXT);
        staged.push(Staged::Env { volume });
        write_bytes(&next, &text, ENV_MODE)?;
    }
    Ok(())
}

impl Staged<'_> {
    fn swap_in(&self) -> Result<(), Failure> {
        match self {
            Self::Files { volume, hidden, names } => {
                point(volume, DATA, Path::new(hidden))?;
                for name in names {
                    point(volume, name, &Path::new(DATA).join(name))?;
                }
                sweep(volume)
            }
            Self::Env { volume } => {
                let file = volume.join(ENV_FILE);
                fs::rename(volume.join(NEXT), &file).map_err(failed("replace", &file))
            }
        }
    }

    /// Takes away what was not swapped in. Whatever stays is swept by the next attempt.
    fn discard(&self) {
        let (Self::Files { volume, .. } | Self::Env { volume }) = self;
        let _ = sweep(volume);
    }
}

/// Makes `volume/name` a link to `target`, at once.
fn point(volume: &Path, name: &str, target: &Path) -> Result<(), Failure> {
    let link = volume.join(name);
    if fs::read_link(&link).is_ok_and(|now| now == target) {
        return Ok(());
    }
    let next = volume.join(NEXT);
    symlink(target, &next).and_then(|()| fs::rename(&next, &link)).map_err(failed("replace", &link))
}

/// Removes every hidden entry of `volume` that is not in force: the previous files, and what an interrupted run left.
fn sweep(volume: &Path) -> Result<(), Failure> {
    let in_force = fs::read_link(volume.join(DATA)).ok();
    let entries = fs::read_dir(volume).map_err(failed("read", volume))?;
    for entry in entries {
        let entry = entry.map_err(failed("read", volume))?;
        let name = entry.file_name();
        let hidden = name.as_encoded_bytes().starts_with(b"..") && name != DATA;
        if hidden && in_force.as_deref() != Some(Path::new(&name)) {
            let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let removed = if is_directory { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) };
            removed.map_err(failed("remove", &entry.path()))?;
        }
    }
    Ok(())
}

fn create_directory(path: &Path) -> Result<(), Failure> {
    // Set again afterwards: the process's umask may have taken bits away.
    let made = DirBuilder::new().mode(DIRECTORY_MODE).create(path);
    made.and_then(|()| fs::set_permissions(path, Permissions::from_mode(DIRECTORY_MODE))).map_err(failed("create", path))
}

fn create_parents(directory: &Path, path: &str) -> Result<(), Failure> {
    for (end, _) in path.match_indices('/') {
        let parent = directory.join(&path[..end]);
        if !parent.is_dir() {
            create_directory(&parent)?;
        }
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a file of the plan is where this value belongs")]
fn write(path: &Path, value: &SecretBytes, mode: u32) -> Result<(), Failure> {
    write_bytes(path, value.expose(), mode)
}

fn write_bytes(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Failure> {
    let create = || -> io::Result<()> {
        let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(bytes)?;
        file.set_permissions(Permissions::from_mode(mode))
    };
    create().map_err(failed("write", path))
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Failure {
    move |cause| Failure::Volume { action, path: path.to_owned(), cause }
}
