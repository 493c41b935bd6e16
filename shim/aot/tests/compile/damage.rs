//! Entries that must not be used: each is detected, removed and built anew.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{FileExt, PermissionsExt, chown, symlink};
use std::path::Path;

use crate::fixture::{ANSWER, Fixture, digest};

/// Compiles, damages, and expects that the damage is noticed before the code is used.
fn survives(damage: impl FnOnce(&Path) -> io::Result<()>) {
    let fixture = Fixture::new();
    fixture.compile(ANSWER).unwrap();
    // Longer than the granularity of a file's times, as any damage in real life is.
    std::thread::sleep(std::time::Duration::from_millis(20));
    damage(&fixture.entry()).unwrap();
    assert!(
        fixture.cache.get(&fixture.engine, &digest(ANSWER)).unwrap().is_none(),
        "the damage went unnoticed"
    );
    assert_eq!(fixture.names(), [""; 0], "it is still there");
    let artifact = fixture.compile(ANSWER).unwrap();
    assert!(artifact.was_compiled());
    assert_eq!(fixture.answer(artifact), 42);
}

fn flip_a_byte(entry: &Path) -> io::Result<()> {
    let file = File::options().read(true).write(true).open(entry)?;
    let middle = file.metadata()?.len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, middle)?;
    file.write_all_at(&[!byte[0]], middle)
}

pub fn a_flipped_byte_is_detected() {
    survives(flip_a_byte);
}

pub fn a_flipped_byte_is_detected_after_a_boot() {
    survives(|entry| {
        let stamps = entry.parent().unwrap().with_file_name("stamps");
        fs::remove_dir_all(&stamps)?;
        fs::create_dir(&stamps)?;
        flip_a_byte(entry)
    });
}

pub fn a_truncated_entry_is_detected() {
    for length in [0, 1, 119, 120, 5000] {
        survives(|entry| File::options().write(true).open(entry)?.set_len(length));
    }
    survives(|entry| {
        let file = File::options().write(true).open(entry)?;
        file.set_len(file.metadata()?.len() - 1)
    });
}

pub fn a_foreign_owner_is_detected() {
    survives(|entry| chown(entry, Some(65534), None));
}

pub fn an_entry_that_others_may_write_is_detected() {
    survives(|entry| fs::set_permissions(entry, Permissions::from_mode(0o646)));
    survives(|entry| fs::set_permissions(entry, Permissions::from_mode(0o664)));
}

pub fn a_link_or_a_directory_is_not_an_entry() {
    survives(|entry| {
        let elsewhere = entry.parent().unwrap().with_file_name("elsewhere");
        fs::rename(entry, &elsewhere)?;
        symlink(&elsewhere, entry)
    });
    survives(|entry| {
        fs::remove_file(entry)?;
        fs::create_dir(entry)
    });
}

pub fn an_entry_under_a_wrong_name_is_detected() {
    let fixture = Fixture::new();
    fixture.compile("(module)").unwrap();
    let other = fixture.entry();
    let name = other
        .file_name()
        .unwrap()
        .to_str()
        .unwrap()
        .replace(&digest("(module)").hex(), &digest(ANSWER).hex());
    fs::rename(&other, other.with_file_name(name)).unwrap();
    assert!(fixture.cache.get(&fixture.engine, &digest(ANSWER)).unwrap().is_none());
    assert_eq!(fixture.names(), [""; 0]);
}

pub fn a_good_entry_is_kept_over_a_boot() {
    let fixture = Fixture::new();
    fixture.compile(ANSWER).unwrap();
    let stamps = fixture.home.path().join("stamps");
    fs::remove_dir_all(&stamps).unwrap();
    fs::create_dir(&stamps).unwrap();
    let artifact = fixture.compile(ANSWER).unwrap();
    assert!(!artifact.was_compiled());
    assert_eq!(fixture.answer(artifact), 42);
    assert_eq!(
        fs::read_dir(&stamps).unwrap().count(),
        1,
        "verified once, remembered from now on"
    );
}
