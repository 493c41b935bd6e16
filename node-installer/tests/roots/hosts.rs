//! Every kind of host: installed, installed again, uninstalled. What an installation leaves is compared with what is
//! written down.

use tandem_node_installer::{
    Result,
    ops::{self, Outcome},
};

use super::root::{Root, roots};

#[tokio::test]
async fn every_supported_host_is_installed_once_and_restored_byte_for_byte() -> Result<()> {
    let mut count = 0;
    for file in roots() {
        let root = Root::unpack(&file);
        let Some(preset) = root.keys.get("preset") else {
            continue;
        };
        if root.refusal().is_some() {
            continue;
        }
        count += 1;
        let context = root.context();
        let name = file.file_stem().unwrap().to_string_lossy();
        let fail = |error| panic!("{name}: {error}");
        assert_eq!(context.detect().await.unwrap_or_else(fail).preset, preset, "{name}");
        let before = root.tree();
        ops::plan(&context)
            .await
            .map(|_| ())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(root.tree(), before, "{name}: a plan changes nothing");

        let outcome = ops::install(&context)
            .await
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(outcome, Outcome::Installed, "{name}");
        root.expect(&root.changed(&before));
        let installed = root.tree();
        let outcome = ops::install(&context)
            .await
            .unwrap_or_else(|error| panic!("{name}, again: {error}"));
        assert_eq!((outcome, root.tree()), (Outcome::Unchanged, installed), "{name}");

        ops::uninstall(&context)
            .await
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(root.tree(), before, "{name}: the tree is as before");
    }
    assert!(count >= 30, "only {count} roots");
    Ok(())
}

#[tokio::test]
async fn every_other_host_is_refused_before_anything_is_written() -> Result<()> {
    let mut count = 0;
    for file in roots() {
        let root = Root::unpack(&file);
        let Some(words) = root.refusal() else {
            continue;
        };
        count += 1;
        let before = root.tree();
        let outcome = ops::install(&root.context()).await;
        let error = outcome
            .map_err(|error| error.to_string())
            .expect_err(&file.to_string_lossy());
        assert!(error.contains(words), "{}: {error}", file.display());
        assert_eq!(root.tree(), before, "{}", file.display());
    }
    assert!(count >= 10, "only {count} roots");
    Ok(())
}
