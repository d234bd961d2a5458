//! Spans on their way to a collector. It need not answer: what arrives is looked at as bytes.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use tempfile::tempdir;

use crate::common::ask::{create, destroy, grant};
use crate::common::daemon::Home;
use crate::common::until;

/// Somebody who listens to whatever is sent.
struct Collector {
    address: String,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Collector {
    fn listen() -> Collector {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let heard = Arc::<Mutex<Vec<u8>>>::default();
        let ears = Arc::clone(&heard);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let ears = Arc::clone(&ears);
                std::thread::spawn(move || hear(stream, &ears));
            }
        });
        Collector { address, heard }
    }

    fn has_heard(&self, text: &str) -> bool {
        self.heard.lock().unwrap().windows(text.len()).any(|window| window == text.as_bytes())
    }
}

fn hear(mut stream: TcpStream, ears: &Mutex<Vec<u8>>) {
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        ears.lock().unwrap().extend_from_slice(&buffer[..length]);
    }
}

#[test]
fn spans_of_requests_passes_and_calls_are_sent_without_a_secret() {
    let (dir, collector) = (tempdir().unwrap(), Collector::listen());
    let config = format!("observe: {{otlp_endpoint: '{}'}}", collector.address);
    let home = Home::new(dir.path(), &config).with_vectors_key().simulated("boot=10ms");
    // Batches are sent this often, as the standard variable says.
    let daemon = home.env("OTEL_BSP_SCHEDULE_DELAY", "50").env("OTEL_SERVICE_NAME", "ours");
    // It never answers: the next batch follows when this is over.
    let daemon = daemon.env("OTEL_EXPORTER_OTLP_TIMEOUT", "300").start();
    let granted = grant(&create(daemon.address));
    assert!(destroy(daemon.address, &granted).success);
    // HTTP/2, the service's name, the spans and their fields.
    for text in ["PRI * HTTP/2.0", "ours", "request", "client", "pass", "call", "create", "anweddol"] {
        until(text, || collector.has_heard(text).then_some(()));
    }
    daemon.stop();
    for secret in [&granted.password, &granted.token] {
        assert!(!collector.has_heard(&secret[..24]));
    }
}

#[test]
fn nothing_is_sent_where_nobody_said_where_to() {
    let (dir, collector) = (tempdir().unwrap(), Collector::listen());
    let home = Home::new(dir.path(), "").with_vectors_key().simulated("boot=10ms");
    let disabled = home.env("OTEL_EXPORTER_OTLP_ENDPOINT", &*collector.address).env("OTEL_SDK_DISABLED", "true");
    let daemon = disabled.start();
    create(daemon.address);
    daemon.stop();
    assert!(collector.heard.lock().unwrap().is_empty());
}
