//! When the shim is connected to containerd: while questions are asked, and a little longer.
//!
//! A pod's containers are created within seconds of each other, and then none for the rest of its life. A connection
//! that is kept for so long costs memory in containerd and in the shim, for each pod of the node.

use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::ImageError;
use crate::link::Link;

/// How long a connection stays that nobody uses: longer than a kubelet takes from one container of a pod to the next.
const IDLE: Duration = Duration::from_secs(5);

/// The connection to one containerd in one namespace of it: made when it is needed, closed when it is not any more.
#[derive(Debug)]
pub struct Connection {
    address: PathBuf,
    namespace: String,
    idle: Duration,
    open: Arc<Mutex<Option<Open>>>,
}

#[derive(Debug)]
struct Open {
    link: Arc<Link>,
    last_used: Instant,
}

impl Connection {
    /// Nothing is connected yet.
    pub fn new(address: PathBuf, namespace: String) -> Self {
        Self {
            address,
            namespace,
            idle: IDLE,
            open: Arc::default(),
        }
    }

    /// The socket's path, for messages.
    pub fn address(&self) -> String {
        self.address.display().to_string()
    }

    /// The connection, which stays open at least for as long as the caller has it.
    pub async fn link(&self) -> Result<Arc<Link>, ImageError> {
        let mut open = self.open.lock().await;
        if let Some(open) = open.as_mut() {
            open.last_used = Instant::now();
            return Ok(Arc::clone(&open.link));
        }
        let link = Arc::new(Link::connect(&self.address, &self.namespace).await?);
        *open = Some(Open {
            link: Arc::clone(&link),
            last_used: Instant::now(),
        });
        tokio::spawn(close_when_idle(Arc::downgrade(&self.open), self.idle));
        Ok(link)
    }
}

/// Lives for as long as the connection.
async fn close_when_idle(connection: Weak<Mutex<Option<Open>>>, idle: Duration) {
    let mut next = Instant::now() + idle;
    loop {
        tokio::time::sleep_until(next).await;
        let Some(connection) = connection.upgrade() else { return };
        let mut open = connection.lock().await;
        match open.as_ref() {
            Some(Open { link, last_used }) => {
                let is_used = Arc::strong_count(link) > 1;
                let end = *last_used + idle;
                if !is_used && end <= Instant::now() {
                    *open = None;
                    return;
                }
                next = if is_used { Instant::now() + idle } else { end };
            }
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;
    use tokio::net::{UnixListener, UnixStream};

    const SOON: Duration = Duration::from_secs(10);

    fn connection(idle: Duration) -> (tempfile::TempDir, UnixListener, Connection) {
        let dir = tempfile::tempdir().unwrap();
        let address = dir.path().join("containerd.sock");
        let listener = UnixListener::bind(&address).unwrap();
        let connection = Connection {
            idle,
            ..Connection::new(address, "ns".into())
        };
        (dir, listener, connection)
    }

    /// Waits for the other side to close.
    async fn closed(mut stream: UnixStream) {
        let mut bytes = Vec::new();
        let end = tokio::time::timeout(SOON, stream.read_to_end(&mut bytes)).await;
        end.expect("the connection stays open").unwrap();
    }

    #[tokio::test]
    async fn a_connection_is_closed_when_nobody_uses_it_and_made_anew_when_somebody_does() {
        let (_dir, listener, connection) = connection(Duration::from_millis(50));
        for _ in 0..2 {
            drop(connection.link().await.unwrap());
            let (stream, _) = listener.accept().await.unwrap();
            closed(stream).await;
        }
    }

    #[tokio::test]
    async fn questions_soon_after_each_other_share_a_connection_and_one_in_use_stays() {
        let (_dir, listener, connection) = connection(Duration::from_millis(50));
        let first = connection.link().await.unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let second = connection.link().await.unwrap();
        assert!(Arc::ptr_eq(&first, &second));
        // The client's greeting, and no end.
        let mut bytes = [0; 1024];
        assert!(stream.read(&mut bytes).await.unwrap() > 0);
        drop((first, second));
        closed(stream).await;
    }

    #[tokio::test]
    async fn a_connection_ends_with_its_resolver() {
        let (_dir, listener, connection) = connection(SOON * 2);
        drop(connection.link().await.unwrap());
        let (stream, _) = listener.accept().await.unwrap();
        drop(connection);
        closed(stream).await;
    }
}
