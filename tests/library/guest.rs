//! The same on a real guest.

use std::path::Path;
use std::time::Duration;

use anweddol::config::Mode;
use anweddol::facade::Virtualization;
use anweddol::facade::events::Payload;
use anweddol::guest::Exit;
use anweddol::guest::image::{BuildOptions, build};
use anweddol::model::Image;

use crate::support::Bench;

#[test]
#[ignore = "needs qemu: run through tests/lab/run.sh"]
fn a_real_guest_tells_every_event_in_order_and_runs_a_handlers_command() {
    let scratch = tempfile::tempdir().unwrap();
    // Out of a cache that outlives the test: only the first run fetches packages.
    let cache_dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("image-cache");
    let built = build(&BuildOptions { out_dir: scratch.path().into(), cache_dir }, &mut |_| {}).unwrap();
    let image = Image::Kernel { path: built.kernel.path, initrd: built.initrd.path, cmdline: String::new() };
    let mode = if std::env::var("ANWEDDOL_LAB").as_deref() == Ok("system") { Mode::System } else { Mode::Embedded };
    // A short path: QEMU's sockets are below it.
    let state = tempfile::Builder::new().prefix("anw").tempdir_in("/run").unwrap();
    let bench = Bench::new(|builder| {
        builder.virtualization(Virtualization::Libvirt(mode)).container_image(image).state_dir(state.path().join("s"))
    });
    crate::events::log_all(&bench);
    let log = bench.log.clone();
    bench
        .server
        .set_event_handler(5, move |payload| {
            let log = log.clone();
            async move {
                let Payload::CreatedEndpointShell(event) = payload else { panic!("{}", payload.event().name()) };
                let shell = event.endpoint_shell_instance;
                let done = shell.execute("id -un; exit 3", Duration::from_secs(30)).await.unwrap();
                assert!(event.container_instance.is_running());
                assert_eq!((done.stdout.as_slice(), done.exit), (&b"endpoint\n"[..], Exit::Status(3)));
                log.add("CREATED_ENDPOINT_SHELL");
            }
        })
        .unwrap();
    bench.server.start_background().unwrap();
    bench.log.until("STARTED", 1);
    let granted = bench.create();
    bench.log.until("CLIENT_CLOSED", 1);
    bench.destroy(&granted);
    bench.log.until("CLIENT_CLOSED", 2);
    bench.server.stop().unwrap();
    assert_eq!(bench.log.lines(), crate::events::CONVERSATION);
}
