//! `tandem-cluster-images`: builds the images that pods of a test cluster run, and pushes them into its registry.
//!
//! - [`installer`]: Tandem itself
//! - [`guests`]: every built guest, in the forms in which Wasm is published
//! - [`linux`]: what else a cluster needs
//! - [`suite`]: what the Kubernetes suite needs besides

mod guests;
mod installer;
mod linux;
mod suite;

use std::process::ExitCode;

use tandem_integration::{
    Error, Result,
    image::{Layout, Registry},
};

const HELP: &str = "\
Builds the images of a test cluster and pushes them into its registry.

tandem-cluster-images REGISTRY      host:port; else $TANDEM_REGISTRY

  tandem:VERSION                    the image of deploy/docker, of $TANDEM_SHIM and $TANDEM_INSTALLER
  tandem:next                       the same with another build of the shim, to upgrade to
  pause:1, busybox:1                what every cluster has
  GUEST:1                           each guest of $TANDEM_GUESTS as a file of an ordinary image
  GUEST:artifact, GUEST:runwasi     a Wasm guest as a CNCF artifact, and in runwasi's form
  compat:1, platform:1, spin:1      as users of crun, Docker and Spin have them
  truncated:1, native:1, absent:1, several:1
                                    bad ones";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let address = args.next().or_else(|| std::env::var("TANDEM_REGISTRY").ok());
    let address = match (address.as_deref(), args.next()) {
        (Some("--help" | "-h"), _) => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        (Some(address), None) => address,
        _ => {
            eprintln!("{HELP}");
            return ExitCode::from(2);
        }
    };
    match push(&Registry::at(address)).await {
        Ok(count) => {
            eprintln!("{count} images are in {address}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("tandem-cluster-images: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn push(registry: &Registry) -> Result<usize> {
    let mut count = 0;
    for image in images()? {
        registry.push(&image?).await?;
        count += 1;
    }
    Ok(count)
}

/// All images, each built when it is asked for: together they would fill hundreds of megabytes.
fn images() -> Result<impl Iterator<Item = Result<Layout>>> {
    Ok(installer::images()?
        .chain(linux::images())
        .chain(guests::images()?)
        .chain(suite::images()))
}

/// The reference under which an image is pushed. The registry of the name is the one that is pushed to.
fn name(image: &str, tag: &str) -> String {
    format!("cluster.test/{image}:{tag}")
}

fn read(file: &std::path::Path) -> Result<Vec<u8>> {
    std::fs::read(file).map_err(Error::system("cannot read", file))
}
