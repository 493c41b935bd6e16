//! The rules: every form of image, and every way in which a name can be moved.

mod fake;

use serde_json::json;

use super::*;
use crate::ErrorKind;
use fake::*;

#[test]
fn each_form_of_image_resolves_to_its_module_or_to_none() {
    let mut classic = Fake::new(chain(&["a", "b"]));
    let image = classic.image(&host(), &["a", "b"], &[(TAR, "za"), (TAR, "zb")]);
    classic.tag("img", image);
    classic.expect_no_wasm();

    let mut artifact = Fake::new(None);
    let image = artifact.artifact("module");
    artifact.tag("img", image);
    artifact.expect_module("module");

    for diffs in [&["module"][..], &[]] {
        let mut runwasi = Fake::new(None);
        let image = runwasi.image("wasi/wasm", diffs, &[(WASM, "module")]);
        runwasi.tag("img", image);
        runwasi.expect_module("module");
    }

    let mut mixed = Fake::new(chain(&["a"]));
    let image = mixed.image("wasi/wasm", &["a"], &[(TAR, "za"), (WASM, "module")]);
    mixed.tag("img", image);
    mixed.expect_module("module");
}

#[test]
fn a_container_without_an_image_is_not_asked_about_further() {
    let fake = Fake::default();
    assert_eq!(fake.resolve().unwrap(), Resolution::NoWasm { image: String::new() });
    assert!(fake.asked.lock().unwrap().is_empty());
}

#[test]
fn the_snapshot_chooses_among_an_indexs_platforms() {
    for (parent, wasm) in [(chain(&["a"]), false), (None, true)] {
        let mut fake = Fake::new(parent);
        let linux = fake.image(&host(), &["a"], &[(TAR, "za")]);
        let wasi = fake.image("wasi/wasm", &[], &[(WASM, "module")]);
        let index = fake.index(&[(&linux, &host()), (&wasi, "wasi/wasm")]);
        fake.tag("img", index);
        if wasm {
            fake.expect_module("module")
        } else {
            fake.expect_no_wasm()
        }
    }
}

#[test]
fn an_index_member_is_found_by_its_configs_platform_and_in_nested_indexes() {
    let mut fake = Fake::new(None);
    let artifact = fake.artifact("module");
    let foreign = fake.image("windows/amd64", &[], &[]);
    let inner = fake.index(&[(&foreign, ""), (&artifact, "")]);
    let attestation = fake.json(MANIFEST, json!({"not": "an image"}));
    let outer = fake.index(&[(&attestation, "unknown/unknown"), (&inner, "")]);
    fake.tag("img", outer);
    fake.expect_module("module");
}

#[test]
fn the_only_member_of_an_index_is_taken_whatever_its_platform() {
    let mut fake = Fake::new(None);
    let odd = fake.image("plan9/mips", &[], &[(WASM, "module")]);
    let index = fake.index(&[(&odd, "plan9/mips")]);
    fake.tag("img", index);
    fake.expect_module("module");
}

#[test]
fn an_index_without_a_platform_for_here_lists_those_it_has() {
    let mut fake = Fake::new(None);
    let a = fake.image("windows/amd64", &[], &[]);
    let b = fake.image("linux/vax", &[], &[]);
    let index = fake.index(&[(&a, "windows/amd64"), (&b, "linux/vax")]);
    fake.tag("img", index);
    fake.expect_error(
        ErrorKind::InvalidArgument,
        &["windows/amd64, linux/vax", &host(), "build the image"],
    );
    let empty = fake.index(&[]);
    fake.tag("img", empty);
    fake.expect_error(ErrorKind::InvalidArgument, &["without images"]);
}

#[test]
fn members_of_an_index_that_were_not_pulled_are_passed_over_unless_one_is_needed() {
    let mut fake = Fake::new(chain(&["a"]));
    let linux = fake.image(&host(), &["a"], &[(TAR, "za")]);
    let wasi = fake.image("wasi/wasm", &[], &[(WASM, "module")]);
    let index = fake.index(&[(&wasi, "wasi/wasm"), (&linux, &host())]);
    fake.tag("img", index);
    fake.blobs.remove(&wasi.digest);
    fake.expect_no_wasm();
    fake.parent.clear();
    fake.expect_error(ErrorKind::NotFound, &[&wasi.digest.to_string(), "pull"]);
}

#[test]
fn an_index_that_nests_without_end_or_is_too_wide_is_malformed() {
    let mut fake = Fake::new(None);
    let mut index = fake.artifact("module");
    for _ in 0..6 {
        index = fake.index(&[(&index, "")]);
    }
    fake.tag("img", index);
    fake.expect_error(ErrorKind::InvalidArgument, &["nested"]);
    let leaf = fake.artifact("module");
    let wide = fake.index(&vec![(&leaf, "wasi/wasm"); 200]);
    let wider = fake.index(&[(&wide, ""), (&wide, "")]);
    fake.tag("img", wider);
    fake.expect_error(ErrorKind::InvalidArgument, &["256"]);
}

#[test]
fn a_moved_tag_leads_back_to_the_image_of_the_snapshot() {
    let mut fake = Fake::new(chain(&["a"]));
    fake.image("wasi/wasm", &["a"], &[(TAR, "za"), (WASM, "old")]);
    let new = fake.image("wasi/wasm", &["b"], &[(TAR, "zb"), (WASM, "new")]);
    fake.tag("img", new);
    fake.expect_module("old");
    fake.images.clear();
    fake.expect_module("old");
}

#[test]
fn a_tag_moved_from_a_classic_image_to_an_artifact_does_not_start_the_artifact() {
    let mut fake = Fake::new(chain(&["a"]));
    fake.image(&host(), &["a"], &[(TAR, "za")]);
    let new = fake.artifact("new");
    fake.tag("img", new);
    fake.expect_no_wasm();
}

#[test]
fn a_moved_tag_whose_old_content_is_gone_is_an_error_with_the_remedy() {
    let mut fake = Fake::new(chain(&["a"]));
    let new = fake.artifact("new");
    fake.tag("img", new);
    let expected = chain(&["a"]).unwrap();
    fake.expect_error(
        ErrorKind::FailedPrecondition,
        &["re-tagged", "c1", &expected.to_string(), "create the container again"],
    );
    fake.images.clear();
    fake.expect_error(ErrorKind::NotFound, &["not on this node", "pull"]);
    let mut fake = Fake::new(None);
    let classic = fake.image(&host(), &["a"], &[(TAR, "za")]);
    fake.tag("img", classic);
    fake.expect_error(
        ErrorKind::FailedPrecondition,
        &["re-tagged", "without root file system"],
    );
}

#[test]
fn images_that_share_the_chain_id_but_not_the_module_are_not_guessed_between() {
    let mut fake = Fake::new(chain(&["a"]));
    fake.image("wasi/wasm", &["a"], &[(TAR, "za"), (WASM, "one")]);
    let same = fake.image("wasi/wasm", &["a"], &[(TAR, "zb"), (WASM, "one")]);
    fake.expect_module("one");
    assert_ne!(same.digest, layer("one"));
    let config = fake.json(
        IMAGE_CONFIG,
        json!({"os": "wasip1", "architecture": "wasm", "rootfs": {"diff_ids": [layer("a")]}}),
    );
    fake.unpacked.push((layer("a"), config.digest));
    fake.manifest(config, &[(TAR, "za"), (WASM, "two")]);
    fake.expect_error(
        ErrorKind::FailedPrecondition,
        &["re-tagged", &layer("one").to_string(), &layer("two").to_string()],
    );
}

#[test]
fn cris_image_id_is_followed_instead_of_the_tag_even_for_artifacts() {
    let mut fake = Fake::new(None);
    let (old, new) = (fake.artifact("old"), fake.artifact("new"));
    let id = fake.config_of(&old);
    fake.container.cri_image_id = Some(id);
    fake.tag("img", new);
    fake.tag(&id.to_string(), old);
    fake.expect_module("old");
    assert_eq!(
        *fake.asked.lock().unwrap(),
        [id.to_string()],
        "neither the tag nor the snapshot is needed"
    );
}

#[test]
fn without_cris_record_of_the_id_the_tag_is_checked_and_then_the_content_searched() {
    let mut fake = Fake::new(None);
    let (old, new) = (fake.artifact("old"), fake.artifact("new"));
    fake.container.cri_image_id = Some(fake.config_of(&old));
    fake.tag("img", old.clone());
    fake.expect_module("old");
    fake.tag("img", new);
    fake.expect_module("old");
    fake.blobs.remove(&old.digest);
    fake.expect_error(ErrorKind::FailedPrecondition, &["re-tagged", "config sha256:"]);
}

#[test]
fn cris_image_id_chooses_within_an_index() {
    let mut fake = Fake::new(None);
    let linux = fake.image(&host(), &["a"], &[(TAR, "za")]);
    let wasi = fake.artifact("module");
    let index = fake.index(&[(&wasi, "wasip1/wasm"), (&linux, &host())]);
    let id = fake.config_of(&linux);
    fake.tag(&id.to_string(), index);
    fake.container.cri_image_id = Some(id);
    fake.expect_no_wasm();
}

#[test]
fn a_container_without_a_snapshot_of_an_image_goes_by_the_name() {
    let mut fake = Fake::new(None);
    fake.parent = "built-by-hand".into();
    let image = fake.image("wasi/wasm", &["a"], &[(TAR, "za"), (WASM, "module")]);
    fake.tag("img", image);
    fake.expect_module("module");
}

#[test]
fn missing_or_malformed_documents_name_the_digest() {
    let mut fake = Fake::new(None);
    let garbage = fake.blob(MANIFEST, b"garbage".to_vec());
    fake.tag("img", garbage.clone());
    fake.expect_error(ErrorKind::InvalidArgument, &[&garbage.digest.to_string(), "malformed"]);
    let artifact = fake.artifact("module");
    let config = fake.config_of(&artifact);
    fake.tag("img", artifact);
    fake.blobs.remove(&config);
    fake.expect_error(ErrorKind::NotFound, &[&config.to_string(), "missing"]);
}
