//! The installer as in its pod: the host's root somewhere below, the host's programs run in that root directory. And a
//! host whose containerd only the operator can restart.

use std::{fs, os::unix::fs::symlink, path::Path};

use tandem_integration::{
    Generation, Result,
    generation::{tandem_installer, tandem_shim},
};

use super::node::Node;

const RENDERED: &str = "var/lib/rancher/k3s/agent/etc/containerd";
const PROGRAM: &str = "bin/containerd";

/// Makes the instance's directory look like the root of a k3d node.
fn prepare(node: &Node) {
    let root = node.dir();
    // containerd itself is not in this root: what it calls /tmp/tdm-X must be the same place in both.
    let outside = root.strip_prefix("/").unwrap();
    let depth = outside.components().count() - 1;
    fs::create_dir_all(root.join(outside.parent().unwrap())).unwrap();
    symlink("../".repeat(depth), root.join(outside)).unwrap();
    for file in [RENDERED, Path::new(PROGRAM).parent().unwrap().to_str().unwrap()] {
        fs::create_dir_all(root.join(file)).unwrap();
    }
    let containerd = node.ctd.generation().binaries().unwrap().containerd;
    fs::copy(containerd, root.join(PROGRAM)).unwrap();
    render(node, "");
}

/// What k3s does at its start: the built-in configuration and what the template adds.
fn render(node: &Node, block: &str) {
    let config = node.dir().join("config.toml");
    let text = fs::read_to_string(&config).unwrap();
    let base = text.split("\n# >>> tandem").next().unwrap();
    let text = format!("{}\n{block}", base.trim_end());
    fs::write(node.dir().join(RENDERED).join("config.toml"), &text).unwrap();
    fs::write(config, text).unwrap();
}

async fn run(node: &Node, command: &str) -> (bool, String) {
    let root = node.dir();
    let mut program = tokio::process::Command::new(tandem_installer());
    program
        .args([command, "--distribution", "k3d", "--host-root"])
        .arg(root);
    program.arg("--shim").arg(tandem_shim());
    program.arg("--socket").arg(node.ctd.home().socket());
    program.arg("--install-dir").arg(root.join("host/opt/tandem"));
    program.arg("--state-dir").arg(root.join("host/var/tandem"));
    program.arg("--run-dir").arg(node.ctd.home().shim_run());
    let output = program.env_clear().output().await.unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

// containerd 2.x alone: its binary is static and so runs in a root that holds nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_only_the_operator_restarts_is_waited_for_and_then_verified() -> Result<()> {
    let mut node = Node::start(Generation::V2).await?;
    prepare(&node);
    let template = node.dir().join(RENDERED).join("config-v3.toml.tmpl");
    for _ in 0..5 {
        let (success, said) = run(&node, "install").await;
        assert!(success && said.contains("must be restarted by the operator"), "{said}");
        assert!(
            template.exists(),
            "waiting is no failure, however often it is looked at"
        );
    }
    assert_eq!(node.cri.handlers().await, ["runc"]);

    let text = fs::read_to_string(&template).unwrap();
    let (base, block) = text.split_once("\n# >>> tandem").unwrap();
    assert_eq!(base, "{{ template \"base\" . }}\n");
    render(&node, &format!("\n# >>> tandem{block}"));
    node.ctd.restart().await?;
    let (success, said) = run(&node, "install").await;
    assert!(success && said.contains("installed and verified"), "{said}");
    let (success, said) = run(&node, "install").await;
    assert!(success && said.contains("already"), "{said}");

    let (success, said) = run(&node, "uninstall").await;
    assert!(
        success && said.contains("forgets the handler when it is restarted"),
        "{said}"
    );
    assert!(!template.exists());
    render(&node, "");
    node.ctd.restart().await?;
    assert_eq!(node.cri.handlers().await, ["runc"]);
    node.ctd.stop().await
}
