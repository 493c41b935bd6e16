//! `--dry-run`: what a command would do, and nothing done.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use tandem_node_installer::{
    cli::Cli,
    ops::Context,
    txn::{Journal, Operation, Role, State},
};

use super::root::{Root, roots};

type Tree = BTreeMap<PathBuf, String>;

/// One root of each generation of containerd.
fn one_of_each() -> impl Iterator<Item = Root> {
    let chosen = ["kubeadm-1x", "vanilla-2x"];
    let files = roots().into_iter().filter(move |file| {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        chosen.contains(&name.as_str())
    });
    files.map(|file| Root::unpack(&file))
}

async fn run(context: &Context, args: &[&str]) -> String {
    let args = args.iter().chain(&["--offline"]).map(|arg| (*arg).to_owned());
    let cli = Cli::parse(args, []).unwrap();
    cli.run_on(context).await.unwrap()
}

/// Requires that the text names each path that differs, or a directory above it.
fn require_named(text: &str, dir: &Path, before: &Tree, after: &Tree) {
    let paths = before.keys().chain(after.keys());
    let changed = paths.filter(|path| before.get(*path) != after.get(*path));
    let mut count = 0;
    for path in changed {
        let path = Path::new("/").join(path.strip_prefix(dir).unwrap());
        // The installer's own records are no part of what it does.
        if path.starts_with("/var/lib/tandem") {
            continue;
        }
        count += 1;
        assert!(
            text.contains(&*path.to_string_lossy()),
            "{} is not in {text}",
            path.display()
        );
    }
    assert!(count > 0, "nothing was changed");
}

#[tokio::test]
async fn a_dry_run_names_what_the_command_then_changes_and_changes_nothing() {
    let mut count = 0;
    for root in one_of_each() {
        count += 1;
        let context = root.context();
        let bare = root.tree();
        let dry = run(&context, &["install", "--dry-run"]).await;
        assert_eq!(root.tree(), bare);
        run(&context, &["install"]).await;
        require_named(&dry, root.dir(), &bare, &root.tree());

        root.put_shim("0.0.1");
        let first = root.tree();
        let dry = run(&context, &["install", "--dry-run"]).await;
        assert_eq!(root.tree(), first);
        run(&context, &["install"]).await;
        let second = root.tree();
        require_named(&dry, root.dir(), &first, &second);

        let dry = run(&context, &["rollback", "--dry-run"]).await;
        assert_eq!(root.tree(), second);
        run(&context, &["rollback"]).await;
        let third = root.tree();
        require_named(&dry, root.dir(), &second, &third);

        let dry = run(&context, &["uninstall", "--dry-run"]).await;
        assert_eq!(root.tree(), third);
        assert!(dry.contains("remove directory /var/lib/tandem/install"), "{dry}");
        root.put_shim("0.0.0");
        let third = root.tree();
        run(&context, &["uninstall"]).await;
        assert_eq!(root.tree(), bare);
        require_named(&dry, root.dir(), &third, &bare);

        assert_eq!(run(&context, &["uninstall", "--dry-run"]).await, "nothing is installed");
        assert_eq!(root.tree(), bare);
    }
    assert_eq!(count, 2);
}

#[tokio::test]
async fn a_dry_run_tells_of_an_interrupted_operation_and_leaves_it() {
    for root in one_of_each() {
        let context = root.context();
        run(&context, &["install"]).await;
        let record = context.store.record().unwrap().unwrap();
        let changes = record.changes.iter().filter(|change| change.role == Role::Config);
        let journal = Journal::new(Operation::Uninstall, "uninstall", changes.cloned().collect(), None);
        context.store.lock().unwrap().write_journal(&journal).unwrap();
        let before = root.tree();
        for command in ["install", "uninstall"] {
            let said = run(&context, &[command, "--dry-run"]).await;
            assert!(said.contains("undo the interrupted uninstall first"), "{said}");
            let file = journal
                .changes
                .iter()
                .find(|change| change.after != State::Dir)
                .unwrap();
            assert!(said.contains(&format!("restore {}", file.path.display())), "{said}");
            assert_eq!(root.tree(), before);
        }
    }
}
